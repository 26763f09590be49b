"""Picking tokens for many requests at once, against one row at a time and against transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.inference.generation import SamplingParameters
from deepseek.inference.generation.torch.drawing import Draws
from deepseek.inference.generation.torch.picking import Occurrences, Row, draw, narrowed, penalised, pick, restrict

SIZE = 40
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def logits_of(seed: int, rows: int, size: int = SIZE) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 3


SAMPLING = st.builds(
    SamplingParameters,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 5, 39, 1000]),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 1e-6]),
    min_p=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.7]),
    presence_penalty=st.sampled_from([0.0, 1.5]),
    frequency_penalty=st.sampled_from([0.0, 0.6]),
    logprobs=st.sampled_from([None, 0, 3]),
)


@settings(max_examples=120, deadline=None)
@given(each=st.lists(SAMPLING, min_size=1, max_size=6), seed=st.integers(0, 10_000))
def test_a_row_is_picked_as_if_it_were_alone(each: list[SamplingParameters], seed: int) -> None:
    logits = logits_of(seed, len(each))

    def rows() -> list[Row]:
        found = []
        for at, sampling in enumerate(each):
            held = Occurrences([at, 7], [3, 3, at], SIZE, CPU) if penalised(sampling) else None
            found.append(Row(sampling, Draws(seed + at).at(2), 3, barred=[at] if at % 2 else [], penalties=held))
        return found

    tokens, logprobs = pick(logits.clone(), rows())
    for at, row in enumerate(rows()):
        [alone], [told] = pick(logits[at : at + 1].clone(), [row])
        assert tokens[at] == alone == plain(logits[at], row)
        assert (logprobs[at] is None) == (told is None) == (row.sampling.logprobs is None)
        if told is not None and logprobs[at] is not None:
            expected = torch.log_softmax(logits[at], -1)
            assert logprobs[at].logprob == pytest.approx(float(expected[alone]), abs=1e-5)
            assert [token for token, _ in logprobs[at].top] == expected.topk(
                row.sampling.logprobs or 0
            ).indices.tolist()


def plain(logits: torch.Tensor, row: Row) -> int:
    """One row by transformers' processors and warpers, then the inverse of the distribution."""
    sampling = row.sampling
    scores = logits.clone()
    scores[list(row.barred)] = -torch.inf
    if row.penalties is not None:
        seen = row.penalties.seen_V.nonzero().T
        scores = transformers.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(seen, scores[None])[0]
        counts = row.penalties.counts_V
        scores = scores - sampling.presence_penalty * (counts > 0) - sampling.frequency_penalty * counts
    if sampling.greedy:
        return int(scores.argmax())
    probabilities = torch.softmax(warped(scores[None], sampling)[0].double(), -1)
    assert row.draw < 1
    return int((probabilities.cumsum(-1) > row.draw * probabilities.sum()).int().argmax())


def warped(scores: torch.Tensor, sampling: SamplingParameters) -> torch.Tensor:
    ids = torch.zeros(1, 1, dtype=torch.long)
    warpers: list[Any] = [transformers.TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        warpers.append(transformers.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(transformers.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        warpers.append(transformers.MinPLogitsWarper(sampling.min_p))
    for warper in warpers:
        scores = warper(ids, scores)
    return scores


@pytest.mark.parametrize("size", [SIZE, 5000], ids=["sorted", "candidates"])
@pytest.mark.parametrize(
    "narrow",
    [{"top_k": 4}, {"top_p": 0.8}, {"top_p": 0.3, "min_p": 0.2}, {"top_k": 20, "top_p": 0.7, "min_p": 0.01}, {}],
    ids=["top-k", "top-p", "top-p-min-p", "all", "none"],
)
def test_the_tokens_that_are_left_are_those_of_transformers(narrow: dict[str, Any], size: int) -> None:
    logits = logits_of(3, 4, size) * 2
    each = [SamplingParameters(temperature=t, **narrow) for t in (0.5, 1.0, 1.3, 2.0)]
    ours = narrowed(logits, each)
    theirs = torch.cat([warped(row[None], sampling) for row, sampling in zip(logits, each, strict=True)])
    torch.testing.assert_close(ours, theirs)


def test_a_flat_distribution_needs_more_than_the_candidates() -> None:
    logits = logits_of(1, 1, 5000) * 0.01
    sampling = SamplingParameters(temperature=1.0, top_p=0.9)
    assert torch.isfinite(narrowed(logits, [sampling])).sum() == torch.isfinite(warped(logits, sampling)).sum() > 4000


def test_tokens_come_as_often_as_they_are_probable() -> None:
    logits = logits_of(5, 1, 8).repeat(4000, 1) / 3
    sampling = SamplingParameters(temperature=1.0)
    draws = Draws(11)
    tokens = draw(logits.clone(), [Row(sampling, draws.at(place), 0) for place in range(4000)])
    share = torch.bincount(tokens, minlength=8) / 4000
    torch.testing.assert_close(share, torch.softmax(logits[0], -1), atol=0.03, rtol=0)


@pytest.mark.parametrize("drawn", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_give_tokens_that_are_possible(drawn: float) -> None:
    logits = torch.full((1, SIZE), -torch.inf)
    logits[0, 7], logits[0, 9] = 1.0, 1.0
    token = int(draw(logits, [Row(SamplingParameters(temperature=1.0), drawn, 0)]))
    assert token == (7 if drawn == 0 else 9)


def test_numbers_are_those_of_the_seed_and_the_place() -> None:
    late, early = Draws(4), Draws(4)
    assert late.at(200) == [early.at(place) for place in range(201)][200]
    assert Draws(5).at(0) != Draws(4).at(0)
    assert Draws(None).at(0) != Draws(None).at(0)


def test_masks_and_bars_leave_the_other_rows_alone() -> None:
    pytest.importorskip("xgrammar")
    logits = logits_of(9, 3)
    mask = torch.zeros(1, 2, dtype=torch.int32)
    mask[0, 0] = 1 << 4
    rows = [
        Row(SamplingParameters(), 0, 0),
        Row(SamplingParameters(), 0, 0, mask=mask),
        Row(SamplingParameters(), 0, 0),
    ]
    rows[2].barred = [0, 5]
    changed = logits.clone()
    restrict(changed, rows)
    assert torch.equal(changed[0], logits[0])
    assert torch.isfinite(changed[1]).nonzero().flatten().tolist() == [4]
    assert torch.isinf(changed[2]).nonzero().flatten().tolist() == [0, 5]
