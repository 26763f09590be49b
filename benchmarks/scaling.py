"""Claim: time grows in proportion to rows, and a model fitted up to 1M rows predicts 10M; see docs/scale.md.

    make bench NAME=scaling                             all four kinds of work, about 20 minutes on two quiet cores
    make bench NAME=scaling ARGS="--only profile"       one of them, merged into the results that are there
    make bench NAME=scaling ARGS="--quick --output /tmp/scaling.json"    a smoke test; its figures mean nothing

Each kind of work runs on tables of growing size with one and two cores, and on Ray nodes of one core each on this very
machine, which shows what the cluster costs, not what more machines bring. The contestants of one size take turns; data
is in the page cache. Of each size ``seconds = fixed + rows * per_row`` is fitted to the sizes up to 1M, and the largest
size is compared with what that predicts.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import ROOT, Figure, Measured, Worker, alternate, say, write_results
from benchmarks.scaling_page import write_page
from benchmarks.scaling_plot import draw

STEPS = "benchmarks.scaling_steps"
SIZES = {
    "ingestion": (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
    "profile": (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
    "point_in_time": (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
    "cleaning": (30_000, 100_000, 300_000, 1_000_000),
}
FITTED_UP_TO = {"cleaning": 100_000}
"""Sizes that the model is fitted to; 1M unless said otherwise. The largest size is predicted by ten times the rows."""
PLACES = {"1 core": (1, 0), "2 cores": (2, 0), "Ray, 1 node": (2, 1), "Ray, 2 nodes": (2, 2)}
"""Name to cores that the process may use and Ray nodes; a node has one core."""
LIBRARIES = ("deepseek", "pylance", "pyarrow", "ray", "numpy")


def main() -> None:
    """Measure, and leave the figures in results/scaling.json and the curve in docs/scaling.svg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(SIZES), help="this kind of work alone; may be repeated")
    parser.add_argument("--most", type=int, default=10_000_000, help="leave out sizes above this many rows")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default 3)")
    parser.add_argument("--quick", action="store_true", help="small data, to see that everything runs")
    parser.add_argument("--folder", type=Path, help="where the data may lie meanwhile (default: the temporary folder)")
    parser.add_argument("--output", type=Path, help="the result file (default: benchmarks/results/scaling.json)")
    options = parser.parse_args()
    if options.quick and options.output is None:
        parser.error("--quick measures nothing of worth; say with --output where its figures may go")
    for work in options.only or SIZES:
        sizes = (1_000, 2_000, 5_000) if options.quick else tuple(n for n in SIZES[work] if n <= options.most)
        limit = sizes[1] if options.quick else FITTED_UP_TO.get(work, 1_000_000)
        with tempfile.TemporaryDirectory(dir=options.folder, prefix=f"bench-{work}-") as folder:
            for curve in measure(work, sizes, Path(folder), 1 if options.quick else options.rounds):
                if len(curve["2 cores"]) > 1:  # written size by size: an interrupted run keeps what it has measured
                    figures = figures_of(work, curve, limit)
                    target = write_results("scaling", figures, versions=LIBRARIES, peers={}, target=options.output)
        for key, figure in figures.items():
            say(f"{key} = {figure.value:.4g} {figure.unit}")
        if options.output is None:
            draw(target, ROOT / "docs" / "scaling.svg")
            write_page(target, ROOT / "docs" / "scale.md")


Curve = dict[str, dict[int, Measured]]


def measure(work: str, sizes: tuple[int, ...], folder: Path, rounds: int) -> Iterator[Curve]:
    """Seconds by place and rows, after each size."""
    curve: Curve = {place: {} for place in PLACES}
    with ExitStack() as stack:
        places = {name: stack.enter_context(_place(*place)) for name, place in PLACES.items()}
        maker = stack.enter_context(Worker(STEPS))
        for rows in sizes:
            say(f"{work}: {rows:,} rows: writing")
            path = _data(maker, work, folder / str(rows), rows)
            turns = {name: partial(worker.run, work, path=path) for name, worker in places.items()}
            if rows == sizes[0]:
                alternate(turns, 1)  # without counting: imports, page cache
            found = alternate(turns, rounds if rows < 10_000_000 else min(rounds, 2))
            if len({each.value["rows"] for each in found.values()}) > 1:
                raise AssertionError(f"{work}: the results differ: { {k: v.value for k, v in found.items()} }")
            for name, each in found.items():
                curve[name][rows] = each
            shutil.rmtree(folder / str(rows))
            yield curve


@contextmanager
def _place(cores: int, nodes: int) -> Iterator[Worker]:
    with Worker(STEPS) as worker:
        reply = worker.run("restrict", cores=cores, nodes=nodes)
        if nodes:
            say(f"Ray with {nodes} nodes started in {reply['seconds']:.1f} s")
        yield worker


