"""Time of one text through a BERT and a DeepSeek-Base of BERT-base's size, by its length.

Weights are random: time does not depend on them. What accuracy the two have at equal size is the part ``score``'s to
say; a BERT of this size is given as many positions as the text is long, with which nobody has trained it.
"""

from __future__ import annotations

from benchmarks.harness import Figure, Worker, alternate, say
from benchmarks.trainings import Context

STEPS = "benchmarks.pretrain_parts.latency_steps"
LENGTHS = (128, 512, 2_048, 8_192)
DTYPES = ("bfloat16", "float32")
SIZE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 30_522}
QUICK = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "vocab_size": 100}
PROMISED = 0.47


def run(context: Context) -> dict[str, Figure]:
    """Measure both in turn at each length."""
    size = QUICK if context.quick else SIZE
    figures: dict[str, Figure] = {}
    for dtype in DTYPES:
        with Worker(STEPS) as bert, Worker(STEPS) as ours:
            for tokens in LENGTHS:
                options = {"dtype": dtype, "tokens": tokens, "size": size, "longest": max(LENGTHS)}
                repeats = max(1, 2_048 // tokens)
                measured = alternate(
                    {
                        "bert": lambda options=options, repeats=repeats: bert.run(
                            "read", kind="bert", repeats=repeats, **options
                        ),
                        "ours": lambda options=options, repeats=repeats: ours.run(
                            "read", kind="deepseek-base", repeats=repeats, **options
                        ),
                    },
                    context.rounds * (3 if tokens <= 512 else 1),
                )
                theirs, own = (1e3 * measured[name].median / repeats for name in ("bert", "ours"))
                say(f"{dtype}, {tokens:,} tokens: BERT {theirs:.1f} ms, DeepSeek-Base {own:.1f} ms")
                figures |= _figures(dtype, tokens, own, theirs)
    return figures


def _figures(dtype: str, tokens: int, ours: float, bert: float) -> dict[str, Figure]:
    kind = "bf16" if dtype == "bfloat16" else "fp32"
    note = f"{dtype}, one text of {tokens:,} tokens, 12 layers of 768, random weights"
    found = {
        f"latency_ms_{kind}_{tokens}": Figure(
            value=ours, unit="ms", baseline=bert, baseline_name="BERT, SDPA", note=f"smaller is better. {note}"
        )
    }
    suffix = "" if kind == "bf16" else "_fp32"
    if tokens <= 512:
        found[f"latency_ratio_{tokens}{suffix}"] = Figure(
            value=ours / bert, unit="ratio", baseline=1.0, baseline_name="promised: at most", note=note
        )
    else:
        found[f"latency_reduction_{tokens}{suffix}"] = Figure(
            value=1 - ours / bert, unit="share", baseline=PROMISED, baseline_name="promised: at least", note=note
        )
    return found
