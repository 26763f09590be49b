"""FLOPs and bytes against closed formulas, and the limit that follows from them against arithmetic by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from deepseek.errors import ConfigError
from deepseek.inference.hardware import HardwarePeaks
from deepseek.inference.profiling import (
    Phase,
    Sizes,
    Work,
    decode_work,
    forward_work,
    limit_of,
    prefill_work,
    reference,
)
from deepseek.inference.profiling.roofline import reason
from deepseek.inference.profiling.work import weight_bytes
from deepseek.models import Checkpoint

WIDTH, FFN, HEADS, KV_HEADS, HEAD, LAYERS, WORDS = 32, 96, 4, 2, 8, 2, 30522
ONE = Sizes(1, 1, 1)


def llama(folder: Path) -> Any:
    return reference(Checkpoint(folder, "generator"), "causal-lm")


def llama_flops(rows: int, new: int, seen: int) -> int:
    """Of ``new`` tokens a row that attend to ``seen``, the last one of each row through the head."""
    products = WIDTH * WIDTH + 2 * WIDTH * KV_HEADS * HEAD + WIDTH * WIDTH + 3 * WIDTH * FFN
    attention = 2 * (2 * HEADS * new * seen * HEAD)
    return rows * (LAYERS * (2 * new * products + attention) + 2 * WIDTH * WORDS)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 16), (3, 50)])
def test_a_prefill_is_the_closed_formula_of_llama(generator: Path, rows: int, tokens: int) -> None:
    work = prefill_work(llama(generator), rows, tokens, ONE)
    assert work.flops == llama_flops(rows, tokens, tokens)
    assert work.cache_read_bytes == 0
    assert work.cache_written_bytes == LAYERS * 2 * rows * tokens * KV_HEADS * HEAD


@pytest.mark.parametrize(("rows", "context"), [(1, 7), (4, 33)])
def test_a_decoding_step_is_the_closed_formula_of_llama(generator: Path, rows: int, context: int) -> None:
    work = decode_work(llama(generator), rows, context, Sizes(1, 1, 2))
    assert work.flops == llama_flops(rows, 1, context + 1)
    token = LAYERS * 2 * KV_HEADS * HEAD * 2
    assert work.cache_read_bytes == rows * context * token
    assert work.cache_written_bytes == rows * token


@pytest.mark.parametrize(("rows", "tokens"), [(1, 5), (4, 64)])
def test_a_forward_pass_is_the_closed_formula_of_bert(encoder: Path, rows: int, tokens: int) -> None:
    ids = torch.zeros(rows, tokens, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": ids}
    work = forward_work(reference(Checkpoint(encoder, "encoder"), "none"), batch, ONE)
    layer = 2 * rows * tokens * (4 * WIDTH**2 + 2 * WIDTH * 64)
    attention = 4 * rows * tokens**2 * WIDTH
    pooler = 2 * rows * WIDTH**2
    assert work.flops == 2 * (layer + attention) + pooler


def test_shapes_alone_count_what_numbers_count(minilm: Path) -> None:
    ids = torch.randint(1000, 20000, (2, 24))
    work = forward_work(reference(Checkpoint(minilm, "minilm"), "none"), {"input_ids": ids}, ONE)
    model = transformers.AutoModel.from_pretrained(minilm, attn_implementation="eager").eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids)
    assert work.flops == counter.get_total_flops() > 0


def test_weights_are_read_once_and_tables_where_they_are_looked_up(generator: Path) -> None:
    tied = llama(generator)
    matrices = LAYERS * (2 * WIDTH**2 + 2 * WIDTH * KV_HEADS * HEAD + 3 * WIDTH * FFN)
    norms = (2 * LAYERS + 1) * WIDTH
    assert weight_bytes(tied, 5, ONE) == matrices + norms + WORDS * WIDTH  # the head needs all of the table
    tied.config.tie_word_embeddings = False
    tied.lm_head.weight = torch.nn.Parameter(torch.empty(WORDS, WIDTH, device="meta"))
    assert weight_bytes(tied, 5, ONE) == matrices + norms + WORDS * WIDTH + 5 * WIDTH
    assert weight_bytes(tied, WORDS * 2, ONE) == matrices + norms + 2 * WORDS * WIDTH
    assert weight_bytes(tied, 5, Sizes(1, 4, 2)) == matrices + WORDS * WIDTH + 4 * (norms + 5 * WIDTH)


def test_sizes_are_those_of_the_precision() -> None:
    assert Sizes.of("float32") == Sizes(4, 4, 4)
    assert Sizes.of("bfloat16") == Sizes(2, 2, 2)


def test_what_needs_numbers_cannot_be_counted(generator: Path) -> None:
    model = llama(generator)
    model.model.norm.register_forward_hook(lambda module, given, made: made * made.sum().item())
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM cannot be counted from shapes alone: .*meta"):
        prefill_work(model, 1, 4, ONE)


def test_the_limit_is_the_slower_of_arithmetic_and_memory(round_peaks: HardwarePeaks) -> None:
    heavy = Work(flops=2 * 10**12, weight_bytes=10**9)
    limit = limit_of(heavy, round_peaks, "float32")
    assert limit is not None
    assert (limit.kind, limit.seconds, limit.ridge) == ("compute", 2.0, 100.0)
    light = Work(10**9, 10**9, cache_read_bytes=10**9 - 10, cache_written_bytes=10)
    limit = limit_of(light, round_peaks, "float32")
    assert limit is not None
    assert (limit.kind, limit.seconds) == ("memory", 0.2)
    assert limit_of(heavy, round_peaks, "float64") is None

    phase = Phase("decode", 8, 100, (1.0, 0.4, 0.5), 8, work=light).under(round_peaks, "float32")
    assert phase.seconds == 0.5
    assert phase.tokens_per_second == 16
    assert phase.flops_per_second == 2 * 10**9
    assert phase.share == pytest.approx(0.4)
    assert phase.name == "decode 8 at 100"
    assert "below the 100" in phase.reason
    assert "2,000 MB at 10 GB/s, 200 ms at least (50% of them key-value cache)" in phase.reason
    without = replace(phase, limit=None).under(round_peaks, "int8")
    assert without.share is None
    assert "no units" in without.reason


def test_reasons_say_what_fits_a_cache_and_what_is_no_product(round_peaks: HardwarePeaks) -> None:
    small = Work(flops=10**5, weight_bytes=900_000)
    limit = limit_of(small, round_peaks, "float32")
    assert limit is not None
    said = reason(small, limit, 0.25, 0.4)
    assert "fit the last cache (1 MB)" in said
    assert "40% of the profiled time is in matrix products" in said
    assert "matrix products" not in reason(small, limit, 1.2, 0.4)  # nothing keeps it from the limit
    heavy = Work(flops=10**12, weight_bytes=900_000)
    limit = limit_of(heavy, round_peaks, "bfloat16")
    assert limit is not None
    assert "1,000 GFLOP at 4 TFLOP/s (bfloat16), 250 ms at least" in reason(heavy, limit, 0.5, None)
