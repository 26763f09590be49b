"""Steps of few tokens in C: what they answer, and what happens where they do not run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from test_torch_core import GREEDY, Make, made, prompts_of, run

from deepseek.errors import ConfigError
from deepseek.inference.generation import CoreSettings
from deepseek.inference.generation.native.decoder import MOST, SOURCE
from deepseek.inference.generation.native.packing import FILE, GROUP, ROWS, eight_bits, four_bits
from deepseek.inference.generation.openvino import conversion
from deepseek.inference.generation.openvino import model as openvino_model
from deepseek.inference.generation.openvino.core import OpenVinoCore
from deepseek.inference.generation.openvino.model import OpenVinoModel
from deepseek.inference.generation.openvino.packing import in_4_bits
from deepseek.inference.generation.openvino.request import PagedRequest
from deepseek.inference.generation.paged.model import Piece, parts
from deepseek.inference.openvino.library import native_precision
from deepseek.models import resolve
from deepseek.native import library as native

__all__ = ["made"]  # the fixture of tiny models
pytestmark = pytest.mark.usefixtures("one_thread")
here = pytest.mark.skipif(
    bool(SOURCE.missing()) or native_precision("CPU") != "bf16", reason=SOURCE.missing() or "no bfloat16 here"
)
FITTING: dict[str, Any] = {
    "vocab_size": 208, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16,
}  # fmt: skip


@pytest.fixture
def no_library() -> Iterator[None]:
    """What was found out of the machine is forgotten before and after."""
    found = (native.compiler, native._compiled)
    for each in found:
        each.cache_clear()
    yield
    for each in found:
        each.cache_clear()


def opened(folder: Path, packing: str) -> OpenVinoModel:
    model = OpenVinoModel(
        conversion.decoder(resolve(folder), packing), "tiny", precision="bf16", cache_precision="bf16"
    )
    model.allocate(16)
    model.settle()
    return model


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@here
@pytest.mark.parametrize("packing", ["int8", "int4"])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "tie_word_embeddings": True}),
        ("llama", {"head_dim": 64}),
        ("llama", {"num_attention_heads": 8, "num_key_value_heads": 8}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 32}),
        ("mistral", {}),
    ],
    ids=["llama", "bias-tied", "wide-heads", "all-heads", "linear", "qwen2", "qwen3", "mistral"],
)
def test_steps_answer_as_openvino_does(made: Make, kind: str, changes: dict[str, Any], packing: str) -> None:
    """Three sequences, one of which crosses a block's end: their next tokens, then several of one at once."""
    folder = made(kind, **{**FITTING, **changes})
    ours, theirs = opened(folder, packing), opened(folder, packing)
    assert ours._few is not None
    theirs._few = None
    prompts = [list(prompt) for prompt in prompts_of(31, 5, 70)]
    blocks = [[7, 2], [0], [5, 3, 9]]

    def read(model: OpenVinoModel) -> None:
        model.forward([Piece(p, 0, b, rows=1) for p, b in zip(prompts, blocks, strict=True)])

    for model in (ours, theirs):
        read(model)
    steps: list[list[Sequence[int]]] = [[[11], [12], [13]], [[21], [22], [23]], [[31, 32, 33], [34], [35, 36]]]
    starts = [len(prompt) for prompt in prompts]
    for step in steps:
        assert sum(map(len, step)) <= MOST
        pieces = [Piece(ids, s, b, rows=len(ids)) for ids, s, b in zip(step, starts, blocks, strict=True)]
        found, expected = ours.forward(pieces), theirs.forward(pieces).clone()
        assert found.shape == expected.shape == (sum(map(len, step)), 208)
        assert off(found, expected) < 0.05
        starts = [s + len(ids) for s, ids in zip(starts, step, strict=True)]
    # what they left in the cache is what OpenVINO goes on with
    more = [Piece(list(range(40, 50)), starts[0], blocks[0], rows=2)]
    assert off(ours.forward(more).clone(), theirs.forward(more)) < 0.05