def _data(maker: Worker, work: str, folder: Path, rows: int) -> str:
    folder.mkdir()
    if work == "point_in_time":
        maker.run("make_requests", folder=str(folder), rows=rows)
        return str(folder)
    table = str(folder / "table")
    say(f"  {maker.run('make_table', path=table, rows=rows)['value'] / 1e6:,.1f} MB as a table")
    if work != "ingestion":
        return table
    source = str(folder / "rows.csv")
    say(f"  {maker.run('make_csv', table=table, path=source)['value'] / 1e6:,.1f} MB as CSV")
    return source


def fitted(points: Mapping[int, float]) -> tuple[float, float]:
    """``(fixed, per_row)`` in seconds that fit best by relative error, neither of them negative."""
    weights = {rows: 1 / seconds**2 for rows, seconds in points.items()}
    total = sum(weights.values())
    mean_rows = sum(w * n for n, w in weights.items()) / total
    mean = sum(w * points[n] for n, w in weights.items()) / total
    spread = sum(w * (n - mean_rows) ** 2 for n, w in weights.items())
    slope = sum(w * (n - mean_rows) * (points[n] - mean) for n, w in weights.items()) / spread
    fixed = mean - slope * mean_rows
    if fixed < 0:
        return 0.0, sum(w * n * points[n] for n, w in weights.items()) / sum(w * n * n for n, w in weights.items())
    return fixed, slope


def figures_of(work: str, curve: Curve, limit: int) -> dict[str, Figure]:
    """What goes into the result file of one kind of work."""
    found: dict[str, Figure] = {}
    for place, each in curve.items():
        key = f"{work}_{_key(place)}"
        for rows, measured in each.items():
            found[f"{key}_{rows}"] = Figure(
                value=measured.median,
                unit="s",
                note=f"{rows:,} rows, {place}: {rows / measured.median:,.0f} rows/s; {measured}",
            )
        points = {rows: measured.median for rows, measured in each.items()}
        found[f"{key}_predicted"] = _prediction(points, limit, "s", place)
    busy = {rows: busy_seconds(measured) for rows, measured in curve["2 cores"].items()}
    for rows, seconds in busy.items():
        found[f"{work}_cpu_{rows}"] = Figure(value=seconds, unit="core seconds", note=f"{rows:,} rows, 2 cores")
    found[f"{work}_cpu_predicted"] = _prediction(busy, limit, "core seconds", "2 cores")
    large = max(busy)
    upper = {rows: seconds for rows, seconds in busy.items() if rows * 40 >= large}
    note = f"core seconds ~ rows^exponent, {min(upper):,} to {large:,} rows, 2 cores"
    found[f"{work}_growth_exponent"] = Figure(
        value=_exponent(upper), unit="exponent", baseline=1.0, baseline_name="linear", note=note
    )
    one, two = curve["1 core"][large].median, curve["2 cores"][large].median
    found[f"{work}_speedup_2_cores"] = Figure(
        value=one / two, unit="times faster", baseline=2.0, baseline_name="ideal", note=f"{large:,} rows"
    )
    ray_one, ray_two = curve["Ray, 1 node"][large].median, curve["Ray, 2 nodes"][large].median
    found[f"{work}_ray_overhead"] = Figure(
        value=ray_two / two,
        unit="times the local seconds",
        baseline=1.0,
        baseline_name="2 cores, threads",
        note=f"{large:,} rows, two Ray nodes of one core each on the same machine",
    )
    found[f"{work}_ray_speedup_2_nodes"] = Figure(
        value=ray_one / ray_two, unit="times faster", baseline=2.0, baseline_name="ideal", note=f"{large:,} rows"
    )
    return found


def _prediction(points: Mapping[int, float], limit: int, unit: str, place: str) -> Figure:
    """The largest size as measured, against what the smaller ones predict."""
    few = {rows: seconds for rows, seconds in points.items() if rows <= limit}
    largest = max(points)
    fixed, slope = fitted(few)
    return Figure(
        value=points[largest],
        unit=unit,
        baseline=fixed + slope * largest,
        baseline_name=f"predicted from up to {max(few):,} rows",
        note=f"{largest:,} rows, {place}; model: {fixed:.4g} s + {slope * 1e6:.4g} s per million rows",
    )


def busy_seconds(measured: Measured) -> float:
    """Seconds that cores were busy, which other programs on the machine disturb less than the time on the wall."""
    return min(value["cpu"] for value in measured.values)


def _exponent(points: Mapping[int, float]) -> float:
    """The slope of log(seconds) over log(rows)."""
    xs, ys = [math.log(n) for n in points], [math.log(s) for s in points.values()]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def _key(place: str) -> str:
    return place.lower().replace(",", "").replace(" ", "_")


if __name__ == "__main__":
    main()
