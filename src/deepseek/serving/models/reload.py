"""For development: load models again when their files change, and say when code has changed.

A model is loaded beside the one that is served and takes its place when it is ready; while a bundle is still being
written, loading fails, what was served goes on, and the next change is another try.

Files are watched by watchfiles (the library behind uvicorn's and granian's reloading): the extra ``reload``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepseek.errors import require
from deepseek.serving.models.repository import ModelRepository

logger = logging.getLogger("deepseek.serving")


class Reloader:
    """Watches the files of models and of code.

    Args:
        models: served name -> its bundle, folder or file.
        code: folders whose Python files are the application's.
        code_changed: called once when one of those files changes; watching ends then.

    Raises:
        MissingExtraError: watchfiles is not installed.
    """

    def __init__(
        self, models: Mapping[str, Path], code: Sequence[Path] = (), code_changed: Callable[[], None] | None = None
    ) -> None:
        self._watchfiles: Any = require("watchfiles", "reload")
        self._models = {name: path.resolve() for name, path in models.items()}
        self._code = [path.resolve() for path in code]
        self._code_changed = code_changed

    async def run(self, repository: ModelRepository) -> None:
        """Watch until cancelled, or until code has changed."""
        async for changed in self._changes():
            if self._code_changed is not None and any(self._is_code(path) for path in changed):
                logger.info("code has changed")
                self._code_changed()
                return
            for name in [name for name, home in self._models.items() if any(_inside(p, home) for p in changed)]:
                await self._load(repository, name)

    async def _changes(self) -> AsyncIterator[list[Path]]:
        # A bundle may be replaced as a whole, by a rename, which only the folder that it is in is told of.
        folders = {path.parent for path in self._models.values()} | set(self._code)
        async for changes in self._watchfiles.awatch(*sorted(folders), watch_filter=self._concerns, step=100):
            yield [Path(path) for _, path in changes]

    def _concerns(self, _: Any, path: str) -> bool:
        changed = Path(path)
        return self._is_code(changed) or any(_inside(changed, home) for home in self._models.values())

    def _is_code(self, path: Path) -> bool:
        return path.suffix == ".py" and any(_inside(path, folder) for folder in self._code)

    async def _load(self, repository: ModelRepository, name: str) -> None:
        try:
            loaded = await repository.load(name)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  what was served goes on, whatever is wrong with the new one
            logger.warning("model %r has changed, but cannot be loaded; the old one goes on: %s", name, error)
        else:
            logger.info("model %r was loaded again: version %s", name, loaded.version)


def _inside(path: Path, home: Path) -> bool:
    return path == home or home in path.parents
