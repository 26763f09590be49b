"""What there is to try: each runtime, or for text each generation core, with the precisions that it names."""

from __future__ import annotations

from deepseek.inference import RUNTIMES
from deepseek.inference.choice.outcome import Trial
from deepseek.inference.conversion.copies import COPIES
from deepseek.inference.generation import CORES
from deepseek.models.checkpoint import Checkpoint


def candidates(checkpoint: Checkpoint, head: str, device: str, dtype: str) -> list[Trial]:
    """All that there are with the precisions that they name, PyTorch first; those that cannot have their verdict."""
    writes = head == "causal-lm"
    found: list[Trial] = []
    for name in sorted((CORES if writes else RUNTIMES).names(), key=lambda each: each != "torch"):
        here = (CORES if writes else RUNTIMES).get(name).available()
        if not here.works:
            found.append(Trial(runtime=name, device=device, dtype="auto", verdict=here.detail))
            continue
        if writes:
            precisions = CORES.get(name).precisions(checkpoint, device)
        else:
            precisions = RUNTIMES.get(name).precisions(checkpoint, head, device)
        if dtype != "auto" and precisions:
            precisions = (dtype,) if dtype in precisions or precisions == ("auto",) else ()
        if not precisions:
            what = f"does not run {head} models" + ("" if dtype == "auto" else f" in {dtype}")
            found.append(Trial(runtime=name, device=device, dtype="auto", verdict=f"{what} on {device}"))
        found += [Trial(runtime=name, device=device, dtype=each, validated=each in COPIES) for each in precisions]
    return found
