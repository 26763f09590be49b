"""The baseline counts what the script's words are made of."""

from __future__ import annotations

import random

from deepseek.tasks import TASKS
from deepseek.training import tfidf_baseline


def _chinese(count: int, seed: int) -> list[dict[str, str]]:
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        noise = "".join(chr(draw.randrange(0x4E00, 0x4F00)) for _ in range(20))
        place = draw.randrange(20)
        rows.append(
            {"text": noise[:place] + ("喜欢" if i % 2 else "讨厌") + noise[place:], "label": "+" if i % 2 else "-"}
        )
    return rows


def test_chinese_is_counted_by_characters() -> None:
    train, test = _chinese(120, 1), _chinese(60, 2)
    task = TASKS.get("text-classification")().fitted(train)
    assert tfidf_baseline(task, train, test)["accuracy"] == 1.0  # no two texts share a word between spaces


def test_english_is_counted_by_words() -> None:
    # the same letters in both classes: only whole words tell them apart
    rows = [{"text": f"{'no on' if i % 2 else 'on no'} {i % 7}", "label": "+" if i % 2 else "-"} for i in range(80)]
    task = TASKS.get("text-classification")().fitted(rows)
    assert tfidf_baseline(task, rows[:40], rows[40:])["accuracy"] == 1.0
