"""GLUE and IMDB: from files in their own formats, from the hub's cache, and from a server that plays the hub."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepseek.data import Table, datasets, ingest, open_source
from deepseek.data.datasets import glue, imdb
from deepseek.data.datasets.glue_tasks import TASKS
from deepseek.data.table.rejects import rejects_path
from deepseek.errors import DataError, FetchError

NAMES = [name for name in datasets.names() if name.startswith("glue-")]

FILES = {
    "CoLA/train.tsv": 'gj04\t1\t\tOur friends won\'t buy this "analysis.\ngj04\t0\t*\tThey drank the pub.\n',
    "CoLA/dev.tsv": "gj04\t1\t\tThe sailors rode the breeze clear of the rocks.\n",
    "CoLA/test.tsv": "index\tsentence\n0\tBill whistled past the house.\n",
    "SST-2/train.tsv": "sentence\tlabel\nhide new secretions from the parental units \t0\ncontains no wit , only labored gags \t1\n",
    "SST-2/dev.tsv": "sentence\tlabel\nit 's a charming and often affecting journey . \t1\n",
    "SST-2/test.tsv": "index\tsentence\n0\tuneasy mishmash of styles and genres .\n",
    "MRPC/train.tsv": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        '1\t702876\t702977\t"Amrozi accused his brother , whom he called " the witness " .\tReferring to him as only " the witness " .\n'
        "0\t2108705\t2108831\tYucaipa owned Dominick 's .\tYucaipa bought Dominick 's .\n"
    ),
    "MRPC/dev.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t1\t2\tHe said so .\tSo he said .\r\n",
    "MRPC/test.tsv": "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t3\t4\tA .\tB .\n",
    "QQP/train.tsv": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        '133273\t213221\t213222\tHow is the life of a math student?\tWhich level of preparation is enough for the exam "jlpt5?\t0\n'
        "402555\t536040\t536041\tHow do I control my horny\n"
        "emotions?\tHow do you control your horniness?\t1\n"
        "360472\t364011\t490273\tWhat causes stool color to change?\tWhat can cause stool to come out as little balls?\t1\n"
    ),
    "QQP/dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tHow come?\t1\n",
    "QQP/test.tsv": "id\tquestion1\tquestion2\n0\tWould the idea fly?\tWhat is it?\n",
    "STS-B/train.tsv": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tmain-captions\tMSRvid\t2012test\t0001\tnone\tnone\tA plane is taking off.\tAn air plane is taking off.\t5.000\n"
        "1\tmain-captions\tMSRvid\t2012test\t0004\tnone\tnone\tA man plays a flute.\tA man eats.\t0.5\n"
        "2\tmain-captions\tMSRvid\t2012test\t0005\tnone\tnone\tA man.\tA dog.\t7.5\n"
    ),
    "STS-B/dev.tsv": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tmain-captions\tMSRvid\t2012test\t0000\tnone\tnone\tA man with a hard hat.\tA man in a hat.\t4.750\n"
    ),
    "STS-B/test.tsv": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\n"
        "0\tmain-captions\tMSRvid\t2012test\t0024\tnone\tnone\tA girl styles her hair.\tA girl brushes her hair.\n"
    ),
    "QNLI/train.tsv": (
        "index\tquestion\tsentence\tlabel\n"
        '0\tWhen did it begin?\t"The war began in 1914\tentailment\n1\tWho?\tNobody knows."\tnot_entailment\n'
        "2\tWhat is this?\tA row with another label\tmaybe\n"
    ),
    "QNLI/dev.tsv": "index\tquestion\tsentence\tlabel\n0\tWhat?\tThat.\tentailment\n",
    "QNLI/test.tsv": "index\tquestion\tsentence\n0\tWhere?\tThere.\n",
    "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tNo weapons were found.\tWeapons were found.\tnot_entailment\n1\tA b.\tB.\tentailment\n",
    "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tDana died in 2004.\tDana died.\tentailment\n",
    "RTE/test.tsv": "index\tsentence1\tsentence2\n0\tX.\tY.\n",
    "WNLI/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tI stuck a pin through a carrot. It had a hole.\tThe carrot had a hole.\t1\n1\tA.\tB.\t0\n",
    "WNLI/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tC.\tD.\t0\n",
    "WNLI/test.tsv": "index\tsentence1\tsentence2\n0\tE.\tF.\n",
}  # fmt: skip
_MNLI = "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2"
_START = "0\t31193\t31193n\tgovernment\t( a )\t( b )\t(ROOT a)\t(ROOT b)"
FILES["MNLI/train.tsv"] = f"{_MNLI}\tlabel1\tgold_label\n" + "".join(
    f"{_START}\tConceptually cream {n}.\tProduct {n}.\t{label}\t{label}\n" for n, label in enumerate(TASKS["glue-mnli"].labels)
)  # fmt: skip
for _kind in ("matched", "mismatched"):
    FILES[f"MNLI/dev_{_kind}.tsv"] = (
        f"{_MNLI}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
        f"{_START}\tA {_kind}.\tB.\tneutral\tneutral\tentailment\tneutral\tneutral\tneutral\n"
    )
    FILES[f"MNLI/test_{_kind}.tsv"] = f"{_MNLI}\n{_START}\tC {_kind}.\tD.\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The benchmark's own files, as its download script leaves them."""
    root = tmp_path / "glue_data"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", newline="")
    monkeypatch.setenv("DEEPSEEK_GLUE", str(root))
    return root


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and no network."""
    from huggingface_hub import constants

    for variable in ("DEEPSEEK_GLUE", "DEEPSEEK_IMDB"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DEEPSEEK_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", NAMES)
def test_every_task_is_read_from_the_benchmarks_own_files(name: str, folder: Path, tmp_path: Path) -> None:
    card, task = datasets.get(name), TASKS[name]
    report = ingest(name, tmp_path / "t.lance")
    rows = list(Table.open(report.table).rows())
    assert all(set(row) == set(card.columns) for row in rows)
    assert set(task.texts) < set(card.columns)
    assert len({row["id"] for row in rows}) == len(rows)
    counts = Counter(row["split"] for row in rows)
    assert counts["validation"] == counts["test"] == 1
    assert counts["train"] == (0 if "mismatched" in name else 3 if name == "glue-mnli" else 2)
    for row in rows:
        assert (row["label"] is None) == (row["split"] == "test")
        assert all(row[text] for text in task.texts)
        if task.labels and row["split"] != "test":
            assert row["label"] in task.labels
    assert card.metadata()["citation"].endswith("ICLR 2019.")
    assert " and ".join(task.metrics) in card.notes


def test_quotes_are_characters(folder: Path) -> None:
    qnli = list(open_source("glue-qnli").batches(lambda reject: None))
    texts = [text for batch in qnli for text in batch.column("sentence").to_pylist()]
    assert texts[:2] == ['"The war began in 1914', 'Nobody knows."']
    (mrpc, *_) = datasets.load_dataset_rows("glue-mrpc")
    assert mrpc["sentence1"] == '"Amrozi accused his brother , whom he called " the witness " .'
    (cola, *_) = datasets.load_dataset_rows("glue-cola")
    assert (cola["sentence"], cola["label"]) == ("Our friends won't buy this \"analysis.", "acceptable")
    (sst, *_) = datasets.load_dataset_rows("glue-sst2")
    assert sst["sentence"] == "hide new secretions from the parental units "


def test_broken_lines_are_rejects_and_row_numbers_stay(folder: Path, tmp_path: Path) -> None:
    report = ingest("glue-qqp", tmp_path / "q.lance")
    assert report.rejected == 2
    rejects = Table.open(rejects_path(report.table)).to_arrow().to_pylist()
    assert ["train.tsv, line 3: expected a cell 'question2'" in r["reason"] for r in rejects] == [True, False]
    rows = list(Table.open(report.table).rows(where="split = 'train'"))
    assert [row["idx"] for row in rows] == [0, 3]  # the hub's file numbers them so too
    (reject,) = Table.open(rejects_path(ingest("glue-qnli", tmp_path / "n.lance").table)).to_arrow().to_pylist()
    assert "expected a label of entailment, not_entailment, received 'maybe'" in reject["reason"]
    (reject,) = Table.open(rejects_path(ingest("glue-stsb", tmp_path / "s.lance").table)).to_arrow().to_pylist()
    assert "expected a score from 0 to 5, received '7.5'" in reject["reason"]


def test_mrpc_from_the_corpus_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "MRPC"
    root.mkdir()
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    (root / "msr_paraphrase_train.txt").write_text(
        head + "1\t10\t11\tA .\tB .\n0\t20\t21\tC .\tD .\n1\t30\t31\tE .\tF .\n"
    )
    (root / "msr_paraphrase_test.txt").write_text(head + "0\t40\t41\tG .\tH .\n")
    monkeypatch.setenv("DEEPSEEK_GLUE", str(tmp_path))
    with pytest.raises(DataError, match=r"expected dev_ids\.tsv"):
        list(datasets.load_dataset_rows("glue-mrpc"))
    (root / "dev_ids.tsv").write_text("20\t21\n")
    rows = [(r["id"], r["sentence1"], r["label"]) for r in datasets.load_dataset_rows("glue-mrpc")]
    assert rows == [
        ("train-0", "A .", "equivalent"),
        ("train-2", "E .", "equivalent"),
        ("validation-1", "C .", "not_equivalent"),
        ("test-0", "G .", "not_equivalent"),
    ]


def test_a_folder_that_is_not_there_or_not_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "RTE" / "dev.tsv").unlink()
    with pytest.raises(DataError, match=r"DEEPSEEK_GLUE.*RTE/dev\.tsv is not there"):
        list(datasets.load_dataset_rows("glue-rte"))
    monkeypatch.setenv("DEEPSEEK_GLUE", str(folder / "absent"))
    with pytest.raises(DataError, match=r"DEEPSEEK_GLUE: expected a folder.*received .*absent', which is no folder"):
        list(datasets.load_dataset_rows("glue-rte"))


def test_other_files_are_another_source(folder: Path) -> None:
    before = open_source("glue-rte").identity()
    assert open_source("glue-rte").identity() == before
    with (folder / "RTE" / "dev.tsv").open("a") as file:
        file.write("1\tA b.\tB.\tentailment\n")
    assert open_source("glue-rte").identity() != before
    assert "files" in before


def write_parquet(root: Path, name: str, names: list[str] | None = None) -> None:
    """The hub's files of a task, with two rows a split; labels of test rows are -1."""
    task = TASKS[name]
    features = {"label": {"names": list(names or task.labels), "_type": "ClassLabel"}} if task.labels else {}
    kind = pa.int64() if task.labels else pa.float32()
    for split, stem in task.parquet.items():
        columns: dict[str, Any] = {text: [f"{split} {text} {n}" for n in range(2)] for text in task.texts}
        columns["label"] = pa.array([-1, -1] if split == "test" else [1, 0], kind)
        columns["idx"] = pa.array([0, 1], pa.int32())
        table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        path = root / task.part / f"{stem}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)


