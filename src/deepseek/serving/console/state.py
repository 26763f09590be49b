"""What the console is told: one JSON document, for those models alone that the asker's key covers.

::

    {"format": "deepseek.console/1",
     "server":     phase, version, Python, what this server allows and offers,
     "repository": the lines of the model repository's index,
     "signatures": inputs, outputs and parameters of each model by "name/version"; only in the complete document,
     "requests":   [protocol, operation, code, count] since the start,
     "monitor":    ServerMonitor.snapshot(), or null where nothing is watched}

The complete document has the whole history; the recent one the last points of it, for a page that has the rest. Making
one takes about a millisecond on the event loop, so what was made is given to everybody who asks within the same second.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from deepseek.serving.generation.batching import GenerationBatcher
from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.version import server_version

if TYPE_CHECKING:
    from deepseek.serving.gateway import Gateway
    from deepseek.tasks.signature import Field

FORMAT = "deepseek.console/1"
RECENT_POINTS = 12
"""Points of the recent document: a minute at the usual step, so that a page that polls every 5 s misses none."""
FRESH_SECONDS = 1.0
_MOST_KEPT = 16

_encode = msgspec.json.Encoder().encode


class Offers(NamedTuple):
    """What a server lets its clients do, which the page then shows."""

    model_control: bool = False
    """Models may be loaded and unloaded over the network."""
    admin_url: str = ""
    """Where keys are administered; empty: nowhere over the network."""


class ConsoleState:
    """Makes the document; used on the event loop."""

    def __init__(self, gateway: Gateway, offers: Offers) -> None:
        self._gateway, self._monitor, self._offers = gateway, gateway.monitor, offers
        self._made_at = 0.0
        self._made: dict[tuple[bool, tuple[str, ...]], bytes] = {}

    def document(self, allows: Callable[[str], bool], *, recent: bool) -> bytes:
        """The JSON for somebody whom ``allows`` says which models they may see."""
        now = time.monotonic()
        if now - self._made_at >= FRESH_SECONDS or len(self._made) >= _MOST_KEPT:
            self._made.clear()
            self._made_at = now
        index = [entry for entry in self._gateway.repository.index() if allows(entry.name)]
        seen = (recent, tuple(sorted({entry.name for entry in index})))
        found = self._made.get(seen)
        if found is None:
            document = {
                "format": FORMAT,
                "server": self._server(),
                "repository": [entry._asdict() for entry in index],
                "requests": self._requests(),
                "monitor": self._watched(frozenset(seen[1]), RECENT_POINTS if recent else None),
            }
            if not recent:
                document["signatures"] = {
                    f"{loaded.name}/{loaded.version}": described(loaded)
                    for loaded in self._gateway.repository
                    if allows(loaded.name)
                }
            found = self._made[seen] = _encode(document)
        return found

    def _server(self) -> dict[str, Any]:
        config = self._monitor.config if self._monitor is not None else None
        return {
            "phase": self._gateway.lifecycle.phase.name.lower(),
            "version": server_version(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "now": time.time(),
            "keys": self._gateway.access is not None,
            "history_seconds": config.history_minutes * 60 if config is not None else 0,
            **self._offers._asdict(),
        }

    def _watched(self, visible: frozenset[str], points: int | None) -> dict[str, Any] | None:
        if self._monitor is None:
            return None
        snapshot = self._monitor.snapshot(points)
        models = [model for model in snapshot["models"] if model["name"] in visible]
        keys = {f"{model['name']}/{model['version']}" for model in models}
        history = snapshot["history"]
        series = {key: rings for key, rings in history["models"].items() if key in keys}
        return {**snapshot, "models": models, "history": {**history, "models": series}}

    def _requests(self) -> list[tuple[str, str, str, int]]:
        """Requests since the start by protocol, operation and status."""
        counts: Counter[tuple[str, str, str]] = Counter()
        if self._monitor is not None:
            for name, labels, value in self._monitor.meters.samples():
                if name == "deepseek_requests" and not isinstance(value, list):
                    counts[labels[0], labels[1], labels[4]] += int(value)
        return [(*labels, count) for labels, count in sorted(counts.items())]


def described(loaded: LoadedModel) -> dict[str, Any]:
    """A model's signature, and the names of its classes where it tells them."""
    signature = loaded.model.signature
    task = getattr(loaded.model, "definition", None)
    labels = getattr(loaded.model, "labels", None) or getattr(task, "labels", None) or ()
    return {
        "task": loaded.task,
        "platform": loaded.model.platform,
        "chat": isinstance(loaded.batcher, GenerationBatcher),
        "loaded": loaded.loaded_at,
        "labels": [str(label) for label in labels],
        "inputs": [_field(field) for field in signature.inputs],
        "outputs": [_field(field) for field in signature.outputs],
        "parameters": [_field(field) for field in signature.parameters],
    }


def _field(field: Field) -> dict[str, Any]:
    return field.model_dump(mode="json")
