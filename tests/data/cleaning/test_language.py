"""Languages: real Chinese and English sentences stay, others go, short ones are left alone, nothing is downloaded."""

import socket

import pyarrow as pa
import pytest
from pydantic import ValidationError

from deepseek.data import CleaningConfig, clean, datasets
from deepseek.data.cleaning import LanguageConfig, detect_languages
from deepseek.data.cleaning.language import language_verdicts

FOREIGN = {
    "de": "Das Wetter ist heute schön und wir gehen mit den Kindern in den Park.",
    "fr": "Je ne sais pas pourquoi il a dit cela, mais nous devons partir maintenant.",
    "es": "No entiendo por qué la película tiene tantos premios, es muy aburrida.",
    "ru": "Этот фильм мне совсем не понравился, жаль потраченного времени.",
    "ja": "この映画はとても面白かったので、また見たいと思います。",
    "ko": "이 영화는 정말 재미있어서 다시 보고 싶습니다.",
    "ar": "هذا الفيلم جميل جدا وأريد أن أشاهده مرة أخرى",
}
CHINESE = [
    "这部电影真的很好看，值得再看一遍。",
    "这部電影真的很好看，值得再看一遍。",
    "书很薄,印刷纸张还不错",
    "尽信书不如无书。",
    "这个app很好用，推荐给朋友们",
    "の字有点多余，但是电影很好看",
]


@pytest.mark.parametrize("code", FOREIGN)
def test_other_languages_are_rejected_and_kept_when_wanted(code):
    (verdict,) = language_verdicts([FOREIGN[code]], LanguageConfig())
    assert verdict.language == code
    assert verdict.reason == "another language"
    assert code in verdict.detail
    assert not language_verdicts([FOREIGN[code]], LanguageConfig(languages=(code,)))[0].reason


def test_chinese_needs_no_spaces():
    assert [found.language for found in detect_languages(CHINESE)] == ["zh"] * len(CHINESE)


def test_what_says_too_little_is_undecided():
    texts = [None, "", ":-)", "LMAO!", "👍👍👍", "12.50", "https://example.com/a/b", "@name", "好"]
    kept = language_verdicts(texts, LanguageConfig())
    assert {verdict.language for verdict in kept} == {"und"}
    assert not any(verdict.reason for verdict in kept)
    strict = language_verdicts(texts, LanguageConfig(undecided="reject"))
    assert {verdict.reason for verdict in strict} == {"language undecided"}


def test_real_english_sentences_stay():
    texts = [row["text"] for row in datasets.load_dataset_rows("hutto-movie-reviews")]
    verdicts = language_verdicts(texts, LanguageConfig())
    gone = [text for text, verdict in zip(texts, verdicts, strict=True) if verdict.reason]
    assert len(gone) < 0.001 * len(texts)
    assert "Merci pour le movie." in gone
    assert sum(verdict.language == "en" for verdict in verdicts) > 0.99 * len(texts)


def test_a_row_depends_on_itself_alone():
    texts = [*FOREIGN.values(), *CHINESE, "A fine film, and one to see again."]
    alone = [language_verdicts([text], LanguageConfig())[0] for text in texts]
    assert language_verdicts(texts[::-1], LanguageConfig())[::-1] == alone


def test_the_model_is_loaded_from_the_package(monkeypatch):
    from deepseek.data.cleaning import language

    def refuse(*_):
        raise AssertionError("tried to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    language._identifier.cache_clear()
    assert detect_languages(["It is a fine day for a walk in the park."])[0].language == "en"


def test_the_step_counts_languages():
    rows = pa.table(
        {"text": ["A fine film, and one to see again.", FOREIGN["de"], CHINESE[0], "ok"], "label": list("abab")}
    )
    result = clean(rows, CleaningConfig(language=LanguageConfig()))
    assert result.rejected["reason"].to_pylist() == ["another language"]
    assert result.rejected["detail"].to_pylist()[0].startswith("de, probability ")
    step = next(step for step in result.report.steps if step.step == "language")
    assert step.details == {"en": 1, "de": 1, "zh": 1, "und": 1}


def test_wrong_settings():
    for wrong in ({"languages": ()}, {"languages": ("English",)}, {"min_confidence": 0.4}, {"undecided": "drop"}):
        with pytest.raises(ValidationError):
            LanguageConfig(**wrong)
