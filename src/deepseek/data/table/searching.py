"""Search by text (BM25) and by vector, with or without an index, and by both together."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from lance.query import MatchQuery, PhraseQuery

from deepseek.data.table import batching
from deepseek.data.table.indexing import (
    METRICS,
    TOKENIZERS,
    IndexingMixin,
    is_text_type,
    is_vector_type,
    script_tokenizer,
)
from deepseek.data.table.lance_errors import LANCE_ERRORS, cause, filter_error
from deepseek.errors import ConfigError, TableError, UnknownNameError

SCORE = "score"
DISTANCE = "distance"
_REFINE = 10
_FUSION = 60  # Cormack, Clarke and Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet ..."


class SearchingMixin(IndexingMixin):
    """The part of :class:`Table` that finds rows by their content."""

    def search(
        self,
        *,
        text: str | None = None,
        vector: Any = None,
        text_column: str | None = None,
        vector_column: str | None = None,
        where: str | None = None,
        limit: int = 10,
        columns: Sequence[str] | None = None,
        metric: str | None = None,
        exact: bool = False,
    ) -> pa.Table:
        """The best rows for a text, a vector, or both, best first, among the rows that match ``where``.

        With an index the answer takes milliseconds; without one every row is looked at, with the same meaning.

        Args:
            text: words to find; rows are ranked by BM25 in the column ``score`` (higher is better). Words in double
                quotes are a phrase, which needs an index with positions.
            vector: numbers, as many as the column's vectors have; ranked by ``distance`` (lower is better).
            text_column: which column of texts; needed when several could be meant.
            vector_column: which column of vectors; needed when there are several.
            where: SQL condition, applied before the search.
            limit: rows at most.
            columns: which columns to return; all when absent.
            metric: ``cosine``, ``l2`` or ``dot``; by default the index's, or ``cosine``.
            exact: look at every vector even when there is an index.

        Returns:
            The rows with ``score``, ``distance``, or, for both together, ``score`` by reciprocal rank fusion.

        Raises:
            ConfigError: neither text nor vector is given, or the vector has another length.
        """
        if text is None and vector is None:
            raise ConfigError("search: expected text=, vector= or both, received neither")
        if limit < 1:
            raise ConfigError(f"search: limit: expected at least 1, received {limit}")
        self._check_columns(columns)
        depth = limit if text is None or vector is None else max(4 * limit, 50)
        rankings = []
        try:
            if text is not None:
                rankings.append((SCORE, self._by_text(text, text_column, where, depth)))
            if vector is not None:
                rankings.append((DISTANCE, self._by_vector(vector, vector_column, where, depth, metric, exact)))
        except LANCE_ERRORS as error:
            raise filter_error(error, where or text or "vector", self.columns) from cause(error)
        name, (addresses, values) = rankings[0]
        if len(rankings) == 2:
            name, addresses, values = SCORE, *_fused([ranking[0] for _, ranking in rankings], limit)
        return self._found(addresses, columns).append_column(name, pa.array(values, pa.float32()))

    def _by_text(self, text: str, column: str | None, where: str | None, limit: int) -> tuple[list[int], list[float]]:
        indexed = [index.column for index in self.indices() if index.kind == "text"]
        chosen = self._only(column, indexed or self._columns_of(is_text_type), "text_column")
        if not is_text_type(self.schema.field(chosen).type):
            raise TableError(
                f"search: text_column {chosen!r}: expected texts, received {self.schema.field(chosen).type}"
            )
        if chosen not in indexed:
            return self._by_text_without_index(text, chosen, where, limit)
        scanner = self._dataset.scanner(
            columns=["_score"],
            full_text_query=_text_query(text, chosen),
            filter=where,
            prefilter=True,
            limit=limit,
            with_row_address=True,
        )
        return _ranking(scanner.to_table(), "_score")

    def _by_text_without_index(
        self, text: str, column: str, where: str | None, limit: int
    ) -> tuple[list[int], list[float]]:
        """Index the texts that match aside, in a temporary folder, and ask that: the same scores as a real index's."""
        picked = script_tokenizer([text])
        with tempfile.TemporaryDirectory(prefix="deepseek-search-") as folder:
            source = self._dataset.scanner(
                columns=[column], filter=where, with_row_address=True, batch_size=1024, **batching.SCAN
            )
            schema = pa.schema([pa.field(column, self.schema.field(column).type), ("address", pa.uint64())])
            texts = (batch.rename_columns(schema.names) for batch in source.to_batches())
            reader = pa.RecordBatchReader.from_batches(schema, texts)
            aside = lance.write_dataset(reader, str(Path(folder) / "texts.lance"))
            if not aside.count_rows():
                return [], []
            aside.create_scalar_index(column, "INVERTED", with_position='"' in text, **TOKENIZERS[picked])
            found = aside.scanner(
                columns=["address", "_score"], full_text_query=_text_query(text, column), limit=limit
            ).to_table()
        return _ranking(found.rename_columns({"address": "_rowaddr"}), "_score")

    def _by_vector(
        self, vector: Any, column: str | None, where: str | None, limit: int, metric: str | None, exact: bool
    ) -> tuple[list[int], list[float]]:
        chosen = self._only(column, self._columns_of(is_vector_type), "vector_column")
        kind = self.schema.field(chosen).type
        if not is_vector_type(kind):
            raise TableError(f"search: vector_column {chosen!r}: expected vectors, received {kind}")
        query = np.asarray(vector, dtype=np.float32).reshape(-1)
        if len(query) != kind.list_size:
            raise ConfigError(
                f"search: vector: expected {kind.list_size} numbers for {chosen!r}, received {len(query)}"
            )
        if metric is not None and metric not in METRICS:
            raise UnknownNameError("metric", metric, METRICS)
        built = next((index for index in self.indices() if index.column == chosen and index.kind == "vector"), None)
        use_index = built is not None and not exact
        nearest: dict[str, Any] = {"column": chosen, "q": query, "k": limit, "use_index": use_index}
        if built is None:
            nearest["metric"] = metric or "cosine"
        else:
            built_with = self._dataset.stats.index_stats(built.name)["indices"][0]["metric_type"]
            if use_index and metric is not None and metric != built_with:
                raise ConfigError(
                    f"search: the index measures {built_with}, not {metric}; use exact=True or rebuild it"
                )
            nearest["metric"] = metric or built_with
        if use_index:
            # exact distances for more candidates than asked for: recall@10 of IVF_PQ on 20,000 clustered vectors of 32
            # dimensions is 0.94 with a factor of 4 and 0.98 with 10, for the same milliseconds
            nearest |= {"refine_factor": _REFINE, "minimum_nprobes": 20}
        scanner = self._dataset.scanner(
            columns=["_distance"], nearest=nearest, filter=where, prefilter=True, with_row_address=True
        )
        return _ranking(scanner.to_table(), "_distance")

    def _found(self, addresses: list[int], columns: Sequence[str] | None) -> pa.Table:
        return self._take_addresses(addresses, columns)

    def _columns_of(self, suits: Any) -> list[str]:
        return [field.name for field in self.schema if suits(field.type)]

    def _only(self, given: str | None, candidates: Sequence[str], argument: str) -> str:
        if given is not None:
            self._check_columns([given])
            return given
        if len(candidates) != 1:
            raise ConfigError(
                f"search: {argument}: say which column; "
                f"{'candidates: ' + ', '.join(candidates) if candidates else f'{self.path} has none that suits'}"
            )
        return candidates[0]


def _text_query(text: str, column: str) -> Any:
    stripped = text.strip()
    if len(stripped) > 2 and stripped[0] == stripped[-1] == '"':
        return PhraseQuery(stripped[1:-1], column)
    return MatchQuery(stripped, column)


def _ranking(found: pa.Table, by: str) -> tuple[list[int], list[float]]:
    """Row addresses and values in the order found, ties by row order so that equal searches give equal answers."""
    order = np.lexsort((np.asarray(found["_rowaddr"]), np.asarray(found[by]) * (-1 if by == "_score" else 1)))
    ranked = found.take(pa.array(order))
    return ranked["_rowaddr"].to_pylist(), ranked[by].to_pylist()


def _fused(rankings: Sequence[Sequence[int]], limit: int) -> tuple[list[int], list[float]]:
    scores: dict[int, float] = {}
    for addresses in rankings:
        for place, address in enumerate(addresses, start=1):
            scores[address] = scores.get(address, 0.0) + 1 / (_FUSION + place)
    best = sorted(scores, key=lambda address: (-scores[address], address))[:limit]
    return best, [scores[address] for address in best]