@pytest.mark.parametrize("name", NAMES)
def test_every_task_is_read_from_the_hubs_cache(name: str, no_hub: Path) -> None:
    with pytest.raises(FetchError, match=r"nyu-mll/glue.*DEEPSEEK_GLUE"):
        list(datasets.load_dataset_rows(name))
    write_parquet(no_hub / "datasets--nyu-mll--glue" / "snapshots" / glue.HUB.revision, name)
    rows = list(datasets.load_dataset_rows(name))
    assert all(set(row) == set(datasets.get(name).columns) for row in rows)
    labels = TASKS[name].labels or (0.0, 1.0)
    expected = [
        (s, label) for s in TASKS[name].files for label in ([None, None] if s == "test" else [labels[1], labels[0]])
    ]
    assert [(row["split"], row["label"]) for row in rows] == expected
    assert open_source(name).identity()["origin"] == datasets.get(name).origin


def test_a_copy_of_the_repository_works_as_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path, "glue-cola")
    monkeypatch.setenv("DEEPSEEK_GLUE", str(tmp_path))
    assert len(list(datasets.load_dataset_rows("glue-cola"))) == 6
    write_parquet(tmp_path, "glue-cola", names=["acceptable", "unacceptable"])
    with pytest.raises(
        DataError, match="expected the classes unacceptable, acceptable, received acceptable, unacceptable"
    ):
        list(datasets.load_dataset_rows("glue-cola"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server on loopback that plays the hub for data sets: its address, its folder, and what was asked of it."""
    served, asked = tmp_path / "served", []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            asked.append(path)
            if path == "/":
                return self.send(b"", {}, body)
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "datasets"] and parts[4] == "tree":
                repository = served / parts[2] / parts[3]
                files = [
                    {
                        "type": "file",
                        "path": str(p.relative_to(repository)),
                        "size": p.stat().st_size,
                        "oid": f"{i:040x}",
                    }
                    for i, p in enumerate(sorted(q for q in repository.rglob("*") if q.is_file()))
                ]
                return self.send(json.dumps(files).encode(), {"Content-Type": "application/json"}, body)
            if parts[0] == "datasets" and parts[3] == "resolve":
                file = served / parts[1] / parts[2] / "/".join(parts[5:])
                if file.is_file():
                    headers = {"ETag": f'"{file.stat().st_size:040x}"', "X-Repo-Commit": parts[4]}
                    return self.send(file.read_bytes(), headers, body)
            self.send_response(404)
            self.end_headers()
            return None

        def send(self, data: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", served, asked
    server.shutdown()


SCRIPT = """
import json, sys
from deepseek.data import datasets
from deepseek.errors import FetchError
try:
    print(json.dumps(list(datasets.load_dataset_rows(sys.argv[1]))))
except FetchError as error:
    print(json.dumps(str(error)))
"""


def test_the_hub_is_asked_for_the_files_of_one_task_at_the_pinned_commit(
    hub: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    endpoint, served, asked = hub
    write_parquet(served / "nyu-mll" / "glue", "glue-mrpc")
    write_parquet(served / "nyu-mll" / "glue", "glue-stsb")
    (served / "nyu-mll" / "glue" / "glue.py").write_text("raise SystemExit")

    def rows_of(name: str, **environment: str) -> Any:
        kept = {k: v for k, v in os.environ.items() if k not in {"DEEPSEEK_GLUE", "DEEPSEEK_OFFLINE", "HF_HUB_OFFLINE"}}
        kept |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub"), **environment}  # read when it is imported
        command = [sys.executable, "-c", SCRIPT, name]
        done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=120, check=True)
        return json.loads(done.stdout)

    rows = rows_of("glue-mrpc")
    assert [row["label"] for row in rows][:2] == ["equivalent", "not_equivalent"]
    assert {path for path in asked if "/resolve/" in path} == {
        f"/datasets/nyu-mll/glue/resolve/{glue.HUB.revision}/mrpc/{split}-00000-of-00001.parquet"
        for split in ("train", "validation", "test")
    }
    seen = len(asked)
    assert rows_of("glue-mrpc", DEEPSEEK_OFFLINE="1") == rows
    assert "set to work offline" in rows_of("glue-stsb", DEEPSEEK_OFFLINE="1")  # it was not fetched
    assert len(asked) == seen


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "aclImdb"
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            (root / split / label).mkdir(parents=True)
            for n in (0, 2, 10):
                stars = 9 if label == "pos" else 2
                (root / split / label / f"{n}_{stars}.txt").write_text(
                    f"{label} film {n}<br />caf\u00e9", encoding="utf-8"
                )
    (root / "train" / "unsup").mkdir()
    (root / "train" / "unsup" / "0_0.txt").write_text("who knows")
    (root / "README").write_text("Large Movie Review Dataset v1.0")
    return root


def test_imdb_from_its_authors_folder(reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for named in (reviews, reviews.parent):
        monkeypatch.setenv("DEEPSEEK_IMDB", str(named))
        rows = list(datasets.load_dataset_rows("imdb"))
        assert Counter((row["split"], row["label"]) for row in rows) == {
            (s, x): 3 for s in ("train", "test") for x in ("neg", "pos")
        }
        assert rows[0] == {"id": "train-neg-0_2", "text": "neg film 0<br />caf\u00e9", "label": "neg", "split": "train"}
        assert [row["id"] for row in rows[:3]] == ["train-neg-0_2", "train-neg-2_2", "train-neg-10_2"]
    assert list(datasets.load_dataset_rows("imdb-unsupervised")) == [{"id": "unsupervised-0_0", "text": "who knows"}]
    before = open_source("imdb").identity()
    (reviews / "test" / "pos" / "10_9.txt").write_bytes(b"\xff\xfe")
    assert open_source("imdb").identity() != before
    report = ingest("imdb", tmp_path / "i.lance")
    assert (len(Table.open(report.table)), report.rejected) == (11, 1)
    for path in (reviews / "test" / "neg").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"DEEPSEEK_IMDB.*no text file in .*test/neg"):
        list(datasets.load_dataset_rows("imdb"))


def test_imdb_from_the_hubs_cache(no_hub: Path) -> None:
    with pytest.raises(FetchError, match=r"stanfordnlp/imdb.*DEEPSEEK_IMDB"):
        list(datasets.load_dataset_rows("imdb"))
    part = no_hub / "datasets--stanfordnlp--imdb" / "snapshots" / imdb.HUB.revision / "plain_text"
    part.mkdir(parents=True)
    for split, labels in (("train", [0, 1]), ("test", [1, 0]), ("unsupervised", [-1, -1])):
        rows = pa.table({"text": [f"{split} {n}" for n in range(2)], "label": labels})
        pq.write_table(rows, part / f"{split}-00000-of-00001.parquet")
    found = [(r["id"], r["text"], r["label"], r["split"]) for r in datasets.load_dataset_rows("imdb")]
    assert found == [
        ("train-0", "train 0", "neg", "train"),
        ("train-1", "train 1", "pos", "train"),
        ("test-0", "test 0", "pos", "test"),
        ("test-1", "test 1", "neg", "test"),
    ]
    assert [r["id"] for r in datasets.load_dataset_rows("imdb-unsupervised")] == ["unsupervised-0", "unsupervised-1"]


@pytest.mark.parametrize("name", [*NAMES, "imdb", "imdb-unsupervised"])
def test_cards_say_whose_the_data_is_and_which_commit(name: str) -> None:
    card = datasets.get(name)
    assert card.license
    assert "licence" in card.notes.lower()
    assert "@" in card.origin
    assert len(card.origin.partition("@")[2].partition("/")[0]) == 40
    assert card.homepage.startswith("https://")
    assert card.rows == (50_000 if name.startswith("imdb") else sum(TASKS[name].rows))
