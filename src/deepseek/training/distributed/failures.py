"""A worker's end as an error in the driver: the worker's own, if it is one of ours, else its last words."""

from __future__ import annotations

import json
from pathlib import Path

from deepseek import errors
from deepseek.errors import DeepSeekError, EngineError

LINES = 15
"""Lines of a worker's log that an error shows."""


def failure(folder: Path, logs: Path, killed: dict[int, str], advice: str) -> DeepSeekError:
    """The error that says why the workers stopped.

    Args:
        folder: where workers left their errors; ``logs``: where their output is.
        killed: workers that were killed rather than failed, and by what (``"SIGKILL"``).
        advice: what to do next, such as how to resume.

    A worker that was killed comes first, then the first that raised an error of this package, then the first that
    raised anything: the others mostly report that it no longer answers.
    """
    for rank, how in sorted(killed.items()):
        hint = " (the system does that when memory runs out)" if how == "SIGKILL" else ""
        return EngineError(f"worker {rank} was killed by {how}{hint}.{last_words(logs, rank)}\n{advice}")
    found = []
    for path in folder.glob("error-*.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        found.append((not report["ours"], report["time"], int(path.stem.partition("-")[2]), report))
    if not found:
        return EngineError(f"the workers stopped without an error message.{last_words(logs, 0)}\n{advice}")
    _, _, rank, report = min(found, key=lambda f: f[:3])
    if report["ours"]:
        kind = getattr(errors, report["kind"], None)
        if isinstance(kind, type) and issubclass(kind, DeepSeekError) and kind is not errors.UnknownNameError:
            return kind(f"worker {rank}: {report['message']}")
        return errors.ConfigError(f"worker {rank}: {report['kind']}: {report['message']}")
    words = last_words(logs, rank) or f" Its last words:\n{_indented(report['trace'])}"
    return EngineError(f"worker {rank} failed with {report['kind']}: {report['message']}.{words}\n{advice}")


def last_words(logs: Path, rank: int) -> str:
    """The end of a worker's log as a sentence with lines, or nothing where it wrote nothing."""
    path = logs / f"worker-{rank}.log"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16384))
        text = file.read().decode("utf-8", errors="replace")
    return f" Its last words ({path}):\n{_indented(text)}" if text.strip() else ""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-LINES:])
