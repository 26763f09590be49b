"""The report as one HTML page that needs nothing from outside: style and plots are inside, there are no scripts."""

from __future__ import annotations

import functools
import html
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deepseek.data.cleaning import report_plots as plots
from deepseek.data.cleaning.report import CleaningReport, Example, StepReport
from deepseek.data.cleaning.report_words import words

Say = Callable[[str], str]

_FLAG_HEAD = (("row", "n"), ("why", ""), ("score", "n"), ("text", ""))


def page(report: CleaningReport, lang: str) -> str:
    """The page; every text from the data is escaped.

    Raises:
        UnknownNameError: there is no such language.
    """
    say = words(lang)
    title = say("Cleaning report")
    body = "".join(
        (
            _tiles(report, say),
            _flow(report, say),
            _reasons(report, say),
            _labels(report, say),
            _lengths(report, say),
            _counts(report, "language", "Languages", say),
            _counts(report, "personal data", "Personal data", say),
            _similarities(report, say),
            *(_flagged(step, say) for step in report.steps),
            *(_balance(step, say) for step in report.steps if step.step == "class balance"),
            _table(report, say),
            _examples(report, say),
            _settings(report, say),
        )
    )
    return (
        f'<!doctype html><html lang="{"zh-CN" if lang == "zh" else "en"}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title>'
        f"<style>{_style()}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )


def _tiles(report: CleaningReport, say: Say) -> str:
    flagged = sum(sum(step.details["found"].values()) for step in report.steps if "flagged" in step.details)
    values = {
        "rows in": report.rows_in,
        "kept": report.rows_out,
        "rejected": report.rejected,
        "changed": sum(step.changed for step in report.steps),
        **({"flagged": flagged} if flagged else {}),
    }
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><span class="soft">{say(k)}</span><b>{v:,}</b></div>' for k, v in values.items())
        + "</div>"
    )


def _flow(report: CleaningReport, say: Say) -> str:
    hint = say("From top to bottom, the width is the number of rows; what bends away to the right was rejected.")
    steps = [(say(step.step), step.rows_in, step.rows_out) for step in report.steps]
    return f'{_h2("How the rows went", say)}<p class="soft">{hint}</p>{plots.flow(steps, say("rejected"))}'


def _reasons(report: CleaningReport, say: Say) -> str:
    reasons = {say(reason): count for reason, count in report.reasons.items()}
    shown = plots.bars(reasons, say("and others"), kind="gone") if reasons else f"<p>{say('No row was rejected.')}</p>"
    return _h2("Why rows were rejected", say) + shown


def _labels(report: CleaningReport, say: Say) -> str:
    before, after = report.before.get("labels", {}), report.after.get("labels", {})
    if not before:
        return ""
    return _h2("Labels before and after", say) + _key(say) + plots.paired_bars(before, after, say("and others"))


def _lengths(report: CleaningReport, say: Say) -> str:
    before, after = report.before.get("lengths", {}), report.after.get("lengths", {})
    groups = sorted({*before, *after}, key=int)
    if not groups:
        return ""
    series = [("before", [before.get(g, 0) for g in groups]), ("kept", [after.get(g, 0) for g in groups])]
    names = [f"{int(group):,}+" for group in groups]
    return _h2("Text length, in characters", say) + _key(say) + plots.histogram(names, series)


def _counts(report: CleaningReport, step_name: str, title: str, say: Say) -> str:
    for step in report.steps:
        if step.step == step_name and step.details:
            counts = {say(name): count for name, count in step.details.items()}
            return _h2(title, say) + plots.bars(counts, say("and others"), most=12)
    return ""


def _similarities(report: CleaningReport, say: Say) -> str:
    found: defaultdict[str, int] = defaultdict(int)
    for step in report.steps:
        for group, count in (step.details.get("similarity") or {}).items():
            found[str(group)] += count
    if not found:
        return ""
    names = sorted(found)
    return _h2("Similarity of near duplicates", say) + plots.histogram(names, [("gone", [found[n] for n in names])])


