"""Quality heuristics: texts that are too short, repeat themselves, or are symbols, markup, boilerplate or damage.

The rules are those that published corpora were made with, each with its own threshold: MassiveText (Rae et al. 2021,
"Scaling Language Models: Methods, Analysis & Insights from Training Gopher", appendix A), C4 (Raffel et al. 2020) and
Data-Juicer (Chen et al. 2024). They were written for pages of English prose and would throw away every short review, so
there are two presets: ``short`` (the default: sentences, reviews, messages) only takes what is garbage in any
collection; ``documents`` has the published thresholds. Rules that compare words count a Chinese character as one.

Every rejection says what was measured and what the limit is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepseek.data.cleaning import text_measures as measure


class QualityConfig(BaseModel):
    """Limits of the quality rules; null turns a rule off. What is not given comes from the preset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["short", "documents"] = Field(
        default="short", description="Where limits that are not given come from: short texts, or documents."
    )
    min_words: int | None = Field(
        default=None, ge=1, description="Fewest words; a Chinese or Japanese character counts as one."
    )
    max_words: int | None = Field(default=None, ge=1, description="Most words.")
    min_mean_word_chars: float | None = Field(
        default=None, ge=0, description="Shortest mean word, in characters (texts that are mostly Chinese apart)."
    )
    max_mean_word_chars: float | None = Field(default=None, ge=1, description="Longest mean word, likewise.")
    max_symbols: float | None = Field(
        default=0.5, ge=0, le=1, description="Largest share of characters that are neither text nor emoji."
    )
    min_lettered_words: float | None = Field(
        default=None, ge=0, le=1, description="Smallest share of space-separated words that have a letter."
    )
    max_uppercase: float | None = Field(default=None, ge=0, le=1, description="Largest share of capitals in letters.")
    max_markup: float | None = Field(
        default=0.3, ge=0, le=1, description="Largest share of characters in HTML tags, named entities and templates."
    )
    max_damage: float | None = Field(
        default=0.05, ge=0, le=1, description="Largest share of characters damaged by a wrong encoding (mojibake)."
    )
    max_boilerplate: float | None = Field(
        default=0.8, ge=0, le=1, description="Largest share of sentences that belong to a page: cookies, copyright."
    )
    max_run: float | None = Field(
        default=0.8, ge=0, le=1, description="Longest run of one character, as a share of a text of 20 or more."
    )
    max_duplicate_lines: float | None = Field(
        default=0.5, ge=0, le=1, description="Largest share of characters in repeated lines, from three lines on."
    )
    max_top_gram: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Largest share of the most frequent two words (0.02 less for each word more).",
    )
    max_duplicate_grams: float | None = Field(
        default=0.8, ge=0, le=1, description="Largest share of repeated five-word sequences, from 20 words on."
    )
    max_bullet_lines: float | None = Field(default=None, ge=0, le=1, description="Largest share of lines with bullets.")
    max_ellipsis_lines: float | None = Field(
        default=None, ge=0, le=1, description="Largest share of lines that end with an ellipsis."
    )
    min_stop_words: int | None = Field(
        default=None, ge=0, description="Fewest stop words (the, of, 的, 是 ...), whichever listed language has most."
    )
    stop_word_languages: tuple[Literal["en", "zh"], ...] = Field(
        default=("en", "zh"), min_length=1, description="Languages whose stop words count."
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("preset") == "documents":
            return {**_DOCUMENTS, **given}
        return given

    @model_validator(mode="after")
    def _bounds_agree(self) -> QualityConfig:
        for low, high in (("min_words", "max_words"), ("min_mean_word_chars", "max_mean_word_chars")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"expected {low} <= {high}, received {least} > {most}")
        return self


_DOCUMENTS: dict[str, Any] = {
    "min_words": 50,
    "max_words": 100_000,
    "min_mean_word_chars": 3.0,
    "max_mean_word_chars": 10.0,
    "max_symbols": 0.1,
    "min_lettered_words": 0.8,
    "max_uppercase": 0.6,
    "max_markup": 0.1,
    "max_damage": 0.01,
    "max_boilerplate": 0.3,
    "max_run": 0.3,
    "max_duplicate_lines": 0.2,
    "max_top_gram": 0.2,
    "max_duplicate_grams": 0.15,
    "max_bullet_lines": 0.9,
    "max_ellipsis_lines": 0.3,
    "min_stop_words": 2,
}


class QualityProblem(NamedTuple):
    """Why a text goes, and what was measured against which limit."""

    reason: str
    detail: str


def quality_problem(text: str, config: QualityConfig) -> QualityProblem | None:
    """The first rule that the text breaks, or ``None`` when it is fine."""
    for reason, value, limit, low in _measures(text, config):
        if limit is not None and (value < limit if low else value > limit):
            sign = "<" if low else ">"
            return QualityProblem(reason, f"{value:.4g} {sign} {limit:.4g}")
    return None


def _measures(text: str, config: QualityConfig) -> Iterator[tuple[str, float, float | None, bool]]:
    """Reason, value, limit and whether it is a lower one, the cheapest first; rules that are off are not measured."""
    if config.max_damage is not None:
        yield "damaged characters", measure.damage_share(text), config.max_damage, False
    if config.max_markup is not None:
        yield "markup", measure.markup_share(text), config.max_markup, False
    if config.max_symbols is not None and len(text) >= 10:  # ":-)" is a review, too
        yield "symbols", measure.symbol_share(text), config.max_symbols, False
    if config.max_run is not None and len(text) >= 20:
        yield "one character repeated", measure.run_share(text), config.max_run, False
    if config.max_uppercase is not None:
        yield "capitals", measure.uppercase_share(text), config.max_uppercase, False
    if config.max_boilerplate is not None:
        yield "boilerplate", measure.boilerplate_share(text), config.max_boilerplate, False
    yield from _word_measures(text, config)
    yield from _line_measures(text, config)


def _word_measures(text: str, config: QualityConfig) -> Iterator[tuple[str, float, float | None, bool]]:
    words = measure.words_of(text)
    yield "too few words", len(words), config.min_words, True
    yield "too many words", len(words), config.max_words, False
    spaced = text.split()
    if words and spaced and 2 * len(measure.CJK.findall(text)) < len(words):
        mean = sum(map(len, words)) / len(words)
        yield "short words", mean, config.min_mean_word_chars, True
        yield "long words", mean, config.max_mean_word_chars, False
        if config.min_lettered_words is not None:
            lettered = sum(any(map(str.isalpha, word)) for word in spaced) / len(spaced)
            yield "words without letters", lettered, config.min_lettered_words, True
    if config.min_stop_words is not None:
        most = max(measure.stop_word_count(words, language) for language in config.stop_word_languages)
        yield "too few stop words", most, config.min_stop_words, True
    if len(words) < 20:
        return
    if config.max_duplicate_grams is not None:
        share = measure.duplicate_gram_share(words, 5)
        yield "repeated sequences of words", share, config.max_duplicate_grams, False
    if config.max_top_gram is not None:
        for size in (2, 3, 4):
            limit = config.max_top_gram - 0.02 * (size - 2)
            yield f"one sequence of {size} words", measure.top_gram_share(words, size), max(limit, 0.0), False


def _line_measures(text: str, config: QualityConfig) -> Iterator[tuple[str, float, float | None, bool]]:
    lines = measure.lines_of(text)
    if len(lines) < 3:  # one line that begins with a dash is no list
        return
    if config.max_duplicate_lines is not None:
        yield "repeated lines", measure.duplicate_line_share(lines), config.max_duplicate_lines, False
    if config.max_bullet_lines is not None:
        yield "bullet lines", measure.bullet_share(lines), config.max_bullet_lines, False
    if config.max_ellipsis_lines is not None:
        yield "lines that break off", measure.ellipsis_share(lines), config.max_ellipsis_lines, False
