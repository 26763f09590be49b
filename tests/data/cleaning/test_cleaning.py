"""Cleaning: every row is accounted for, held-out sets are never touched by leakage, similarity is exact."""

import json
from collections import Counter
from itertools import combinations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from deepseek.data import CleaningConfig, Table, clean, clean_table, datasets
from deepseek.data.cleaning import REJECT_FIELDS
from deepseek.data.cleaning.similarity import jaccard, shingles
from deepseek.data.text_key import text_key
from deepseek.errors import DataError, TableError, UnknownNameError

SCHEMA = pa.schema([("text", pa.string()), ("label", pa.string()), ("split", pa.string())])
WORDS = ["good", "Good", "bad", "film", "film!", "very", "the", "plot", "a", "été", "很好", ":)"]
TEXTS = st.none() | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": TEXTS,
            "label": st.sampled_from(["pos", "neg", None]),
            "split": st.sampled_from(["train", "train", "test", "validation"]),
        }
    ),
    max_size=25,
)
CONFIGS = st.builds(
    CleaningConfig,
    near_duplicates=st.sampled_from([None, 0.5, 0.8, 1.0]),
    conflicting_labels=st.sampled_from(["reject", "keep-first", None]),
    exact_duplicates=st.booleans(),
    max_chars=st.sampled_from([20, 20_000]),
    on_too_long=st.sampled_from(["reject", "truncate"]),
    shingle_chars=st.sampled_from([3, 5]),
)


def table(*rows, **columns):
    return (
        pa.table(columns) if columns else pa.Table.from_pylist([dict(zip(SCHEMA.names, r, strict=False)) for r in rows])
    )


def reasons(result):
    return list(
        zip(*(result.rejected[name].to_pylist() for name in ("input_row", "reason", "duplicate_of")), strict=True)
    )


@settings(max_examples=150, deadline=None)
@given(ROWS, CONFIGS)
def test_every_row_is_kept_or_rejected_with_a_reason(rows, config):
    given_table = pa.Table.from_pylist(rows, SCHEMA).append_column("id", pa.array(range(len(rows)), pa.int64()))
    result = clean(given_table, config, split="split")
    ids = result.kept["id"].to_pylist() + result.rejected["id"].to_pylist()
    assert sorted(ids) == list(range(len(rows)))
    assert result.kept["id"].to_pylist() == sorted(result.kept["id"].to_pylist())
    # rejected rows are as they came, and know where they stood
    assert result.rejected["input_row"].to_pylist() == result.rejected["id"].to_pylist()
    assert result.rejected.drop_columns(REJECT_FIELDS.names).to_pylist() == [
        given_table.take([i]).to_pylist()[0] for i in result.rejected["id"].to_pylist()
    ]
    assert all(result.rejected["reason"].to_pylist())
    assert sum(result.report.reasons.values()) == result.report.rejected == result.rejected.num_rows
    assert Counter(result.rejected["reason"].to_pylist()) == result.report.reasons


@settings(max_examples=150, deadline=None)
@given(ROWS, CONFIGS)
def test_cleaning_twice_changes_nothing(rows, config):
    once = clean(pa.Table.from_pylist(rows, SCHEMA), config, split="split").kept
    twice = clean(once, config, split="split")
    assert twice.rejected.num_rows == 0
    assert twice.kept.equals(once)


@settings(max_examples=150, deadline=None)
@given(ROWS, CONFIGS)
def test_no_held_out_text_stays_in_training_and_held_out_rows_stay(rows, config):
    given_table = pa.Table.from_pylist(rows, SCHEMA)
    result = clean(given_table, config, split="split")
    keys = Counter((row["split"] != "train", text_key(row["text"])) for row in result.kept.to_pylist())
    assert not {key for held, key in keys if held} & {key for held, key in keys if not held}
    leaked = [row for row in result.rejected.to_pylist() if row["step"] == "leakage"]
    assert all(row["split"] == "train" for row in leaked)
    held_out = given_table.filter(pa.compute.field("split") != "train")
    alone = clean(held_out, config, split="split").kept
    assert [row for row in result.kept.to_pylist() if row["split"] != "train"] == alone.to_pylist()


