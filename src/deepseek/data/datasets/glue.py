"""GLUE (Wang et al. 2019): nine tasks of English language understanding, with their standard splits.

Columns and class names are those of ``nyu-mll/glue`` on the Hugging Face hub; ``split`` is ``train``, ``validation`` or
``test``, and test rows have a null label, since the benchmark keeps them (MRPC's are public). Read from the folder
named in ``DEEPSEEK_GLUE``, which holds the benchmark's own TSV files (``CoLA/train.tsv``, ...) or a copy of that
repository (``cola/train-00000-of-00001.parquet``, ...); or from the hub, at a pinned commit.

The TSV files have no quoting: a ``"`` is a character like any other, also where a sentence begins with one and never
closes it. A line with too few cells or an unknown label is a reject.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from deepseek.data.datasets.card import Dataset, DatasetCard, Line
from deepseek.data.datasets.glue_tasks import TASKS, GlueTask
from deepseek.data.datasets.hub_files import HubFiles, identities, parquet_rows
from deepseek.errors import DataError

HUB = HubFiles(
    repository="nyu-mll/glue",
    revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
    variable="DEEPSEEK_GLUE",
    folder_hint="a folder with the benchmark's TSV files (CoLA/train.tsv, SST-2/train.tsv, ...)",
)
_CITATION = (
    "Wang, A., Singh, A., Michael, J., Hill, F., Levy, O. & Bowman, S.R. (2019). GLUE: A Multi-Task Benchmark and "
    "Analysis Platform for Natural Language Understanding. ICLR 2019."
)
_MSR = {
    "train": "msr_paraphrase_train.txt",
    "validation": "msr_paraphrase_train.txt",
    "test": "msr_paraphrase_test.txt",
}
_MSR_IDS = ("dev_ids.tsv", "mrpc_dev_ids.tsv")
_SHOWN_CHARS = 200


def _lines(task: GlueTask) -> Iterator[Line]:
    root = HUB.folder()
    number = 0
    for split in task.files:
        for index, line in _split_lines(task, root, split):
            number += 1
            values = {**line.values, "idx": index, "split": split, "id": f"{split}-{index}"} if line.values else {}
            yield Line(number=number, values=values, problem=line.problem, raw=line.raw)


def _split_lines(task: GlueTask, root: Path | None, split: str) -> Iterator[tuple[int, Line]]:
    """The rows of a split with their number in it."""
    kind, paths = _files(task, root, split)
    if kind == "parquet":
        columns = [*task.texts, "label", "idx"]
        for path in paths:
            for number, row in enumerate(parquet_rows(path, columns, task.labels)):
                yield row.pop("idx"), Line(number=number, values=row)
        return
    header = task.header if split in task.headless else ()
    ids = _msr_ids(paths[0].parent) if kind == "msr" and split != "test" else None
    for index, cells, line in _cells(paths[0], header):
        if cells is None:
            yield index, line
        elif ids is None or ((cells.get("#1 ID"), cells.get("#2 ID")) in ids) == (split == "validation"):
            yield index, _row(task, cells, line, paths[0], labelled=split != "test")


def _files(task: GlueTask, root: Path | None, split: str) -> tuple[str, list[Path]]:
    """The format and the files of a split: ``parquet``, ``tsv``, or ``msr`` for MRPC's own files."""
    if root is None:
        return "parquet", HUB.parquet(None, task.part, task.parquet[split])
    tsv, msr = root / task.folder / task.files[split], root / task.folder / _MSR[split]
    if tsv.is_file():
        return "tsv", [tsv]
    if task.part == "mrpc" and msr.is_file():
        return "msr", [msr]
    if parquet := HUB.parquet(root, task.part, task.parquet[split]):
        return "parquet", parquet
    raise DataError(f"{HUB.variable}: expected {HUB.folder_hint}; {tsv} is not there")


