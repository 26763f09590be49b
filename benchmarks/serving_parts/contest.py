"""The contest: in each round every server is started, loaded in each way that it takes part in, and ended, in turn.

Only one server runs at a time, so that none that waits takes the processor from another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.harness import StepFailed, in_turn, say
from benchmarks.serving_parts.contestants import Contestant, Setting
from benchmarks.serving_parts.context import Context
from benchmarks.serving_parts.load import Load, Row
from benchmarks.serving_parts.measuring import measure, started

Rows = dict[str, dict[str, Row]]
"""Contestant to kind of load to what was found."""


def contest(
    context: Context,
    model: str,
    contestants: Sequence[Contestant],
    *,
    only: Sequence[str] | None = None,
    settings: Mapping[str, Setting] | None = None,
) -> Rows:
    """Run all rounds.

    Args:
        only: kinds of load to leave it at.
        settings: by contestant, the setting to start it with; else its only one.
    """
    loads: dict[str, dict[str, list[Load]]] = {each.name: {} for each in contestants}
    known = {each.name: each for each in contestants}
    for turn in range(context.rounds):
        for name in in_turn(list(known), turn):
            each = known[name]
            kinds = [kind for kind in each.loads if only is None or kind in only]
            setting = (settings or {}).get(name) or next(iter(each.settings.values()))
            with started(each, setting, model, context.workspace(f"{model}-{name}")) as target:
                for kind in kinds:
                    loads[name].setdefault(kind, []).append(measure(context, target, kind))
        say(f"{model}, round {turn + 1} of {context.rounds}")
    rows = {name: {kind: Row(tuple(each)) for kind, each in found.items()} for name, found in loads.items()}
    for name, found in rows.items():
        for kind, row in found.items():
            say(f"  {name}, {kind}: {row}")
    return rows


def best_settings(context: Context, model: str, contestants: Sequence[Contestant]) -> tuple[dict[str, Setting], str]:
    """Try each setting of each contestant once, with its first kind of load; the fastest of each, and all in words."""
    best: dict[str, Setting] = {}
    words = []
    for each in contestants:
        rates: dict[str, float] = {}
        for name, setting in each.settings.items():
            with started(each, setting, model, context.workspace(f"{model}-{each.name}")) as target:
                try:
                    rates[name] = measure(context, target, each.loads[0], seconds=context.seconds / 2).rate
                except StepFailed as error:  # of a setting that does not work here; another has to
                    say(f"  {each.name}, {name}: {error}")
        if not rates:
            raise StepFailed(f"{each.name} works with none of its settings; the lines above say why")
        chosen = max(rates, key=rates.__getitem__)
        best[each.name] = each.settings[chosen]
        told = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items())
        say(f"  {each.name}: {told}; taken: {chosen}")
        words.append(f"{each.name} {each.version} with {chosen} (tried: {told})")
    return best, "; ".join(words)
