"""The quantised copies that bundles have of their model, by runtime and precision."""

from __future__ import annotations

from pathlib import Path

from deepseek.bundles import Bundle
from deepseek.errors import ConfigError
from deepseek.models.checkpoint import Checkpoint

INT8, INT4 = "int8", "int4"
COPIES = (INT8, INT4)
"""Precisions of copies."""


def copy_of(checkpoint: Checkpoint, runtime: str, dtype: str = INT8) -> Path | None:
    """The folder of a bundle's copy for a runtime, if the checkpoint is a bundle and has one."""
    if not Bundle.is_bundle(checkpoint.path):
        return None
    bundle = Bundle.open(checkpoint.path)
    record = bundle.manifest.compiled.get(f"{runtime}-{dtype}")
    return bundle.path / record.folder if record else None


def needed_copy(checkpoint: Checkpoint, runtime: str, dtype: str = INT8) -> Path:
    """As :func:`copy_of`.

    Raises:
        ConfigError: there is none.
    """
    found = copy_of(checkpoint, runtime, dtype)
    if found is None:
        raise ConfigError(
            f"{checkpoint.name!r} has no {dtype} copy for {runtime}; `deepseek quantize BUNDLE ROWS --runtime {runtime}"
            f"{'' if dtype == INT8 else f' --dtype {dtype}'}` makes one and sees that it is as good"
        )
    return found