LETTERS = st.text("abcd ", min_size=12, max_size=40).map(lambda text: " ".join(text.split())).filter(bool)


@settings(max_examples=80, deadline=None)
@given(st.lists(LETTERS, min_size=2, max_size=14), st.integers(0, 13), st.integers(0, 9), st.integers(0, 99))
def test_near_duplicates_against_all_pairs(texts, source, place, seed):
    original = texts[source % len(texts)]
    texts = [*texts, original[:place] + "d" + original[place:], original + "a"]
    config = CleaningConfig(near_duplicates=0.7, shingle_chars=3, exact_duplicates=False, seed=seed)
    result = clean(pa.table({"text": texts}), config, label=None)
    sets = [shingles(text_key(text), 3) for text in texts]
    for row, _reason, other in reasons(result):
        assert other < row
        assert jaccard(sets[row], sets[other]) >= 0.7
    kept = sorted(set(range(len(texts))) - set(result.rejected["input_row"].to_pylist()))
    # signatures may miss a pair just above the threshold with a probability of 1 in 2,000; not a pair far above it
    assert all(jaccard(sets[a], sets[b]) < 0.85 for a, b in combinations(kept, 2))


def test_reasons_of_the_row_checks():
    data = table(
        (None, "a"), ("", "a"), (" \t\u3000", "a"), ("x" * 1_000_000, "a"), ("fine", None), ("fine", " "), ("ok", "a")
    )
    result = clean(data, CleaningConfig(min_chars=2))
    assert [reason for _, reason, _ in reasons(result)] == [
        "missing text",
        "empty text",
        "empty text",
        "longer than 20000 characters",
        "no label",
        "no label",
    ]
    assert result.kept["text"].to_pylist() == ["ok"]
    assert clean(table(("a", "x"), ("ab", "x")), CleaningConfig(min_chars=2)).report.reasons == {
        "shorter than 2 characters": 1
    }


def test_too_long_can_be_truncated():
    result = clean(table(("x" * 1_000_000, "a")), CleaningConfig(max_chars=100, on_too_long="truncate"))
    assert result.kept["text"].to_pylist() == ["x" * 100]
    assert result.report.steps[0].changed == 1


def test_normalisation():
    result = clean(table(("  e\u0301te\u0301 \n rouge ", "a")))
    assert result.kept["text"].to_pylist() == ["été rouge"]
    raw = clean(table(("  a  b ", "a")), CleaningConfig(normalise=False))
    assert raw.kept["text"].to_pylist() == ["  a  b "]


def test_duplicates_and_conflicts():
    rows = table(
        ("Good film!", "pos"), ("good  film", "pos"), ("bad", "neg"), ("Bad.", "pos"), (":)", "pos"), (":(", "neg")
    )
    assert reasons(clean(rows)) == [
        (1, "exact duplicate", 0),
        (2, "conflicting labels", None),
        (3, "conflicting labels", 2),
    ]
    first = clean(rows, CleaningConfig(conflicting_labels="keep-first"))
    assert reasons(first)[1:] == [(3, "conflicting labels", 2)]
    assert [row for row, _, _ in reasons(clean(rows, label=None))] == [1, 3]


def test_near_duplicates_need_equal_labels():
    text = "it is a long and winding story about people who are good"
    assert clean(table((text, "pos"), (text + "s", "neg"))).rejected.num_rows == 0
    assert reasons(clean(table((text, "pos"), (text + "s", "pos")))) == [(1, "near duplicate", 0)]


def test_leakage_removes_the_training_row_whatever_its_label():
    text = "it is a long and winding story about people who are good"
    rows = table(
        ("Same", "pos", "train"), (text, "neg", "train"), ("same!", "neg", "test"), (text + "s", "pos", "validation")
    )
    assert reasons(clean(rows, split="split")) == [
        (0, "leakage: equals a held-out row", 2),
        (1, "leakage: nearly equals a held-out row", 3),
    ]
    assert clean(rows, CleaningConfig(leakage=False), split="split").rejected.num_rows == 0


