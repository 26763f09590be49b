"""The hub: what can be had, and getting it."""

from deepseek.hub.catalogue import Entry, entries, pull

__all__ = ["Entry", "entries", "pull"]
