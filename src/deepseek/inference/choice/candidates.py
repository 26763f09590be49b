"""What there is to try: each runtime that is installed, with the precisions that it names."""

from __future__ import annotations

from deepseek.inference import RUNTIMES
from deepseek.inference.choice.outcome import Trial
from deepseek.models.checkpoint import Checkpoint


def candidates(checkpoint: Checkpoint, head: str, device: str, dtype: str) -> list[Trial]:
    """All runtimes with the precisions that they name, PyTorch first; those that cannot have their verdict."""
    names = sorted(RUNTIMES.names(), key=lambda name: name != "torch")
    found: list[Trial] = []
    for name in names:
        runtime = RUNTIMES.get(name)
        here = runtime.available()
        if not here.works:
            found.append(Trial(runtime=name, device=device, dtype="auto", verdict=here.detail))
            continue
        precisions = runtime.precisions(checkpoint, head, device)
        if dtype != "auto" and precisions:
            precisions = (dtype,) if dtype in precisions or precisions == ("auto",) else ()
        if not precisions:
            what = f"does not run {head} models" + ("" if dtype == "auto" else f" in {dtype}")
            found.append(Trial(runtime=name, device=device, dtype="auto", verdict=f"{what} on {device}"))
        found += [Trial(runtime=name, device=device, dtype=each, validated=each == "int8") for each in precisions]
    return found
