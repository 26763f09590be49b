"""What ``history`` and ``online`` are asked for: features of views, and how their columns are called in the result.

A feature is asked for as ``"view:feature"``, all features of a view as ``"view"``; ``"view@2"`` and
``"view@2:feature"`` mean that version of the definition. Columns are named as Feast names them: by the feature alone,
or ``view__feature`` where that would be ambiguous, or everywhere with ``full_feature_names``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from deepseek.data.features.view import FeatureView
from deepseek.data.table import Table
from deepseek.errors import ConfigError, UnknownNameError

_ASKED = re.compile(r"([^:@]+)(?:@(\d+))?(?::(.+))?")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Some features of one view, read from one version of its table; ``names`` are their columns in the result."""

    view: FeatureView
    table: Table
    features: tuple[str, ...]
    names: tuple[str, ...]


def select(
    asked: str | FeatureView | Sequence[str | FeatureView],
    find: Callable[[str, int | None], FeatureView],
    open_table: Callable[[FeatureView], Table],
    *,
    taken: Iterable[str] = (),
    full_feature_names: bool = False,
) -> list[Selection]:
    """Resolve what was asked for, in that order; the same feature asked for twice appears once.

    Args:
        find: gives a view by name and version (``None``: the newest).
        open_table: opens a view's table at the version to read.
        taken: columns of the result that are not features.

    Raises:
        UnknownNameError: there is no such view, version or feature; the nearest names are in the message.
        ConfigError: nothing is asked for, or two columns of the result would have one name.
    """
    wanted = [asked] if isinstance(asked, str | FeatureView) else list(asked)
    if not wanted:
        raise ConfigError("features: expected at least one, such as 'view' or 'view:feature'; received none")
    views: dict[str, tuple[FeatureView, Table]] = {}
    features: dict[str, list[str]] = {}
    for each in wanted:
        view, feature = (each, None) if isinstance(each, FeatureView) else _parse(each, find)
        if view.label not in views:
            table = open_table(view)
            view.validate_schema(table.schema)
            views[view.label] = (view, table)
        known = view.feature_names(views[view.label][1].schema)
        if feature is not None and feature not in known:
            raise UnknownNameError("feature", feature, known, hint=f"View: {view.label}.")
        features.setdefault(view.label, []).extend(known if feature is None else [feature])
    chosen = {label: tuple(dict.fromkeys(names)) for label, names in features.items()}
    names = _names({label: (views[label][0], chosen[label]) for label in chosen}, set(taken), full_feature_names)
    return [
        Selection(view=view, table=table, features=chosen[label], names=names[label])
        for label, (view, table) in views.items()
    ]


def find_view(asked: str, find: Callable[[str, int | None], FeatureView]) -> FeatureView:
    """The view that ``"view"`` or ``"view@version"`` means.

    Raises:
        UnknownNameError: there is no such view or version.
        ConfigError: a feature is asked for.
    """
    view, feature = _parse(asked, find)
    if feature is not None:
        raise ConfigError(f"view: expected 'view' or 'view@version', received {asked!r}")
    return view


def _parse(asked: str, find: Callable[[str, int | None], FeatureView]) -> tuple[FeatureView, str | None]:
    match = _ASKED.fullmatch(asked)
    if match is None:
        raise ConfigError(f"features: expected 'view', 'view:feature' or 'view@version:feature'; received {asked!r}")
    return find(match[1], int(match[2]) if match[2] else None), match[3]


def _names(
    chosen: dict[str, tuple[FeatureView, tuple[str, ...]]], taken: set[str], full: bool
) -> dict[str, tuple[str, ...]]:
    often = Counter(feature for _, features in chosen.values() for feature in features)
    views = Counter(view.name for view, _ in chosen.values())
    names = {}
    for label, (view, features) in chosen.items():
        prefix = view.name if views[view.name] == 1 else label  # two versions of one view side by side
        names[label] = tuple(
            f"{prefix}__{feature}" if full or often[feature] > 1 or feature in taken else feature
            for feature in features
        )
    everything = Counter([*taken, *(name for each in names.values() for name in each)])
    if twice := [name for name, count in everything.items() if count > 1]:
        raise ConfigError(f"two columns of the result would be called {twice[0]!r}; rename the entity rows' column")
    return names