def test_errors():
    with pytest.raises(UnknownNameError, match="Did you mean 'label'"):
        clean(table(("a", "b")), label="lable")
    with pytest.raises(DataError, match="expected text"):
        clean(table(text=[1], label=["a"]))
    with pytest.raises(DataError, match="'reason'"):
        clean(table(text=["a"], label=["a"], reason=["mine"]))
    for wrong in ({"min_chars": 0}, {"near_duplicates": 1.5}, {"min_char": 1}, {"min_chars": 9, "max_chars": 8}):
        with pytest.raises(ValidationError):
            CleaningConfig(**wrong)


def test_empty_table_stays_empty():
    result = clean(pa.Table.from_pylist([], SCHEMA), split="split")
    assert (result.kept.num_rows, result.rejected.num_rows) == (0, 0)


def test_config_schema_describes_every_field():
    schema = CleaningConfig.model_json_schema()
    assert all(field.get("description") for field in schema["properties"].values())


def test_report_for_people_and_programs(tmp_path):
    from rich.console import Console

    report = clean(table(("<b>x</b>", "pos"), ("<b>x</b>", "pos"), ("", "neg"))).report
    assert json.loads(report.to_json())["rejected"] == 2
    console = Console(record=True, width=120, file=(tmp_path / "out.txt").open("w"))
    console.print(report.render())
    assert "exact duplicate: 1" in console.export_text()
    page = report.to_html(tmp_path / "report.html").read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x" not in page
    assert "http" not in page


def test_clean_table_writes_both_tables(tmp_path):
    source = Table.create(
        tmp_path / "raw.lance", table(("a", "x"), ("a", "x"), ("b", "y")), metadata={"license": "MIT"}
    )
    cleaned, report = clean_table(source, tmp_path / "clean.lance")
    assert [row["text"] for row in cleaned.rows()] == ["a", "b"]
    assert cleaned.metadata == {"license": "MIT", "cleaned_from": "raw.lance", "cleaned_from_version": "1"}
    rejects = Table.open(tmp_path / "clean.rejects.lance")
    assert [row["reason"] for row in rejects.rows()] == ["exact duplicate"]
    assert report.rejected == 1
    with pytest.raises(TableError, match="overwrite=True"):
        clean_table(source, tmp_path / "clean.lance")
    clean_table(cleaned, tmp_path / "clean.lance", overwrite=True)
    assert len(Table.open(rejects.path)) == 0


def test_real_movie_sentences():
    data = pa.Table.from_pylist(list(datasets.load_dataset_rows("hutto-movie-reviews")))
    result = clean(data)
    assert result.report.reasons == {"no label": 37, "exact duplicate": 2}
    assert result.kept.num_rows == 10_566


def test_real_tweets_with_duplicates():
    data = pa.Table.from_pylist(list(datasets.load_dataset_rows("hutto-tweets")))
    result = clean(data)
    assert result.report.reasons == {
        "no label": 4,
        "exact duplicate": 153,
        "conflicting labels": 2,
        "near duplicate": 7,
    }
    texts = data["text"].to_pylist()
    for row, reason, other in reasons(result):
        if reason == "near duplicate":
            assert jaccard(shingles(text_key(texts[row]), 5), shingles(text_key(texts[other]), 5)) >= 0.8


def test_the_result_does_not_depend_on_the_process():
    import os
    import subprocess
    import sys

    script = (
        "import pyarrow as pa; from deepseek.data import clean, datasets\n"
        "r = clean(pa.Table.from_pylist(list(datasets.load_dataset_rows('hutto-tweets'))))\n"
        "print(r.rejected['input_row'].to_pylist())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": s},
        ).stdout
        for s in "12"
    ]
    assert runs[0] == runs[1]
