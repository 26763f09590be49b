"""How near generation comes to what this machine can do: prefill against arithmetic, decoding against memory."""

from __future__ import annotations

import statistics

from benchmarks.harness import Figure, Worker
from benchmarks.inference_parts.generation_inputs import Inputs

OUR_STEPS = "benchmarks.inference_parts.our_generation_steps"


def run(given: Inputs, took: str) -> dict[str, Figure]:
    """The figures ``utilisation_prefill`` and ``utilisation_decode``: shares of the measured limits."""
    with Worker(OUR_STEPS) as worker:
        found = worker.run("phases", limit_s=1800.0, model=str(given.model))["value"]
    prefill, decode = (statistics.median(found[name]) for name in ("prefill", "decode"))
    reached = found["prefill_flops"] / prefill
    moved = found["decode_bytes"] / decode
    return {
        "utilisation_prefill": Figure(
            value=reached / found["peak_flops"],
            unit="share of the machine's measured limit",
            baseline=0.9,
            baseline_name="the goal",
            note=f"bigger is better. 512 tokens, {found['prefill_flops'] / 1e9:.0f} GFLOP in {1e3 * prefill:.0f} ms, "
            f"{reached / 1e12:.2f} of {found['peak_flops'] / 1e12:.2f} TFLOP/s in {found['precision']}; auto took "
            f"{took}. Products of 576 columns are small, attention and norms are no products, the peak is that of "
            "the best shape.",
        ),
        "utilisation_decode": Figure(
            value=moved / found["bandwidth"],
            unit="share of the machine's measured limit",
            baseline=0.9,
            baseline_name="the goal; no peer exceeds 0.4",
            note=f"bigger is better. One stream after 128 tokens: {found['decode_bytes'] / 1e6:.0f} MB of weights "
            f"and cache in {1e3 * decode:.1f} ms a token, {moved / 1e9:.1f} of {found['bandwidth'] / 1e9:.1f} GB/s; "
            f"auto took {took}.",
        ),
    }
