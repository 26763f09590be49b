"""Where fetched files live, and how they get there without ever being half-written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The cache folder: ``$DEEPSEEK_CACHE`` if set, else the user's cache folder for this platform."""
    chosen = os.environ.get("DEEPSEEK_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("deepseek", appauthor=False))


class DownloadError(Exception):
    """A download that failed; ``final`` when trying again cannot help. Callers of ``fetch`` see ``FetchError``."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


def offline() -> bool:
    """Whether the user asked for no network at all (``DEEPSEEK_OFFLINE=1`` or ``HF_HUB_OFFLINE=1``)."""
    return any(os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"} for name in _OFFLINE_SWITCHES)


_OFFLINE_SWITCHES = ("DEEPSEEK_OFFLINE", "HF_HUB_OFFLINE")


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Flush a file or folder to the disk, so that a rename after it cannot expose missing bytes."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader finds the old or the new one, never a part (UTF-8)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.tmp-", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty sibling folder that becomes ``target`` when the block ends well, and vanishes when it does not.

    With ``replace``, an existing ``target`` is moved aside first and removed last, so a crash at any moment leaves
    either the old or the new folder complete on disk (the old one under ``.NAME.old-*`` in the worst case, which the
    next call puts back).

    Raises:
        FileExistsError: ``target`` exists and ``replace`` is false.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    restore_interrupted(target)
    if target.exists() and not replace:
        raise FileExistsError(f"{target} exists already")
    stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    try:
        yield stage
        stage.chmod(0o755)
        for path in stage.rglob("*"):
            sync_file(path)
        sync_file(stage)
        if target.exists() and replace:
            aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
            target.rename(aside / "content")
            stage.rename(target)
            shutil.rmtree(aside)
        else:
            try:
                stage.rename(target)
            except OSError:
                if not target.exists():  # else another process finished the same work first
                    raise
        sync_file(target.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def restore_interrupted(target: Path) -> None:
    """Put back a ``target`` that a crash in the middle of :func:`staged_directory` left aside."""
    for aside in sorted(target.parent.glob(f".{target.name}.old-*")):
        content = aside / "content"
        if content.exists() and not target.exists():
            content.rename(target)
        shutil.rmtree(aside, ignore_errors=True)
