"""The formulas against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepseek.data.profiles import significance

stats = pytest.importorskip("scipy.stats")
COUNTS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=2, max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.floats(0, 2000))
def test_chi_square_tail(freedom, statistic):
    assert significance.chi_square_tail(statistic, freedom) == pytest.approx(
        stats.chi2.sf(statistic, freedom), rel=1e-8, abs=1e-13
    )


@settings(max_examples=200, deadline=None)
@given(st.floats(0.01, 8))
def test_kolmogorov_tail(value):
    assert significance.kolmogorov_tail(value) == pytest.approx(stats.kstwobign.sf(value), rel=1e-8, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(COUNTS)
def test_chi_square_where_no_bin_is_rare(pairs):
    counts = np.array(pairs, dtype=float).T
    assume(counts.sum(axis=1).all() and stats.contingency.expected_freq(counts).min() >= 5)
    wanted = stats.chi2_contingency(counts, correction=False)
    statistic, freedom, p_value = significance.chi_square(*counts)
    assert (statistic, freedom) == (pytest.approx(wanted.statistic), wanted.dof)
    assert p_value == pytest.approx(wanted.pvalue, rel=1e-8, abs=1e-13)


def test_rare_bins_are_pooled():
    reference, current = np.array([500.0, 400, 3, 2, 1, 0]), np.array([520.0, 390, 0, 0, 2, 3])
    _, freedom, p_value = significance.chi_square(reference, current)
    wanted = stats.chi2_contingency([[500, 400, 6], [520, 390, 5]], correction=False)
    assert (freedom, p_value) == (2, pytest.approx(wanted.pvalue))
    assert significance.chi_square(np.array([1.0, 2]), np.array([2.0, 1]))[2] == 1
    assert significance.chi_square(np.array([0.0, 0]), np.array([2.0, 1]))[2] == 1


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_kolmogorov_smirnov_on_bins_is_close_to_the_samples(shift):
    r = np.random.default_rng(3)
    first, second = r.normal(size=4000), r.normal(shift, 1, size=1500)
    edges = np.quantile(first, np.linspace(0, 1, 101))
    edges[0], edges[-1] = -np.inf, np.inf
    distance, p_value = significance.kolmogorov_smirnov(
        *(np.histogram(side, edges)[0].astype(float) for side in (first, second))
    )
    wanted = stats.ks_2samp(first, second, method="asymp")
    assert wanted.statistic - 0.015 <= distance <= wanted.statistic + 1e-12
    assert p_value >= wanted.pvalue * 0.7
    if shift == 0.5:
        assert p_value < 1e-20


def test_psi_by_hand():
    first, second = np.array([100.0, 100]), np.array([50.0, 150])
    wanted = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert significance.psi(first, second) == pytest.approx(wanted, rel=0.02)
    assert significance.psi(first, first) == 0
    assert np.isfinite(significance.psi(np.array([100.0, 0]), np.array([0.0, 100])))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm(p_values):
    adjusted = significance.holm(p_values)
    order = np.argsort(p_values, kind="stable")
    steps = [min(1.0, (len(p_values) - rank) * p_values[i]) for rank, i in enumerate(order)]
    assert [adjusted[i] for i in order] == pytest.approx(np.maximum.accumulate(steps).tolist() if steps else [])


def test_outside_tail_is_a_bound():
    """Against 20,000 draws, at sizes where chance alone puts many values outside."""
    r = np.random.default_rng(0)
    first, second = r.random((20_000, 20)), r.random((20_000, 30))
    outside = ((second < first.min(axis=1, keepdims=True)) | (second > first.max(axis=1, keepdims=True))).sum(axis=1)
    for count in (0, 1, 4, 8, 12):
        share = (outside >= count).mean()
        assert share <= significance.outside_tail(20, 30, count) + 0.005
    assert significance.outside_tail(1000, 1000, 40) < 1e-5
