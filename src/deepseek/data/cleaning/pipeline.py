"""Runs the cleaning in three phases, of which none holds the table.

1. The row steps, piece by piece through an engine. Rows that pass are staged on disk with their facts.
2. The table steps, over the staged rows.
3. The input is read once more: kept rows, with their texts as the row steps left them, and rejected rows, as they came.

A table in memory goes through the same phases. The outcome depends on the rows and the configuration only: not on how
the rows were cut into pieces, nor on the engine.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.inputs import Input, MemoryInput, TableInput
from deepseek.data.cleaning.overview import Overview, overview
from deepseek.data.cleaning.report import EXAMPLES, CleaningReport, Example, StepReport, excerpt
from deepseek.data.cleaning.row_phase import RowTask, columns_read, merged, run_row_steps
from deepseek.data.cleaning.staging import KEPT, Fates, StagedRows, staging_folder
from deepseek.data.cleaning.step import Columns, Rejection, RowNumbers
from deepseek.data.cleaning.steps import row_steps, table_steps
from deepseek.data.cleaning.text_steps import presentable
from deepseek.data.engines import Engine, get_engine
from deepseek.data.table import Table
from deepseek.data.table.rejects import write_rejects
from deepseek.errors import DataError, UnknownNameError

REJECT_FIELDS = pa.schema(
    [
        ("input_row", pa.int64()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("duplicate_of", pa.int64()),
        ("detail", pa.string()),
    ]
)
"""The columns that rejected rows get: row numbers are 0-based and count in the cleaner's input; ``detail`` is what was
measured, empty where the reason says it all."""
_TAKEN = 1024


@dataclass(frozen=True, kw_only=True)
class CleaningResult:
    """Kept rows (texts normalised), rejected rows (as they came, with :data:`REJECT_FIELDS`), and the report.

    Kept rows have the columns of :data:`deepseek.data.cleaning.MARKS` that a flagging step wrote, in place of older
    ones of that name. Rejected rows are as they came: personal data in them is not masked.
    """

    kept: pa.Table
    rejected: pa.Table
    report: CleaningReport


def clean(
    table: pa.Table,
    config: CleaningConfig | None = None,
    *,
    text: str | None = "text",
    label: str | None = "label",
    split: str | None = None,
) -> CleaningResult:
    """Clean a table in memory; every input row is either kept or rejected with a reason, in input order.

    Args:
        table: at least the columns that are named here and in the configuration.
        config: what to do; the defaults when absent.
        text: the text column; ``None`` for data without one (images, vectors).
        label: the label column, or ``None`` for unlabelled data.
        split: the column that says ``"train"`` or the name of a held-out set; ``None`` for data without splits.

    Raises:
        UnknownNameError: a column does not exist.
        DataError: a column has not the kind that its role needs, or a name that the rejected rows need.
        MissingExtraError: a step needs a library that is not installed.
    """
    config = config or CleaningConfig()
    source = MemoryInput(table)
    columns = _columns(source.schema, config, text, label, split)
    with staging_folder(None) as folder:
        run = _Run(source, columns, config, folder, get_engine("local"))
        kept = list(run.kept())
        rejected = list(run.rejected())
    return CleaningResult(
        kept=pa.Table.from_batches(kept, run.kept_schema),
        rejected=pa.Table.from_batches(rejected, run.rejected_schema),
        report=run.report,
    )


def clean_table(
    source: Table,
    dest_path: str | Path,
    config: CleaningConfig | None = None,
    *,
    text: str | None = "text",
    label: str | None = "label",
    split: str | None = None,
    overwrite: bool = False,
    engine: str | Engine = "local",
    storage_options: Mapping[str, str] | None = None,
) -> tuple[Table, CleaningReport]:
    """Clean a stored table into a new one, with the rejected rows beside it in ``NAME.rejects.lance``.

    Memory is bounded by a few pieces of rows and a few dozen bytes a row; what is larger lies in a folder beside the
    destination, which is removed at the end. The rejects are written before the cleaned table becomes visible, so it
    never exists without them. All columns are carried through. The cleaned table keeps the source's metadata and says
    which version of which table it was made from.

    Args:
        engine: where pieces are worked on, see :func:`deepseek.data.engines.get_engine`; every engine gives the same.
        storage_options: how to reach the destination's object store, see :mod:`deepseek.data.table.storage`.

    Raises:
        TableError: the destination exists and ``overwrite`` is false, or cannot be written.
        DataError, UnknownNameError, MissingExtraError: as :func:`clean`.
    """
    config = config or CleaningConfig()
    rows = TableInput(source)
    columns = _columns(rows.schema, config, text, label, split)
    origin = {"cleaned_from": Path(source.path).name, "cleaned_from_version": str(source.version)}
    with staging_folder(dest_path) as folder:
        run = _Run(rows, columns, config, folder, get_engine(engine))

        def rejects() -> None:
            write_rejects(dest_path, run.rejected(), run.rejected_schema, count=run.report.rejected)

        cleaned = Table.create(
            dest_path,
            run.kept(),
            schema=run.kept_schema.remove_metadata(),
            overwrite=overwrite,
            metadata={**source.metadata, **origin},
            before_commit=rejects,
            storage_options=storage_options,
        )
    return cleaned, run.report


class _Run:
    """One cleaning: phases 1 and 2 when it is made, phase 3 through :meth:`kept` and :meth:`rejected`."""

    def __init__(self, source: Input, columns: Columns, config: CleaningConfig, folder: Path, engine: Engine) -> None:
        self._source, self._columns, self._config = source, columns, config
        self._fates = Fates(folder, source.count)
        self._rows = StagedRows(folder, source, self._fates, engine)
        self._steps = [name for name, _ in row_steps(config, columns)]
        self._before, after = Overview(), Overview()
        reports = self._row_phase(engine)
        reports += self._table_phase()
        self.rejected_schema = pa.schema([*source.schema, *REJECT_FIELDS])
        marks = self._rows.marks
        fields = [field for field in source.schema if field.name not in marks]
        fields += [pa.field(name, values.type) for name, (_, values) in marks.items()]
        self.kept_schema = pa.schema(fields, source.schema.metadata)
        read = [name for name in dict.fromkeys((columns.text, columns.label)) if name is not None]
        for _, batch in self._rows.batches(read) if read else ():
            after.add(overview(batch, columns))
        self.report = CleaningReport(
            rows_in=source.count,
            rows_out=self._rows.count,
            steps=reports,
            config=config.model_dump(mode="json"),
            before=self._before.to_dict(),
            after=after.to_dict(),
        )

    def _row_phase(self, engine: Engine) -> list[StepReport]:
        names = columns_read(self._columns)
        tasks = (
            RowTask(piece=piece, columns=self._columns, config=self._config) for piece in self._source.pieces(names)
        )
        reports: list[list[StepReport]] = []
        counts: list[list[Counter[str]]] = []
        with progress.bar("clean: rows", self._source.count) as bar:
            for outcome in engine.map(run_row_steps, tasks):
                reports.append(outcome.reports)
                self._before.add(outcome.overview)
                counts.append(outcome.counts)
                for step, (rows, reasons, details) in enumerate(outcome.fates):
                    for row, reason, detail in zip(rows.tolist(), reasons, details, strict=True):
                        self._fates.reject(step, row, reason, detail=detail)
                self._rows.add(outcome.staged)
                bar.advance(outcome.reports[0].rows_in)
        self._rows.finish()
        if not reports:
            return [StepReport(step=name, rows_in=0, rows_out=0) for name in self._steps]
        return [merged(*of_step) for of_step in zip(zip(*reports, strict=True), zip(*counts, strict=True), strict=True)]

    def _table_phase(self) -> list[StepReport]:
        reports = []
        for name, step in table_steps(self._config, self._columns):
            number, rows_in = len(self._steps), self._rows.count
            self._steps.append(name)
            self._rows.next_step()
            with progress.bar(f"clean: {name}", rows_in) as bar:
                rejections = step(self._rows, self._columns, self._config) if rows_in else ()
                count = self._note(number, rejections)
                bar.set(rows_in)
            self._rows.rejected(count)
            reports.append(self._step_report(number, rows_in))
        return reports

    def _note(self, step: int, rejections: Iterable[Rejection]) -> int:
        # noted when the step is done: a step that is a generator still reads the rows while it yields
        rows, others, reasons = array("q"), array("q"), array("q")
        codes: dict[str, int] = {}
        details: dict[int, str] = {}
        for rejection in rejections:
            rows.append(rejection.row)
            others.append(-1 if rejection.duplicate_of is None else rejection.duplicate_of)
            reasons.append(codes.setdefault(rejection.reason, len(codes)))
            if rejection.detail:
                details[rejection.row] = rejection.detail
        names = list(codes)
        for row, other, reason in zip(rows, others, reasons, strict=True):
            self._fates.reject(step, row, names[reason], other, details.get(row, ""))
        return len(rows)

    def _step_report(self, step: int, rows_in: int) -> StepReport:
        rows = np.flatnonzero(self._fates.step == step)
        reasons = Counter(self._fates.reasons(rows))
        shown: Counter[str] = Counter()
        chosen: list[int] = []
        for row, reason in zip(rows, self._fates.reasons(rows), strict=True):
            shown[reason] += 1
            if shown[reason] <= EXAMPLES:
                chosen.append(int(row))
        return StepReport(
            step=self._steps[step],
            rows_in=rows_in,
            rows_out=rows_in - len(rows),
            reasons=dict(reasons.most_common()),
            examples=self._examples(np.array(chosen, np.int64)),
            details=dict(self._rows.details),
        )

    def _examples(self, rows: RowNumbers) -> list[Example]:
        others = self._fates.others(rows)
        wanted = np.array([*rows, *(other for other in others if other is not None)], np.int64)
        texts: dict[int, str | None] = dict.fromkeys(wanted.tolist())
        if self._columns.text is not None and len(wanted):
            found = self._rows.take(wanted, [self._columns.text]).column(0).to_pylist()
            texts = dict(zip(wanted.tolist(), (presentable(text, self._config) for text in found), strict=True))
        return [
            Example(
                reason=reason,
                row=row,
                text=excerpt(texts[row]),
                duplicate_of=other,
                duplicate_text=None if other is None else excerpt(texts[other]),
                detail=detail,
            )
            for row, reason, other, detail in zip(
                rows.tolist(), self._fates.reasons(rows), others, self._fates.details(rows), strict=True
            )
        ]

    def kept(self) -> Iterator[pa.RecordBatch]:
        """The rows that stay, in input order."""
        text = self._columns.text
        texts = None if text is None else self._rows.batches([text])
        ahead: tuple[RowNumbers, pa.RecordBatch] | None = None
        for piece in self._source.pieces(None):
            mask = self._fates.step[piece.start : piece.stop] == KEPT
            if not mask.any():
                continue
            rows = piece.read()
            rows = rows if mask.all() else rows.filter(pa.array(mask))
            if texts is not None:
                column, ahead = _next_texts(texts, ahead, rows.num_rows)
                index = rows.schema.get_field_index(text)
                rows = rows.set_column(index, rows.schema.field(index), column)
            if self._rows.marks:
                numbers = np.flatnonzero(mask) + piece.start
                rows = rows.drop_columns([name for name in self._rows.marks if name in rows.column_names])
                for name in self._rows.marks:
                    rows = rows.append_column(name, self._rows.marked(name, numbers))
            yield from rows.combine_chunks().to_batches()

    def rejected(self) -> Iterator[pa.RecordBatch]:
        """The rows that go, as they came, with :data:`REJECT_FIELDS`, in input order."""
        for piece in self._source.pieces(None):
            gone = np.flatnonzero(self._fates.step[piece.start : piece.stop] != KEPT) + piece.start
            for start in range(0, len(gone), _TAKEN):
                chosen = gone[start : start + _TAKEN]
                rows = self._source.take(chosen.tolist())
                steps = [self._steps[step] for step in self._fates.step[chosen]]
                fates = self._fates
                values = (chosen, steps, fates.reasons(chosen), fates.others(chosen), fates.details(chosen))
                for field, column in zip(REJECT_FIELDS, values, strict=True):
                    rows = rows.append_column(field, pa.array(column, field.type))
                yield from rows.combine_chunks().to_batches()


def _next_texts(
    texts: Iterator[tuple[RowNumbers, pa.RecordBatch]], ahead: tuple[RowNumbers, pa.RecordBatch] | None, count: int
) -> tuple[pa.ChunkedArray, tuple[RowNumbers, pa.RecordBatch] | None]:
    """The next ``count`` texts of the kept rows, and what was read beyond them."""
    parts: list[pa.Array] = []
    while count:
        numbers, batch = ahead or next(texts)
        parts.append(batch.column(0).slice(0, count))
        count -= len(parts[-1])
        used = len(parts[-1])
        ahead = (numbers[used:], batch.slice(used)) if used < batch.num_rows else None
    return pa.chunked_array(parts), ahead


def _columns(
    schema: pa.Schema, config: CleaningConfig, text: str | None, label: str | None, split: str | None
) -> Columns:
    columns = Columns(text=text, label=label, split=split, image=config.image, vector=config.vector)
    for name in columns_read(columns):
        if name not in schema.names:
            raise UnknownNameError("column", name, schema.names)
    if text is None and config.image is None and config.vector is None:
        raise DataError("expected a text, image or vector column to clean, received none")
    kinds = pa.types
    for role, column, checks in (
        ("text (string)", text, (kinds.is_string, kinds.is_large_string)),
        ("image bytes (binary)", config.image, (kinds.is_binary, kinds.is_large_binary)),
        ("a vector (list of floats)", config.vector, (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list)),
    ):
        if column is not None and not any(check(kind := schema.field(column).type) for check in checks):
            raise DataError(f"column {column!r}: expected {role}, received {kind}")
    for needed in REJECT_FIELDS.names:
        if needed in schema.names:
            raise DataError(f"the column name {needed!r} is needed for the rejected rows; rename that column first")
    return columns