def _cells(path: Path, header: Sequence[str]) -> Iterator[tuple[int, dict[str, str] | None, Line]]:
    """Each row of a TSV file: its number (from 0), its cells by header, and where it is; no cells if it is no text."""
    names, index = list(header), 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            raw = raw.rstrip(b"\r\n")
            if not raw:
                continue
            shown = raw[:_SHOWN_CHARS].decode("utf-8", "backslashreplace")
            where = f"{path.name}, line {number}"
            try:
                cells = raw.decode("utf-8").split("\t")
            except UnicodeDecodeError:
                yield index, None, Line(number=number, problem=f"{where}: not valid UTF-8", raw=shown)
                index += 1
                continue
            if not names:
                names = cells
                continue
            yield index, dict(zip(names, cells, strict=False)), Line(number=number, raw=shown)
            index += 1


def _row(task: GlueTask, cells: Mapping[str, str], line: Line, path: Path, *, labelled: bool) -> Line:
    where = f"{path.name}, line {line.number}"
    values: dict[str, Any] = {}
    for column, name in task.texts.items():
        if name not in cells:
            return Line(
                number=line.number, problem=f"{where}: expected a cell {name!r}, the line has none", raw=line.raw
            )
        values[column] = cells[name]
    given = cells.get(task.label)
    if given is None and labelled:
        return Line(number=line.number, problem=f"{where}: expected a label, the line has none", raw=line.raw)
    try:
        values["label"] = None if given is None else _label(task, given)
    except DataError as error:
        return Line(number=line.number, problem=f"{where}: {error}", raw=line.raw)
    return Line(number=line.number, values=values)


def _label(task: GlueTask, given: str) -> str | float:
    if not task.labels:
        try:
            value = float(given)
        except ValueError:
            value = math.nan
        if 0 <= value <= 5:
            return value
        raise DataError(f"expected a score from 0 to 5, received {given!r}")
    if given in task.labels:
        return given
    if given.isdecimal() and int(given) < len(task.labels):
        return task.labels[int(given)]
    raise DataError(f"expected a label of {', '.join(task.labels)}, received {given!r}")


def _msr_ids(folder: Path) -> set[tuple[str | None, str | None]]:
    """The pairs of sentence ids that are the validation split of MRPC."""
    path = next((folder / name for name in _MSR_IDS if (folder / name).is_file()), None)
    if path is None:
        raise DataError(
            f"{folder}: expected {_MSR_IDS[0]} beside {_MSR['train']}, to tell training from validation rows"
        )
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return {(cells[0], cells[1]) for line in lines if len(cells := line.split("\t")) >= 2}


def _identity(task: GlueTask) -> dict[str, Any] | None:
    root = HUB.folder()
    return None if root is None else identities([p for split in task.files for p in _files(task, root, split)[1]])


def _dataset(name: str) -> Dataset:
    task = TASKS[name]
    card = DatasetCard(
        name=name,
        title=task.title,
        license="see notes",
        citation=f"{task.citation} In: {_CITATION}",
        homepage=task.homepage,
        columns={
            "id": "string",
            **dict.fromkeys(task.texts, "string"),
            "label": "string" if task.labels else "float32",
            "idx": "int32",
            "split": "string",
        },
        language="en",
        rows=sum(task.rows),
        origin=HUB.origin(task.part),
        notes=(
            f"Licence: {task.license} Scored by {' and '.join(task.metrics)}. {task.notes} Read from "
            f"{HUB.repository} or from the folder in {HUB.variable}."
        ),
    )
    return Dataset(card=card, read=partial(_lines, task), files=partial(_identity, task))


COLA = _dataset("glue-cola")
SST2 = _dataset("glue-sst2")
MRPC = _dataset("glue-mrpc")
QQP = _dataset("glue-qqp")
STSB = _dataset("glue-stsb")
MNLI = _dataset("glue-mnli")
MNLI_MISMATCHED = _dataset("glue-mnli-mismatched")
QNLI = _dataset("glue-qnli")
RTE = _dataset("glue-rte")
WNLI = _dataset("glue-wnli")
