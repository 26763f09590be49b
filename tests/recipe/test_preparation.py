"""Cleaning and splitting of a run: nothing is lost, and every reject can be found again in the input."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepseek.data import CleaningConfig, SplitConfig, Table
from deepseek.data.table.rejects import rejects_path
from deepseek.recipe.preparation import prepare

SPLIT = SplitConfig(test=0.4, validation=0)


def rows() -> list[dict[str, str]]:
    found = []
    for n in range(60):
        words = f"sentence number {n} of a long and winding tale about item {n * 7919} in the house of {n * 104729}"
        found.append({"text": words, "label": "ab"[n % 2]})
        if n % 5 == 0:
            found.append({"text": words.upper(), "label": "ab"[n % 2]})  # an exact duplicate
        if n % 7 == 0:
            found.append({"text": words + "!x", "label": "ba"[n % 2]})  # nearly equal, with another label
    return found


def test_every_row_is_kept_or_rejected_under_its_own_number(tmp_path: Path) -> None:
    raw = Table.create(tmp_path / "raw.lance", rows())
    prepared = prepare(raw, tmp_path, CleaningConfig(), SPLIT, text="text", label="label")
    kept = prepared.table.to_arrow().to_pylist()
    rejected = Table.open(rejects_path(prepared.table.path)).to_arrow().to_pylist()
    assert {"exact duplicate", "leakage: nearly equals a held-out row"} <= set(prepared.reasons)
    assert len(kept) + len(rejected) == len(raw)
    everything = raw.to_arrow().to_pylist()
    for row in rejected:
        assert everything[row["input_row"]]["text"] == row["text"]
        assert (
            row["duplicate_of"] is None
            or everything[row["duplicate_of"]]["text"].lower()[:40] == row["text"].lower()[:40]
        )
    assert {"train", "test"} == {row["split"] for row in kept}
    assert sorted(entry.name for entry in tmp_path.glob("*.lance")) == [
        "clean.lance",
        "clean.rejects.lance",
        "raw.lance",
    ]


@pytest.mark.parametrize("cleaning", [None, CleaningConfig()])
def test_splits_that_are_given_stay(tmp_path: Path, cleaning: CleaningConfig | None) -> None:
    given = [row | {"split": ("train", "test")[n % 3 == 0]} for n, row in enumerate(rows())]
    raw = Table.create(tmp_path / "raw.lance", given)
    prepared = prepare(raw, tmp_path, cleaning, SPLIT, text="text", label="label")
    wanted = {row["text"]: row["split"] for row in given}
    assert all(wanted[row["text"]] == row["split"] for row in prepared.table.rows())
