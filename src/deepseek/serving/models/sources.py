"""Models by what a person names, so that a server can load them again: a path, a catalogue name, a folder of models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from deepseek.errors import ConfigError
from deepseek.serving.models.served_model import ServedModel
from deepseek.serving.workers.config import LoaderSpec

Loader = Callable[[str, str], ServedModel]
"""Loads what a person names (a path, a hub id, ...) to be served under a name."""


@dataclass(frozen=True)
class NamedSource:
    """A model under the name that it is served by.

    Attributes:
        name: as given.
        model: a bundle, a model folder, a GGUF file, a hub id or a catalogue name; or a folder whose sub-folders are
            named by numbers, each with a version of the model, of which the highest is served.
        loader: what loads it.
    """

    name: str
    model: str
    loader: Loader

    @property
    def path(self) -> Path | None:
        """Where the model is on this machine, if it was named by its path."""
        path = Path(self.model).expanduser()
        return path if path.exists() else None

    def spec(self) -> LoaderSpec | None:
        """How a worker process loads the model, or the newest version of it.

        ``None`` when it has to be loaded in this process: it generates, or ``loader`` has no ``spec`` to tell.
        """
        told = getattr(self.loader, "spec", None)
        if told is None:
            return None
        found: LoaderSpec | None
        versions = _versions(self.path)
        if versions:
            newest = max(versions)
            found = told(str(versions[newest]), self.name, str(newest))
        else:
            found = told(self.model, self.name)
        return found

    def load(self) -> ServedModel:
        """Load the model, or the newest version of it; raises what ``loader`` raises."""
        versions = _versions(self.path)
        if not versions:
            return self.loader(self.model, self.name)
        newest = max(versions)
        return cast(ServedModel, _Versioned(self.loader(str(versions[newest]), self.name), str(newest)))


class _Versioned:
    """A model whose version is that of its folder."""

    def __init__(self, model: ServedModel, version: str) -> None:
        self._model, self.version = model, version

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)


def _versions(path: Path | None) -> dict[int, Path]:
    if path is None or not path.is_dir() or _is_model(path):
        return {}
    return {int(each.name): each for each in path.iterdir() if each.name.isdecimal() and _is_model(each)}


def _is_model(path: Path) -> bool:
    return (path.is_dir() and (path / "config.json").is_file()) or path.suffix == ".gguf"


def sources_in(folder: Path, loader: Loader) -> list[NamedSource]:
    """Every model of a folder: its bundles, model folders and GGUF files, named as they are there without ``.gguf``.

    A sub-folder may instead hold versions of a model, in folders that are named by numbers (Triton's layout).

    Raises:
        ConfigError: there is no such folder, or no model in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"expected a folder of models, there is none at {folder}")
    found = [path for path in sorted(folder.iterdir()) if _is_model(path) or _versions(path)]
    if not found:
        raise ConfigError(
            f"{folder} holds no models: expected bundles, model folders (with config.json), .gguf files, or folders "
            "whose sub-folders are named by version numbers and hold one each"
        )
    return [NamedSource(path.stem if path.is_file() else path.name, str(path), loader) for path in found]
