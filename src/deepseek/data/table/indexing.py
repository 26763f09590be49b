"""Indices: which kinds there are, and how each is built by default.

- ``btree`` and ``bitmap`` answer conditions (``where=``); a bitmap suits a column with few distinct values.
- ``text`` ranks documents by BM25. Its tokenizer ``"words"`` is ICU's, which knows the words of Chinese, Japanese and
  Thai from dictionaries inside the library and stems English; ``"characters"`` takes every run of one and two
  characters, which finds any Chinese substring (ICU's words may be cut differently in a query) at the price of a larger
  index and of noise in alphabetic text. ``None`` looks at the column and takes ``"characters"`` when Chinese, Japanese
  or Thai prevails.
- ``vector`` finds neighbours. A table of up to :data:`FLAT_ROWS` rows is scanned faster than an index is asked, so it
  gets one list of exact vectors; up to :data:`GRAPH_ROWS` a graph over 8-bit vectors (IVF_HNSW_SQ) has the best recall
  for its time; beyond, product quantisation (IVF_PQ) keeps the index small, and a search reads the exact vectors of
  its best candidates to rank them again.

Rows written after an index was built are still found, by a scan; ``optimize_indices`` takes them in.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deepseek import progress
from deepseek.data.table.blobs import is_blob
from deepseek.data.table.lance_errors import translated
from deepseek.data.table.reading import ReadingMixin
from deepseek.errors import ConfigError, TableError, UnknownNameError

FLAT_ROWS = 10_000
GRAPH_ROWS = 1_000_000
KINDS = ("btree", "bitmap", "text", "vector")
METRICS = ("cosine", "l2", "dot")
TOKENIZERS: dict[str, dict[str, Any]] = {
    "words": {"base_tokenizer": "icu", "stem": True, "remove_stop_words": False},
    "characters": {
        "base_tokenizer": "ngram",
        "min_ngram_length": 1,
        "max_ngram_length": 2,
        "stem": False,
        "remove_stop_words": False,
    },
}
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "HANGUL")
_INDEX_MEMORY_MIB = 512


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """One index. ``indexed_rows`` falls behind the table's rows when rows are written later; ``size`` is in bytes."""

    name: str
    kind: str
    column: str
    indexed_rows: int
    unindexed_rows: int
    size: int


