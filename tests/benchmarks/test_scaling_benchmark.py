"""The scaling benchmark's arithmetic: the fitted model, its figures, the page and the picture made from them."""

from __future__ import annotations

import json

import pytest

from benchmarks.harness import Measured
from benchmarks.scaling import PLACES, figures_of, fitted
from benchmarks.scaling_page import write_page
from benchmarks.scaling_plot import draw


def test_the_model_is_recovered():
    fixed, slope = fitted({rows: 0.5 + 2e-6 * rows for rows in (100_000, 300_000, 1_000_000)})
    assert (fixed, slope) == (pytest.approx(0.5), pytest.approx(2e-6))
    assert fitted({100: 0.9e-4, 1000: 1e-3})[0] == 0


def test_figures_page_and_picture(tmp_path):
    def measured(seconds: float) -> Measured:
        return Measured(rounds=(seconds, seconds * 1.1), peak_mb=100, values=({"rows": 1, "cpu": seconds * 2},) * 2)

    sizes = (100_000, 1_000_000, 10_000_000)
    curve = {place: {rows: measured(0.1 + rows * 1e-6) for rows in sizes} for place in PLACES}
    figures = {key: figure.as_dict() for key, figure in figures_of("profile", curve, 1_000_000).items()}
    assert figures["profile_cpu_predicted"]["ratio"] == pytest.approx(1)
    assert figures["profile_growth_exponent"]["value"] == pytest.approx(1, abs=0.05)
    results, page = tmp_path / "scaling.json", tmp_path / "scale.md"
    results.write_text(
        json.dumps(
            {"date": "2026-11-24T00:00:00", "commit": "c" * 40, "hardware": {"processor": "p"}, "figures": figures}
        )
    )
    page.write_text(
        "a\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nb\n<!-- costs: begin -->\n<!-- costs: end -->\n"
    )
    for _ in range(2):
        write_page(results, page)
    text = page.read_text()
    assert "old" not in text
    assert text.count("| Profile of all columns | 10,000,000 |") == 1
    assert "core hours" in text
    draw(results, tmp_path / "scaling.svg")
    assert (tmp_path / "scaling.svg").read_text().count("<polyline") == len(PLACES)
