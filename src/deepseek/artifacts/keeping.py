"""Results in the cache folder that can be had again."""

from __future__ import annotations

from pathlib import Path

from deepseek import progress
from deepseek.artifacts.cache import write_text


def keep_text(path: Path, text: str, what: str) -> None:
    """Write a text file; a folder that cannot be written to costs only the keeping: standard error says so."""
    try:
        write_text(path, text)
    except OSError as error:
        progress.console().print(
            f"  {what} was not kept ({error}); set DEEPSEEK_CACHE to a folder of yours",
            style="yellow", highlight=False, markup=False,
        )  # fmt: skip
