"""The feature views that a server has, and what a request may ask of them.

Clients see names of views, never paths: a name is looked up in this list before anything touches the feature store,
whose folders are called like its views.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from deepseek.data.features import FeatureStore, FeatureView
from deepseek.data.features.online import OnlineStore
from deepseek.data.features.online.reader import stored_schema
from deepseek.errors import OnlineStoreError, UnknownNameError
from deepseek.serving.errors import RequestError

_ASKED = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)(?:@([0-9]{1,9}))?(?::([^:]+))?")

Catalogue = dict[str, "ServedView"]


@dataclass(frozen=True, kw_only=True)
class ServedView:
    """One view at its highest version, with its columns as they were materialised last: names to Arrow types."""

    view: FeatureView
    entities: dict[str, str]
    request: dict[str, str]
    """Columns that transformations need beside the keys."""
    features: dict[str, str]
    """Empty while the view is not in the online store."""

    def describe(self) -> dict[str, Any]:
        """For clients, as JSON."""
        return {
            "name": self.view.name,
            "version": self.view.version,
            "description": self.view.description,
            "entities": self.entities,
            "request": self.request,
            "features": self.features,
            "ttl_seconds": None if self.view.ttl is None else self.view.ttl.total_seconds(),
        }


def read_catalogue(store: FeatureStore, online: OnlineStore, names: Iterable[str] | None) -> Catalogue:
    """Look at the definitions and at what is online; blocks. ``names``: the views that are served, all by default."""
    views = store.views() if names is None else [store.view(name) for name in names]
    return {view.name: _served(view, online) for view in views}


def _served(view: FeatureView, online: OnlineStore) -> ServedView:
    try:
        schema = stored_schema(online, view)
    except OnlineStoreError:
        return ServedView(view=view, entities=dict.fromkeys(view.entities, ""), request={}, features={})
    names = view.feature_names(schema)
    computed = {name: kind for step in view.transformations for name, kind in step.outputs.items()}
    return ServedView(
        view=view,
        entities={name: str(schema.field(name).type) for name in view.entities},
        request=view.request_columns(names),
        features={name: computed[name] if name in computed else str(schema.field(name).type) for name in names},
    )


def view_asked_for(asked: str, catalogue: Catalogue) -> tuple[str, int | None]:
    """Name and version of the view in ``view[@version][:feature]``.

    Raises :class:`RequestError`, and :class:`UnknownNameError` when the server has no such view.
    """
    match = _ASKED.fullmatch(asked)
    if match is None:
        raise RequestError(
            f"features: expected 'view', 'view:feature' or 'view@version:feature', received {asked!r:.80}"
        )
    if match[1] not in catalogue:
        raise UnknownNameError("feature view", match[1], catalogue)
    return match[1], int(match[2]) if match[2] else None
