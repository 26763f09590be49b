"""All steps together: every row accounted for, memory and stored tables agree, settings come from plain values."""

import numpy as np
import pyarrow as pa
import pytest
import yaml

from deepseek.data import CleaningConfig, Table, clean, clean_table
from deepseek.data.cleaning import MARKS

SETTINGS = """
quality: {preset: short, min_words: 2}
language: {languages: [en, zh]}
pii: {kinds: [email, phone], regions: [US]}
outliers: {columns: [score], action: flag}
label_errors: {min_probability: 0.5}
balance: {max_ratio: 3}
near_duplicates: null
"""
NOUNS = ["film", "plot", "cast", "score", "scene", "story", "camera", "ending", "script", "music"]
GOOD, BAD = ["lovely", "superb", "clever", "moving", "warm"], ["dreadful", "boring", "clumsy", "stale", "hollow"]


def rows(count=400, seed=0):
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for number in range(count):
        bad = number % 5 == 0
        words = rng.choice(BAD if bad else GOOD, 2)
        texts.append(
            f"The {rng.choice(NOUNS)} of number {number} is {words[0]} and the {rng.choice(NOUNS)} {words[1]}."
        )
        labels.append("bad" if bad else "good")
    labels[11] = labels[21] = "bad"
    texts[30] = "Write to bob@example.com or call 650-253-0000, the film is lovely and the cast superb."
    texts[31] = "Das Wetter ist heute schön und wir gehen mit den Kindern in den Park."
    texts[32], texts[33], texts[37] = "$$$%%%^^^&&&***(((", "word", texts[36]
    scores = rng.normal(size=count)
    scores[40] = 1e6
    return pa.table({"text": texts, "label": labels, "score": scores, "id": range(count)})


@pytest.fixture(scope="module")
def config():
    return CleaningConfig.model_validate(yaml.safe_load(SETTINGS))


def test_every_row_is_accounted_for(config):
    table = rows()
    result = clean(table, config)
    assert sorted(result.kept["id"].to_pylist() + result.rejected["id"].to_pylist()) == list(range(400))
    by_row = {row["input_row"]: (row["step"], row["reason"], row["detail"]) for row in result.rejected.to_pylist()}
    assert by_row[31][:2] == ("language", "another language")
    assert by_row[32][:2] == ("quality", "symbols")
    assert by_row[33] == ("quality", "too few words", "1 < 2")
    assert by_row[37][:2] == ("exact duplicates", "exact duplicate")
    kept = {row["id"]: row for row in result.kept.to_pylist()}
    masked = [row["text"] for row in kept.values() if "[EMAIL]" in row["text"]]
    assert all("Write to [EMAIL] or call [PHONE]" in text for text in masked)
    flagged = {name: {row["id"] for row in kept.values() if row[name] is not None} for name in MARKS}
    assert flagged["outlier"] <= {40}
    assert flagged["label_error"] == flagged["suggested_label"] <= {11, 21}
    assert 11 in flagged["label_error"] | {row for row, fate in by_row.items() if fate[0] == "class balance"}
    labels = result.kept["label"].to_pylist()
    assert labels.count("good") <= 3 * labels.count("bad")
    assert sum(result.report.reasons.values()) == result.report.rejected == result.rejected.num_rows
    # rejected rows are as they came
    assert result.rejected["text"].to_pylist() == [table["text"][row].as_py() for row in by_row]


def test_a_stored_table_gives_the_same(config, tmp_path):
    table = rows()
    result = clean(table, config)
    source = Table.create(tmp_path / "raw.lance", table.slice(0, 150))
    source.append(table.slice(150))
    stored, report = clean_table(source, tmp_path / "clean.lance", config)
    assert stored.to_arrow().to_pylist() == result.kept.to_pylist()
    assert Table.open(tmp_path / "clean.rejects.lance").to_arrow().to_pylist() == result.rejected.to_pylist()
    assert report.to_dict() == result.report.to_dict()


def test_between_splits_looks_for_repeats_only(config):
    again = config.between_splits()
    assert [step.step for step in clean(rows(), again).report.steps] == [
        "row checks",
        "exact duplicates",
        "conflicting labels",
    ]
    assert clean(rows(), again).kept.column_names == rows().column_names


def test_what_is_off_does_nothing():
    names = [step.step for step in clean(rows()).report.steps]
    assert names == ["row checks", "exact duplicates", "conflicting labels", "near duplicates"]


def test_the_terminal_table_says_what_was_found(config, tmp_path):
    from rich.console import Console

    console = Console(record=True, width=140, file=(tmp_path / "out.txt").open("w"))
    console.print(clean(rows(), config).report.render())
    shown = console.export_text()
    assert "found: email 1, phone 1" in shown
    assert "flagged: outlier in score 1" in shown
