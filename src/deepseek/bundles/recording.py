"""What stands beside a model's weights and belongs to its task, and a record of every file of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.artifacts.cache import sha256
from deepseek.bundles.manifest import FileRecord

if TYPE_CHECKING:
    from deepseek.tasks.base import Task


def write_extra_files(task: Task, config: Any, folder: Path) -> None:
    """Write the files that other tools look for, as the task names them for a model's ``config``."""
    for name, content in task.extra_files(config).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content + "\n", encoding="utf-8")


def recorded(paths: list[Path], folder: Path) -> dict[str, FileRecord]:
    """Size and hash of files, by their path inside ``folder``."""
    return {
        path.relative_to(folder).as_posix(): FileRecord(size=path.stat().st_size, sha256=sha256(path)) for path in paths
    }


def files_of(folder: Path) -> list[Path]:
    """All files below a folder, in the order of their names."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
