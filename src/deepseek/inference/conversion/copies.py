"""The int8 copies that bundles have of their model, by runtime."""

from __future__ import annotations

from pathlib import Path

from deepseek.bundles import Bundle
from deepseek.errors import ConfigError
from deepseek.models.checkpoint import Checkpoint

INT8 = "int8"


def copy_of(checkpoint: Checkpoint, runtime: str) -> Path | None:
    """The folder of a bundle's int8 copy for a runtime, if the checkpoint is a bundle and has one."""
    if not Bundle.is_bundle(checkpoint.path):
        return None
    bundle = Bundle.open(checkpoint.path)
    record = bundle.manifest.compiled.get(f"{runtime}-{INT8}")
    return bundle.path / record.folder if record else None


def needed_copy(checkpoint: Checkpoint, runtime: str) -> Path:
    """As :func:`copy_of`.

    Raises:
        ConfigError: there is none.
    """
    found = copy_of(checkpoint, runtime)
    if found is None:
        raise ConfigError(
            f"{checkpoint.name!r} has no int8 copy for {runtime}; `deepseek quantize BUNDLE ROWS --runtime {runtime}` "
            "makes one and sees that it is as good"
        )
    return found