class IndexingMixin(ReadingMixin):
    """The part of :class:`Table` that builds and lists indices."""

    def create_index(
        self,
        column: str,
        kind: str | None = None,
        *,
        metric: str = "cosine",
        tokenizer: str | None = None,
        positions: bool = False,
        **options: Any,
    ) -> IndexInfo:
        """Build an index on a column, or build it anew; a new version without new data files.

        Args:
            column: which column.
            kind: ``btree``, ``bitmap``, ``text`` or ``vector``; by default ``vector`` for vectors and ``btree`` else.
            metric: for vectors: ``cosine``, ``l2`` or ``dot``.
            tokenizer: for text: ``words`` or ``characters``; by default what suits the column's script.
            positions: for text: keep positions too, which phrase queries (``'"exact words"'``) need.
            options: passed on to Lance, for those who tune (``num_partitions``, ``m``, ``memory_limit``, ...).

        Raises:
            TableError: the column's type does not suit the kind.
        """
        self._require_newest()
        self._check_columns([column])
        chosen = self._kind_for(column, kind)
        name = f"{column}_{chosen}"
        dataset = self._dataset
        with progress.bar(f"index {column}", len(self)) as bar, translated(f"index {column!r} ({chosen})", self.path):
            if chosen == "vector":
                if metric not in METRICS:
                    raise UnknownNameError("metric", metric, METRICS)
                lance_kind, defaults = _vector_options(self.count(f"`{column}` IS NOT NULL"), self.schema.field(column))
                dataset.create_index(column, lance_kind, name=name, metric=metric, replace=True, **(defaults | options))
            elif chosen == "text":
                picked = tokenizer or _tokenizer_for(self, column)
                if picked not in TOKENIZERS:
                    raise UnknownNameError("tokenizer", picked, TOKENIZERS)
                given = {"memory_limit": _INDEX_MEMORY_MIB, "with_position": positions} | TOKENIZERS[picked] | options
                dataset.create_scalar_index(column, "INVERTED", name=name, replace=True, **given)
            else:
                dataset.create_scalar_index(column, chosen.upper(), name=name, replace=True, **options)
            bar.set(len(self))
        self.refresh()
        return next(index for index in self.indices() if index.name == name)

    def indices(self) -> list[IndexInfo]:
        """The indices that there are."""
        found = []
        with translated("indices", self.path):
            for described in self._dataset.describe_indices():
                name = described.name
                column = described.field_names[0]
                indexed = int(described.num_rows_indexed)
                found.append(
                    IndexInfo(
                        name=name,
                        kind=name.rpartition("_")[2] if name.rpartition("_")[2] in KINDS else described.index_type,
                        column=column,
                        indexed_rows=indexed,
                        unindexed_rows=max(0, len(self) - indexed),
                        size=int(described.total_size_bytes or 0),
                    )
                )
        return found

    def drop_index(self, name: str) -> None:
        """Remove an index, as a new version.

        Raises:
            UnknownNameError: there is no such index.
        """
        self._require_newest()
        known = [index.name for index in self.indices()]
        if name not in known:
            raise UnknownNameError("index", name, known)
        with translated(f"drop_index {name!r}", self.path):
            self._dataset.drop_index(name)
        self.refresh()

    def optimize_indices(self) -> None:
        """Take rows that were written after an index was built into it, without building it anew; a new version."""
        self._require_newest()
        with translated("optimize_indices", self.path):
            self._dataset.optimize.optimize_indices()
        self.refresh()

    def _kind_for(self, column: str, kind: str | None) -> str:
        field = self.schema.field(column)
        is_vector = is_vector_type(field.type)
        if kind is None:
            kind = "vector" if is_vector else "btree"
        if kind not in KINDS:
            raise UnknownNameError("kind of index", kind, KINDS)
        suits = {
            "vector": is_vector,
            "text": is_text_type(field.type),
            "btree": not pa.types.is_nested(field.type) and not is_blob(field),
            "bitmap": not pa.types.is_nested(field.type) and not is_blob(field),
        }
        if not suits[kind]:
            wanted = {"vector": "vectors (see vector_field)", "text": "texts"}.get(kind, "numbers, texts or times")
            raise TableError(f"index {column!r} ({kind}): expected a column of {wanted}, received {field.type}")
        return kind


def is_vector_type(kind: pa.DataType) -> bool:
    """Whether a column of this type holds vectors of one length."""
    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type))


def is_text_type(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _vector_options(rows: int, field: pa.Field) -> tuple[str, dict[str, Any]]:
    if not rows:
        raise ConfigError(f"index {field.name!r} (vector): there are no vectors to build it from yet")
    if rows <= FLAT_ROWS:
        return "IVF_FLAT", {"num_partitions": 1}
    if rows <= GRAPH_ROWS:
        return "IVF_HNSW_SQ", {"num_partitions": max(1, rows // 100_000), "m": 20, "ef_construction": 200}
    dimensions = field.type.list_size
    sub_vectors = next(dimensions // width for width in (4, 2, 1) if dimensions % width == 0)
    return "IVF_PQ", {"num_partitions": round(math.sqrt(rows)), "num_sub_vectors": sub_vectors}


def _tokenizer_for(table: Any, column: str) -> str:
    """Look at the first thousand texts: which script prevails?"""
    texts: list[str] = []
    for batch in islice(table.batches([column], batch_size=1000), 1):
        texts = pc.utf8_slice_codeunits(batch.column(column).drop_null(), 0, 200).to_pylist()
    return script_tokenizer(texts)


def script_tokenizer(texts: list[str]) -> str:
    """The tokenizer that suits the texts: ``characters`` when most letters are of scripts without spaces."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    unspaced = sum(unicodedata.name(letter, "").startswith(_UNSPACED) for letter in letters if letter > "\u0e00")
    return "characters" if letters and unspaced * 2 > len(letters) else "words"
