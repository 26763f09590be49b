"""The catalogue as a person browses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deepseek.models import CATALOGUE, ModelCard, resolve
from deepseek.models.exchange.chinese import chinese_folder


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue, where it comes from, and whether its files are on this machine."""

    card: ModelCard
    origin: str
    cached: bool


def entries(search: str = "") -> list[Entry]:
    """Entries whose name, title or hub id contains ``search`` (case-insensitive), sorted by name; fetches nothing."""
    wanted = search.casefold()
    return [
        Entry(card, _origin(card), _cached(card))
        for card in sorted(CATALOGUE.values(), key=lambda c: c.name)
        if wanted in f"{card.name} {card.title} {card.hub_id}".casefold()
    ]


def pull(model: str) -> Path:
    """Fetch a model and return its folder.

    Raises:
        UnknownNameError, FetchError: see :func:`deepseek.models.resolve`.
    """
    return resolve(model).path


def _origin(card: ModelCard) -> str:
    if card.made_from:
        return f"made here from {card.made_from}"
    return f"package {card.package.project} {card.package.version}" if card.package else f"hub {card.hub_id}"


def _cached(card: ModelCard) -> bool:
    if card.made_from:
        return chinese_folder().is_dir()
    if card.package:
        return card.package.cached.is_file()
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(card.hub_id, "config.json", revision=card.revision), str)
