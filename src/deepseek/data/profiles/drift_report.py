"""From differences to verdicts: thresholds, correction for many tests, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from deepseek.data.profiles.bars import Bars, bars
from deepseek.data.profiles.comparison import Comparison, compare
from deepseek.data.profiles.significance import holm
from deepseek.errors import ConfigError

if TYPE_CHECKING:
    from deepseek.data.profiles.drift import LiveRows

Verdict = Literal["stable", "warning", "drift"]
_ORDER: tuple[Verdict, ...] = ("stable", "warning", "drift")


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """When a difference counts. Each pair is (warning, drift), for a p-value below ``alpha`` after correction.

    ``psi``: population stability index (the conventional 0.1 and 0.25). ``distance``: Kolmogorov-Smirnov, 0 to 1.
    ``share``: change of a share, of nulls or of new categories. ``deviations``: shift of a vector column's mean.
    """

    alpha: float = 0.05
    psi: tuple[float, float] = (0.1, 0.25)
    distance: tuple[float, float] = (0.1, 0.2)
    share: tuple[float, float] = (0.02, 0.1)
    deviations: tuple[float, float] = (0.1, 0.25)

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha: expected a probability between 0 and 1, received {self.alpha}")
        for name in ("psi", "distance", "share", "deviations"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ConfigError(f"{name}: expected 0 <= warning <= drift, received {(low, high)}")

    def severity(self, test: DriftTest) -> tuple[int, float]:
        """How bad a test is beside others: by its verdict, then by how much of the threshold its effect reaches."""
        return _ORDER.index(test.verdict), test.effect / max(getattr(self, test.measure)[1], 1e-12)


@dataclass(frozen=True, kw_only=True)
class DriftTest:
    """One test: what was looked at, how large the difference is, how likely by chance, and what follows."""

    aspect: str
    measure: str
    effect: float
    test: str
    p_value: float | None
    p_adjusted: float | None
    verdict: Verdict
    text: str


@dataclass(frozen=True, kw_only=True)
class ColumnDrift:
    """A column's verdict, the reasons for it, every test, and the two distributions."""

    name: str
    kind: str
    verdict: Verdict
    reasons: tuple[str, ...]
    tests: tuple[DriftTest, ...]
    bars: Bars | None


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What differs between two sets of rows; ``verdict`` is that of the worst column."""

    reference_rows: int
    current_rows: int
    columns: tuple[ColumnDrift, ...]
    config: DriftConfig

    @property
    def verdict(self) -> Verdict:
        """``"stable"``, ``"warning"`` or ``"drift"``."""
        return _worst([column.verdict for column in self.columns])

    @property
    def drifted(self) -> list[str]:
        """The columns whose verdict is ``"drift"``."""
        return [column.name for column in self.columns if column.verdict == "drift"]

    def __getitem__(self, name: str) -> ColumnDrift:
        """The column of that name."""
        return {column.name: column for column in self.columns}[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "verdict": self.verdict,
            "reference_rows": self.reference_rows,
            "current_rows": self.current_rows,
            "config": asdict(self.config),
            "columns": {column.name: asdict(column) for column in self.columns},
        }

    def render(self) -> str:
        """The report as text for a terminal."""
        from deepseek.data.profiles.text_pages import drift_text

        return drift_text(self)

    def to_html(self, title: str = "Drift") -> str:
        """The report as a page of its own, with plots."""
        from deepseek.data.profiles.html_pages import drift_page

        return drift_page(self, title)


def judge(known: Mapping[str, Any], live: LiveRows, config: DriftConfig) -> DriftReport:
    """The report on what has been counted so far."""
    found: list[tuple[str, Comparison]] = []
    for name, column in live.columns.items():
        reference = live.reference[name]
        absent = column.absent
        if live.rows and absent == live.rows:
            found.append((name, Comparison("schema", "share", 1.0, None, "the column is missing")))
            continue
        for kind, count in column.misfits.items():
            text = f"type changed from {reference['type']} to {kind} in {count:,} rows"
            found.append((name, Comparison("schema", "share", 1.0, None, text)))
        if live.rows:
            found += [(name, comparison) for comparison in compare(reference, column.sketch, absent)]
    random = [index for index, (_, one) in enumerate(found) if one.p_value is not None]
    corrected = dict(zip(random, holm([found[i][1].p_value or 0.0 for i in random]), strict=True))
    tests: dict[str, list[DriftTest]] = {name: [] for name in live.columns}
    for index, (name, one) in enumerate(found):
        adjusted = corrected.get(index)
        tests[name].append(
            DriftTest(
                aspect=one.aspect,
                measure=one.measure,
                effect=one.effect,
                test=one.test,
                p_value=one.p_value,
                p_adjusted=adjusted,
                verdict=_verdict(one, adjusted, config),
                text=one.text,
            )
        )
    columns = [_column(name, live, tests[name]) for name in live.columns]
    for name, kind in live.extra.items():
        reason = f"new column of type {kind}"
        columns.append(ColumnDrift(name=name, kind="new", verdict="warning", reasons=(reason,), tests=(), bars=None))
    return DriftReport(reference_rows=known["rows"], current_rows=live.rows, columns=tuple(columns), config=config)


def _column(name: str, live: LiveRows, tests: list[DriftTest]) -> ColumnDrift:
    verdict = _worst([test.verdict for test in tests])
    return ColumnDrift(
        name=name,
        kind=live.reference[name]["kind"],
        verdict=verdict,
        reasons=tuple(test.text for test in tests if test.verdict != "stable"),
        tests=tuple(tests),
        bars=bars(live.reference[name], live.columns[name].sketch) if live.columns[name].sketch.count else None,
    )


def _verdict(one: Comparison, p_adjusted: float | None, config: DriftConfig) -> Verdict:
    warning, alarm = getattr(config, one.measure)
    if p_adjusted is not None and p_adjusted >= config.alpha:
        return "stable"
    return "drift" if one.effect >= alarm else "warning" if one.effect >= warning else "stable"


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    return max(verdicts, key=_ORDER.index, default="stable")
