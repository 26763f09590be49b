"""The plots of the report page as SVG and HTML text: no scripts, colours from the page's style, everything escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

Flow = Sequence[tuple[str, int, int]]
"""For each step its name, the rows that came in and the rows that went on."""

_LEFT, _WIDTH, _RIGHT, _ROW = 170, 470, 960, 38


def flow(steps: Flow, rejected_word: str) -> str:
    """Rows through the steps: a band that narrows from top to bottom, what is rejected bends away to the right."""
    if not steps:
        return ""
    total = max(1, steps[0][1])
    height = _ROW * len(steps) + 54
    strands: list[str] = []  # drawn first, so that the band covers where they leave it
    head = [
        f'<svg class="flow" viewBox="0 0 {_RIGHT} {height}" role="img" aria-label="{html.escape(rejected_word)}">',
        f'<text x="{_LEFT}" y="16" class="strong">{steps[0][1]:,}</text>',
    ]
    parts: list[str] = []
    for number, (name, rows_in, rows_out) in enumerate(steps):
        top, bottom = 24 + number * _ROW, 24 + (number + 1) * _ROW
        wide, narrow = _WIDTH * rows_in / total, _WIDTH * rows_out / total
        middle = (top + bottom) / 2
        parts.append(
            f'<path class="kept" d="M{_LEFT},{top} H{_LEFT + wide:.1f} '
            f"C{_LEFT + wide:.1f},{middle} {_LEFT + narrow:.1f},{middle} {_LEFT + narrow:.1f},{bottom} H{_LEFT} Z"
            f'"><title>{html.escape(name)}: {rows_in:,} → {rows_out:,}</title></path>'
        )
        parts.append(f'<text x="{_LEFT - 12}" y="{middle + 4}" text-anchor="end">{html.escape(name)}</text>')
        if gone := rows_in - rows_out:
            strands.append(_strand(top, middle, wide, narrow, f"{gone:,}", share(gone, rows_in)))
    end = 24 + len(steps) * _ROW
    parts.append(f'<text x="{_LEFT}" y="{end + 20}" class="strong">{steps[-1][2]:,}</text></svg>')
    return "".join((*head, *strands, *parts))


def share(part: int, whole: int) -> str:
    """A share in percent that does not call a few rows none."""
    return "<0.1%" if 0 < part < whole / 1000 else f"{part / max(1, whole):.1%}"


def _strand(top: float, middle: float, wide: float, narrow: float, count: str, percent: str) -> str:
    """What leaves the band: from its lost right part at the top of a step to the step's right end."""
    start, thick = _LEFT + wide, max(1.5, min(18.0, wide - narrow))
    end, bend = _LEFT + _WIDTH + 130, _LEFT + wide + 40
    upper, lower = middle + 6 - thick / 2, middle + 6 + thick / 2
    inner = start - max(1.5, wide - narrow)
    path = (
        f"M{inner:.1f},{top} H{start:.1f} C{start:.1f},{upper:.1f} {start + 20:.1f},{upper:.1f} {bend:.1f},{upper:.1f} "
        f"H{end} V{lower:.1f} H{bend:.1f} C{inner + 10:.1f},{lower:.1f} {inner:.1f},{lower:.1f} {inner:.1f},{top} Z"
    )
    return (
        f'<path class="gone" d="{path}"/><text x="{end + 10}" y="{middle + 10}"><tspan class="strong">{count}</tspan>'
        f' <tspan class="soft">{html.escape(percent)}</tspan></text>'
    )


def bars(values: Mapping[str, int], others: str, *, most: int = 15, kind: str = "kept") -> str:
    """Horizontal bars, the largest first, with counts and shares; what is beyond ``most`` is summed up."""
    ordered = sorted(values.items(), key=lambda item: -item[1])
    if rest := sum(count for _, count in ordered[most:]):
        ordered = [*ordered[:most], (f"{others} ({len(ordered) - most:,})", rest)]
    total, top = max(1, sum(values.values())), max([1, *(count for _, count in ordered)])
    rows = "".join(
        f'<div class="name">{html.escape(name)}</div><div class="track"><div class="fill {kind}" '
        f'style="width:{100 * count / top:.2f}%"></div></div><div class="n">{count:,}</div>'
        f'<div class="n soft">{html.escape(share(count, total))}</div>'
        for name, count in ordered
    )
    return f'<div class="bars">{rows}</div>'


def paired_bars(before: Mapping[str, int], after: Mapping[str, int], others: str, *, most: int = 20) -> str:
    """Two bars a name: before and after."""
    names = sorted(before, key=lambda name: (-before[name], name))
    pairs = [(name, before[name], after.get(name, 0)) for name in names[:most]]
    if len(names) > most:
        rest = names[most:]
        rest_after = sum(after.get(name, 0) for name in rest)
        pairs.append((f"{others} ({len(rest):,})", sum(before[name] for name in rest), rest_after))
    top = max([1, *(count for _, count, _ in pairs)])
    rows = "".join(
        f'<div class="name">{html.escape(name)}</div><div class="track"><div class="fill before" '
        f'style="width:{100 * first / top:.2f}%"></div><div class="fill kept" style="width:{100 * second / top:.2f}%">'
        f'</div></div><div class="n">{first:,}<br>{second:,}</div>'
        f'<div class="n soft">{0 if not first else second / first - 1:+.1%}</div>'
        for name, first, second in pairs
    )
    return f'<div class="bars">{rows}</div>'


def histogram(names: Sequence[str], series: Sequence[tuple[str, Sequence[int]]]) -> str:
    """Columns side by side for each group; ``series`` are style classes with one count a group."""
    top = max([1, *(count for _, counts in series for count in counts)])
    slot = 900 / max(5, len(names))
    width = slot * 0.76 / max(1, len(series))
    parts = ['<svg viewBox="0 0 960 250" role="img">', '<line class="axis" x1="40" y1="210" x2="950" y2="210"/>']
    for part in (0.5, 1.0):
        y = 210 - 180 * part
        parts.append(f'<line class="grid" x1="40" y1="{y}" x2="950" y2="{y}"/>')
        parts.append(f'<text class="soft" x="36" y="{y + 4}" text-anchor="end">{_short(top * part)}</text>')
    for group, name in enumerate(names):
        left = 48 + group * slot
        for place, (kind, counts) in enumerate(series):
            tall = 180 * counts[group] / top
            parts.append(
                f'<rect class="{kind}" x="{left + place * width:.1f}" y="{210 - tall:.1f}" width="{width:.1f}" '
                f'height="{tall:.1f}"><title>{html.escape(name)}: {counts[group]:,}</title></rect>'
            )
        parts.append(
            f'<text class="soft" x="{left + slot * 0.38:.1f}" y="228" text-anchor="middle">{html.escape(name)}</text>'
        )
    return "".join(parts) + "</svg>"


def _short(number: float) -> str:
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{sign}"
    return f"{number:.3g}"
