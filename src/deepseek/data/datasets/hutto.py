"""The four sentiment sets of Hutto & Gilbert (2014): sentences with the mean valence of at least 20 human raters.

They lie in the source release of ``vaderSentiment`` as a tar inside a tar, which is read as a stream: nothing is
unpacked, no code of the package is touched. A line is ``id TAB mean valence in [-4, 4] TAB text``. ``label`` is
``"positive"`` above 0 and ``"negative"`` below; a sentence of valence exactly 0 keeps a null label, and the cleaner
rejects it with the reason "no label", so that it is counted and not lost.
"""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterator

from deepseek.artifacts import PackageFile, fetch
from deepseek.data.datasets.card import Dataset, DatasetCard, Line, origin_of
from deepseek.errors import DataError

ARCHIVE = PackageFile(
    project="vaderSentiment",
    version="3.3.2",
    filename="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    license="MIT",
)
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_CITATION = (
    "Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media "
    "Text. Eighth International Conference on Weblogs and Social Media (ICWSM-14). Ann Arbor, MI, June 2014."
)


def _lines(member: str, prefix: str) -> Iterator[Line]:
    path = fetch(ARCHIVE)
    with tarfile.open(path, "r:gz") as outer:
        inner_file = outer.extractfile(_INNER)
        assert inner_file is not None  # the archive's hash was verified
        with tarfile.open(fileobj=inner_file, mode="r:gz") as inner:
            text_file = inner.extractfile(f"hutto_ICWSM_2014/{member}")
            assert text_file is not None
            for number, raw in enumerate(text_file, start=1):
                yield parse_line(number, raw, prefix)


def parse_line(number: int, raw: bytes, prefix: str) -> Line:
    """One line of a ground-truth file; ``prefix`` begins the ids (``"movie"`` → ``"movie-1"``)."""
    shown = raw[:200].decode("utf-8", "backslashreplace").rstrip("\r\n")
    try:
        identifier, valence_text, text = raw.decode("utf-8").rstrip("\r\n").split("\t")
        valence = float(valence_text)
        if not (math.isfinite(valence) and -4 <= valence <= 4):
            raise DataError(f"expected a valence in [-4, 4], received {valence_text!r}")
    except UnicodeDecodeError:
        return Line(number=number, problem="not valid UTF-8", raw=shown)
    except DataError as error:
        return Line(number=number, problem=str(error), raw=shown)
    except ValueError:
        return Line(number=number, problem="expected id, valence and text with tabs between", raw=shown)
    label = "positive" if valence > 0 else "negative" if valence < 0 else None
    values = {"id": f"{prefix}-{identifier}", "text": text, "valence": valence, "label": label}
    return Line(number=number, values=values)


def _dataset(name: str, title: str, member: str, prefix: str, rows: int, neutral: int, origin: str) -> Dataset:
    card = DatasetCard(
        name=name,
        title=title,
        license=ARCHIVE.license,
        citation=_CITATION,
        homepage="https://github.com/cjhutto/vaderSentiment",
        columns={"id": "string", "text": "string", "valence": "float32", "label": "string"},
        language="en",
        rows=rows,
        origin=origin_of(ARCHIVE),
        notes=f"{origin} {neutral:,} of {rows:,} rows have a valence of exactly 0 and therefore a null label.",
    )
    return Dataset(card=card, read=lambda: _lines(member, prefix))


MOVIE_REVIEWS = _dataset(
    "hutto-movie-reviews",
    "Movie review sentences with human valence",
    "movieReviewSnippets_GroundTruth.txt",
    "movie",
    10_605,
    37,
    "Sentences from movie reviews (Pang & Lee 2004), rated again by people. This is not SST-2.",
)
TWEETS = _dataset(
    "hutto-tweets",
    "Tweet-like texts with human valence",
    "tweets_GroundTruth.txt",
    "tweet",
    4_200,
    4,
    "4,000 texts after real tweets, with user names and addresses replaced, and 200 contrived ones.",
)
PRODUCT_REVIEWS = _dataset(
    "hutto-product-reviews",
    "Product review sentences with human valence",
    "amazonReviewSnippets_GroundTruth.txt",
    "product",
    3_708,
    98,
    "Sentences from reviews of five electronic products (Hu & Liu 2004).",
)
NEWS = _dataset(
    "hutto-news",
    "News editorial sentences with human valence",
    "nytEditorialSnippets_GroundTruth.txt",
    "news",
    5_190,
    244,
    "Sentences from 500 newspaper opinion editorials.",
)
