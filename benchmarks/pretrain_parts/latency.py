"""Time of one text through a BERT and a DeepSeek-Base, by its length: at equal size, and at equal accuracy.

*Equal size* is BERT-base's, with random weights: time does not depend on them. *Equal accuracy* is what the part
``score`` measures: there a DeepSeek-Base with half of a BERT's layers is at least as accurate (its figure
``mean_score_gain_shallow`` says by how much), and these two are timed. Either BERT is given as many positions as the
text is long, with which nobody has trained it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.harness import Figure, Worker, alternate, say
from benchmarks.pretrain_parts import score
from benchmarks.pretrain_parts.models import SHALLOW
from benchmarks.trainings import Context

STEPS = "benchmarks.pretrain_parts.latency_steps"
LENGTHS = (128, 512, 2_048, 8_192)
DTYPES = ("bfloat16", "float32")
SIZE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 30_522}
QUICK = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "vocab_size": 100}
PROMISED = 0.47
MORE = 16
"""Times as many passes of a model as small as the part ``score`` trains."""


def run(context: Context) -> dict[str, Figure]:
    """Measure both in turn at each length."""
    size = QUICK if context.quick else SIZE
    trained = QUICK if context.quick else {**score.SETTINGS["size"], "vocab_size": score.SETTINGS["vocabulary"]}
    figures: dict[str, Figure] = {}
    for dtype in DTYPES:
        for tokens, own, theirs in _times(context, "deepseek-base", size, dtype, 1):
            figures |= _equal_size(dtype, tokens, own, theirs)
        for tokens, own, theirs in _times(context, SHALLOW, trained, dtype, 1 if context.quick else MORE):
            figures |= _equal_accuracy(dtype, tokens, own, theirs)
    return figures


def _times(
    context: Context, kind: str, size: Mapping[str, Any], dtype: str, more: int
) -> list[tuple[int, float, float]]:
    """(tokens, our milliseconds, BERT's)."""
    found = []
    with Worker(STEPS) as bert, Worker(STEPS) as ours:
        for tokens in LENGTHS:
            options = {"dtype": dtype, "tokens": tokens, "size": dict(size), "longest": max(LENGTHS)}
            repeats = more * max(1, 2_048 // tokens)

            def read(worker: Worker, kind: str, options: Any = options, repeats: int = repeats) -> Any:
                return worker.run("read", kind=kind, repeats=repeats, **options)

            measured = alternate(
                {"bert": lambda read=read: read(bert, "bert"), "ours": lambda read=read: read(ours, kind)},
                context.rounds * (3 if tokens <= 512 else 1),
            )
            theirs, own = (1e3 * measured[name].median / repeats for name in ("bert", "ours"))
            say(f"{dtype}, {tokens:,} tokens: BERT {theirs:.2f} ms, {kind} {own:.2f} ms")
            found.append((tokens, own, theirs))
    return found


def _suffix(dtype: str) -> str:
    return "" if dtype == "bfloat16" else "_fp32"


def _equal_size(dtype: str, tokens: int, ours: float, bert: float) -> dict[str, Figure]:
    kind = "bf16" if dtype == "bfloat16" else "fp32"
    note = f"{dtype}, one text of {tokens:,} tokens, both of 12 layers of 768, random weights"
    return {
        f"latency_ms_{kind}_{tokens}": Figure(
            value=ours, unit="ms", baseline=bert, baseline_name="BERT, SDPA", note=f"smaller is better. {note}"
        ),
        f"latency_ratio_{tokens}{_suffix(dtype)}": Figure(
            value=ours / bert,
            unit="ratio",
            baseline=1.0,
            baseline_name="promised: at most" if tokens == LENGTHS[0] else "BERT",
            note=f"smaller is better. {note}",
        ),
    }


def _equal_accuracy(dtype: str, tokens: int, ours: float, bert: float) -> dict[str, Figure]:
    return {
        f"latency_reduction_{tokens}{_suffix(dtype)}": Figure(
            value=1 - ours / bert,
            unit="share",
            baseline=PROMISED,
            baseline_name="promised: at least",
            note=f"{dtype}, one text of {tokens:,} tokens, the part score's BERT ({bert:.2f} ms) and a DeepSeek-Base "
            f"with half of its layers ({ours:.2f} ms): their accuracy is in mean_score_gain_shallow; at equal size "
            f"see latency_ratio_{tokens}",
        )
    }