@here
def test_prompts_are_read_while_openvino_compiles(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(**FITTING)
    go_on = threading.Event()

    def late(*arguments: Any, **options: Any) -> PagedRequest:
        assert go_on.wait(60)
        return PagedRequest(*arguments, **options)

    monkeypatch.setattr(openvino_model, "PagedRequest", late)
    model = OpenVinoModel(conversion.decoder(resolve(folder), "int8"), "tiny", precision="bf16", cache_precision="bf16")
    model.allocate(16)
    prompts = [
        Piece(list(p), 0, b, rows=2) for p, b in zip(prompts_of(50, 3, 70), [[7, 2], [0], [5, 3, 9]], strict=True)
    ]
    early = model.forward(prompts)
    assert early.shape == (6, 208)
    go_on.set()
    model.settle()
    more = [Piece(list(range(40, 80)), 50, [7, 2, 8], rows=3)]  # goes on with what the other left in the cache
    found = model.forward(more).clone()
    whole = opened(folder, "int8")
    assert off(early, whole.forward(prompts)) < 0.05
    assert off(found, whole.forward(more)) < 0.05
    model.release()
    assert model.forward([Piece(list(range(40, 80)), 0, [0, 0], rows=1)]).shape == (1, 208)


@here
def test_what_openvino_cannot_compile_is_told_when_it_is_needed(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = conversion.decoder(resolve(made(**FITTING)), "int8")

    def fails(*_: Any, **__: Any) -> PagedRequest:
        raise ConfigError("this OpenVINO keeps 16 tokens in a block of its cache")

    monkeypatch.setattr(openvino_model, "PagedRequest", fails)
    model = OpenVinoModel(folder, "tiny", precision="bf16", cache_precision="bf16")
    with pytest.raises(ConfigError, match="16 tokens in a block"):
        model.settle()
    with pytest.raises(ConfigError, match="16 tokens in a block"):
        OpenVinoModel(folder, "tiny", precision="f32", cache_precision="f32")


@given(
    st.lists(st.tuples(st.integers(1, 90), st.integers(0, 90), st.integers(0, 500)), min_size=1, max_size=6),
    st.integers(1, 40),
)
def test_parts_have_every_token_once_and_rows_in_order(given_pieces: list[tuple[int, int, int]], most: int) -> None:
    pieces = [
        Piece([1000 * n + k for k in range(count)], start, [n], rows=min(rows, count), adapter=n)
        for n, (count, rows, start) in enumerate(given_pieces)
    ]
    passes = list(parts(pieces, most))
    assert all(0 < sum(len(piece.ids) for piece in each) <= most for each in passes)
    cut = [piece for each in passes for piece in each]

    def rows(of: Sequence[Piece]) -> list[tuple[int, int]]:
        """Token and place of each wanted row."""
        return [
            (piece.ids[at], piece.start + at)
            for piece in of
            for at in range(len(piece.ids) - piece.rows, len(piece.ids))
        ]

    assert rows(cut) == rows(pieces)
    for whole in pieces:
        own = [piece for piece in cut if piece.blocks == whole.blocks]
        assert [token for piece in own for token in piece.ids] == whole.ids
        assert [piece.start for piece in own] == [
            whole.start + sum(map(len, [p.ids for p in own[:n]])) for n in range(len(own))
        ]
        assert {piece.adapter for piece in own} == {whole.adapter}


@here
def test_one_row_is_wanted_of_several_tokens(made: Make) -> None:
    model = opened(made(**FITTING), "int8")
    every = model.forward([Piece([5, 6, 7, 8], 0, [1], rows=4), Piece([9, 10], 0, [2], rows=2)])
    some = model.forward([Piece([5, 6, 7, 8], 0, [1], rows=1), Piece([9, 10], 0, [2], rows=0)])
    assert some.shape == (1, 208)
    torch.testing.assert_close(some[0], every[3])


@here
def test_as_many_tokens_as_fit_are_near_to_float32(made: Make) -> None:
    folder = made(**FITTING)
    ids = list(next(iter(prompts_of(MOST))))
    found = opened(folder, "int8").forward([Piece(ids, 0, [1], rows=MOST)])
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0]
    assert off(found, expected) < 0.03
    assert float(torch.nn.functional.cosine_similarity(found, expected).min()) > 0.999


@here
@pytest.mark.parametrize("up_to", [MOST, 128])
def test_steps_of_several_passes_answer_as_openvino_does(made: Make, up_to: int) -> None:
    folder = made(**FITTING)
    ours, theirs = opened(folder, "int8"), opened(folder, "int8")
    ours._up_to, theirs._few = up_to, None
    pieces = [Piece(list(p), 0, [b, b + 1], rows=2) for p, b in zip(prompts_of(40, 25, 50), (0, 2, 4), strict=True)]
    found, expected = ours.forward(pieces).clone(), theirs.forward(pieces)
    assert found.shape == expected.shape
    assert off(found, expected) < (0.05 if up_to > MOST else 1e-5)


@here
def test_a_text_is_scored_alike_as_a_prompt_and_as_an_answer(made: Make) -> None:
    core = OpenVinoCore.load(resolve(made(**FITTING)), dtype="int8", settings=CoreSettings(cache_tokens=512))
    ids = next(iter(prompts_of(150)))
    [whole], [steps] = core.logits([ids]), core.logits([ids], step_tokens=8)
    assert not torch.equal(whole, steps)  # the steps were computed otherwise
    assert off(steps, whole) < 0.05


@here
def test_threads_change_nothing(made: Make) -> None:
    folder = made(**FITTING)
    pieces = [Piece([5, 6, 7], 0, [1], rows=3), Piece([9, 10], 0, [2], rows=2)]
    found = []
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        found.append(opened(folder, "int8").forward(pieces))
    torch.set_num_threads(1)
    for other in found[1:]:
        assert torch.equal(found[0], other)


@pytest.mark.parametrize("lacking", ["compiler", "processor"])
def test_openvino_answers_where_the_source_cannot_run(
    made: Make, lacking: str, monkeypatch: pytest.MonkeyPatch, no_library: None
) -> None:
    if lacking == "compiler":
        monkeypatch.setattr(native, "compiler", lambda: None)
    else:
        monkeypatch.setattr(native, "processor_flags", lambda: frozenset({"avx2"}))
    folder = made(**FITTING)
    assert f"in OpenVINO: {SOURCE.missing()}" in OpenVinoCore.available().detail
    core = OpenVinoCore.load(resolve(folder), dtype="int8", settings=CoreSettings(cache_tokens=512))
    assert [len(answer) for answer in run(core, prompts_of(3, 20), GREEDY)] == [20, 20]


@here
def test_a_failing_compiler_is_told_of_and_openvino_answers(
    made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, no_library: None
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n", encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with caplog.at_level(logging.WARNING):
        model = opened(made(**FITTING), "int8")
    assert model._few is None
    assert "no such option" in caplog.text
    assert model.forward([Piece([5, 6], 0, [1], rows=1)]).shape == (1, 208)


@pytest.mark.parametrize("changes", [{"vocab_size": 200}, {"hidden_act": "gelu"}, {"head_dim": 8}])
def test_decoders_of_other_forms_have_no_file(made: Make, changes: dict[str, Any]) -> None:
    folder = made(**{**FITTING, **changes})
    assert not (conversion.decoder(resolve(folder), "int8") / FILE).exists()


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_packed_rows_are_found_where_the_source_looks(blocks: int, groups: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    weight = drawn.normal(size=(ROWS * blocks, GROUP * groups)).astype(np.float32)
    eight = drawn.integers(-127, 128, weight.shape).astype(np.int8)
    packed8 = eight_bits(eight)
    whole, scale, zero = in_4_bits(weight)
    packed4 = four_bits(whole, scale, zero)
    assert packed8.shape == (blocks, groups, 512)
    assert packed4.shape == (blocks, groups, 320)
    for _ in range(20):
        row, column = int(drawn.integers(weight.shape[0])), int(drawn.integers(weight.shape[1]))
        b, r, g, k = row // ROWS, row % ROWS, column // GROUP, column % GROUP
        assert int(packed8[b, g, k // 4 * 64 + r * 4 + k % 4]) - 128 == eight[row, column]
        both = int(packed4[b, g, k % 16 // 4 * 64 + r * 4 + k % 4])
        assert (both & 15 if k < 16 else both >> 4) == whole[row, g, k]
        ends = packed4[b, g, 256:].copy().view(np.float16).reshape(2, ROWS)[:, r]
        assert ends[0] == np.float16(scale[row, g, 0])
        assert ends[1] == np.float16(-zero[row, g, 0] * scale[row, g, 0])