def _flagged(step: StepReport, say: Say) -> str:
    rows: list[dict[str, Any]] = step.details.get("flagged") or []
    if not rows:
        return ""
    counts = {say(reason): count for reason, count in step.details["found"].items()}
    body = "".join(
        f'<tr><td class="n">{row["row"]:,}</td><td class="whole">{html.escape(say(row["reason"]))}</td>'
        f'<td class="n">{row["score"]:.3g}</td><td>{html.escape(row["text"])}</td></tr>'
        for row in rows
    )
    head = "".join(f'<th class="{kind}">{say(name)}</th>' for name, kind in _FLAG_HEAD)
    return (
        f"{_h2('Flagged, for a person to look at', say)}<h3>{html.escape(say(step.step))}</h3>"
        f'<p class="soft">{say("These rows were kept. Their marks are columns of the cleaned table.")}</p>'
        f'{plots.bars(counts, say("and others"))}<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _balance(step: StepReport, say: Say) -> str:
    found = step.details
    if not found.get("counts"):
        return ""
    body = "".join(
        f'<tr><td>{html.escape(label)}</td><td class="n">{count:,}</td>'
        f'<td class="n">{found["effective"][label]:,.1f}</td><td class="n">{found["weights"][label]:.3f}</td></tr>'
        for label, count in list(found["counts"].items())[:50]
    )
    return (
        f"{_h2('Class balance', say)}<p>{html.escape(say(found['advice']))} ({say('imbalance ratio')} "
        f"{found['imbalance_ratio']:.2f}, {say('evenness')} {found['evenness']:.2f})</p>"
        f'<div class="scroll"><table><thead><tr><th>{say("label")}</th><th class="n">{say("rows")}</th>'
        f'<th class="n">{say("effective number")}</th><th class="n">{say("loss weight")}</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _table(report: CleaningReport, say: Say) -> str:
    head = "".join(f'<th class="n">{say(name)}</th>' for name in ("rows in", "changed", "rejected", "kept"))
    rows = "".join(
        f'<tr><td>{html.escape(say(step.step))}</td><td class="n">{step.rows_in:,}</td>'
        f'<td class="n">{step.changed:,}</td><td class="n">{step.rows_in - step.rows_out:,}</td>'
        f'<td class="n">{step.rows_out:,}</td><td>{_why(step, say)}</td></tr>'
        for step in report.steps
    )
    return (
        f'{_h2("Steps", say)}<div class="scroll"><table><thead><tr><th>{say("step")}</th>{head}'
        f"<th>{say('why')}</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _why(step: StepReport, say: Say) -> str:
    return "<br>".join(f"{html.escape(say(reason))}: {count:,}" for reason, count in step.reasons.items())


def _examples(report: CleaningReport, say: Say) -> str:
    by_reason: defaultdict[tuple[str, str], list[Example]] = defaultdict(list)
    for step in report.steps:
        for example in step.examples:
            by_reason[step.step, example.reason].append(example)
    if not by_reason:
        return ""
    hint = f'<p class="soft">{say("Personal data in the examples is hidden.")}</p>' if report.config.get("pii") else ""
    return _h2("Examples", say) + hint + "".join(_group(*key, rows, say) for key, rows in by_reason.items())


def _group(step: str, reason: str, examples: list[Example], say: Say) -> str:
    parts = []
    for example in examples:
        measured = f" · {html.escape(example.detail)}" if example.detail else ""
        parts.append(
            f'<div class="soft">{say("row")} {example.row:,}{measured}</div><blockquote>{html.escape(example.text)}'
        )
        if example.duplicate_text is not None:
            parts.append(
                f'<div class="soft">{say("repeats row")} {example.duplicate_of:,}</div>'
                f"{html.escape(example.duplicate_text)}"
            )
        parts.append("</blockquote>")
    title = html.escape(say(reason) if step == reason else f"{say(step)}: {say(reason)}")
    return f"<details open><summary>{title}</summary>{''.join(parts)}</details>"


def _settings(report: CleaningReport, say: Say) -> str:
    text = html.escape(json.dumps(_given(report.config), ensure_ascii=False, indent=2))
    return f"<details><summary>{say('Settings')}</summary><pre>{text}</pre></details>"


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the parts that are off."""
    return {name: value for name, value in config.items() if value is not None}


def _h2(title: str, say: Say) -> str:
    return f"<h2>{say(title)}</h2>"


def _key(say: Say) -> str:
    return (
        f'<div class="key soft"><span><i class="before"></i>{say("before")}</span>'
        f'<span><i class="kept"></i>{say("after")}</span></div>'
    )


@functools.cache
def _style() -> str:
    return Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
