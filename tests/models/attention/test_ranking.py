"""The best of short lists are those that topk finds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.models.attention import ranking


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    length=st.integers(1, 150),
    share=st.floats(0, 1),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    equal=st.booleans(),
    seed=st.integers(0, 9),
)
def test_values_are_those_of_topk_and_places_where_they_are(rows, length, share, dtype, equal, seed):
    noise = torch.Generator().manual_seed(seed)
    score = torch.randn(2, rows, length, generator=noise).to(dtype)
    if equal:
        score = score.round()
    score[..., 0] = torch.finfo(dtype).min
    keep = max(1, round(share * length))
    values, places = ranking.best(score, keep)
    assert torch.equal(values, score.topk(keep, -1).values)
    assert torch.equal(score.gather(-1, places), values)
    assert all(len(set(row)) == keep for row in places.flatten(0, 1).tolist())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_rows_are_shared_among_threads(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    score = torch.randn(ranking.ALONE // 10, 47)
    values, places = ranking.best(score, 8)
    want = score.topk(8, -1)
    assert torch.equal(values, want.values)
    assert torch.equal(places, want.indices)


def test_types_that_leave_no_room_for_places_are_ranked_too():
    score = torch.tensor([[torch.finfo(torch.float64).min, 3.0, 4.0]], dtype=torch.float64)
    values, places = ranking.best(score, 2)
    assert values.tolist() == [[4.0, 3.0]]
    assert places.tolist() == [[2, 1]]


def test_scores_are_left_as_they_are():
    score = torch.randn(7, 20)
    before = score.clone()
    ranking.best(score, 3)
    assert torch.equal(score, before)
