"""Quality rules: garbage goes with what was measured, good short reviews stay."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from deepseek.data import CleaningConfig, clean, datasets
from deepseek.data.cleaning import QualityConfig, quality_problem
from deepseek.data.cleaning import text_measures as measure

PROSE = (
    "The committee met on Tuesday to discuss the plan for the new bridge over the river, which has been in the news "
    "for months. Most of the members were in favour of it, but some of them said that it would cost too much and that "
    "the money should be used for schools. A decision is expected at the end of the month, when the report is out."
)
PAGES = {
    "markup": '<div class="a"><p><b></b></p></div><br/><br/>text&nbsp;&nbsp;',
    "damaged characters": "FranÃ§ois a Ã©tÃ© trÃ¨s content de lâ€™hÃ´tel",
    "symbols": "$$$%%%^^^&&&***(((){}{}[][]",
    "one character repeated": "soooooooooooooooooooooooooooooooooooooooo",
    "repeated sequences of words": "buy it now from our shop today " * 20,
    "repeated lines": "Home\nAbout us and more\nAbout us and more\nAbout us and more\nAbout us and more",
    "boilerplate": "All rights reserved. Privacy policy. Please enable JavaScript to see this page.",
}


@pytest.mark.parametrize("reason", PAGES)
def test_garbage_goes_with_a_measure(reason):
    problem = quality_problem(PAGES[reason], QualityConfig())
    assert problem is not None
    assert problem.reason == reason
    value, sign, limit = problem.detail.split()
    assert sign == ">"
    assert float(value) > float(limit)
    names = {
        "markup": "max_markup", "damaged characters": "max_damage", "symbols": "max_symbols",
        "one character repeated": "max_run", "repeated sequences of words": "max_duplicate_grams",
        "repeated lines": "max_duplicate_lines", "boilerplate": "max_boilerplate",
    }  # fmt: skip
    assert quality_problem(PAGES[reason], QualityConfig(**{names[reason]: None})) != problem


@pytest.mark.parametrize(
    "text",
    ["good", "好", "很好！！！", ":-)", "👍👍👍👍👍👍👍👍👍👍👍👍", "AMAZING!!!", "10/10", "sooooo goooood", "不错不错不错", "A+", "$5", "C++ > C#",
     "I <3 it", "naïve café, déjà vu", "مرحبا بالعالم", "Ж😀👨‍👩‍👧", "看了一点&#183;&#183;就没看了"],
)  # fmt: skip
def test_short_reviews_stay(text):
    assert quality_problem(text, QualityConfig()) is None


@pytest.mark.parametrize("name", ["hutto-movie-reviews", "hutto-product-reviews", "hutto-tweets"])
def test_real_reviews_stay(name):
    texts = [row["text"] for row in datasets.load_dataset_rows(name)]
    gone = [text for text in texts if quality_problem(text, QualityConfig())]
    assert len(gone) <= 1, gone


def test_documents():
    long = [word for word in PROSE.split() if len(word) > 4] * 3
    config = QualityConfig(preset="documents")
    assert quality_problem(PROSE, config) is None
    for reason, text in {
        "too few words": "A fine film.",
        "capitals": PROSE.upper(),
        "too few stop words": " ".join(f"keyword{n} thing{n}" for n in range(40)).replace("0", "zero"),
        "short words": " ".join(["it is a b c of no"] * 1 + [chr(97 + n % 26) for n in range(60)]),
        "bullet lines": "\n".join(f"- {a} the {b} of {a}" for a, b in zip(long[:30], long[9:39], strict=True)),
        "lines that break off": "\n".join(f"{a} the {b} of {a} ..." for a, b in zip(long[:30], long[9:39], strict=True)),
    }.items():  # fmt: skip
        # short lines of one form repeat their words as well; here it is the other rules that matter
        problem = quality_problem(
            text,
            config.model_copy(update={"max_duplicate_grams": None, "max_top_gram": None, "max_duplicate_lines": None}),
        )
        assert problem is not None, reason
        assert problem.reason == reason
    chinese = "委员会在周二开会讨论了新桥的计划，多数成员表示赞成，也有人认为花费太大，应该把钱用在学校上。" * 1
    assert quality_problem(chinese, QualityConfig(preset="documents", min_words=40)) is None


def test_a_given_limit_wins_over_the_preset():
    config = QualityConfig(preset="documents", min_words=3, max_symbols=None)
    assert (config.min_words, config.max_symbols, config.min_stop_words) == (3, None, 2)
    with pytest.raises(ValidationError, match="min_words <= max_words"):
        QualityConfig(min_words=9, max_words=8)
    with pytest.raises(ValidationError):
        QualityConfig(max_symbols=1.5)
    again = QualityConfig.model_validate(config.model_dump())
    assert again == config


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_every_share_is_a_share(text):
    words, lines = measure.words_of(text), measure.lines_of(text)
    shares = [
        *(f(text) for f in (measure.symbol_share, measure.uppercase_share, measure.markup_share, measure.damage_share,
                            measure.boilerplate_share, measure.run_share)),
        *(f(lines) for f in (measure.duplicate_line_share, measure.bullet_share, measure.ellipsis_share)),
        *(f(words, n) for f in (measure.top_gram_share, measure.duplicate_gram_share) for n in (2, 5)),
    ]  # fmt: skip
    assert all(0 <= share <= 1 for share in shares)
    quality_problem(text, QualityConfig(preset="documents"))


def test_words_of_chinese_are_characters():
    assert measure.words_of("很好 It's e-mail2") == ["很", "好", "it's", "e-mail2"]


def test_the_step_keeps_the_measure():
    rows = pa.table({"text": ["fine", PAGES["symbols"], None], "label": list("abc")})
    result = clean(rows, CleaningConfig(quality=QualityConfig()))
    assert result.rejected.select(["step", "reason", "detail"]).to_pylist() == [
        {"step": "quality", "reason": "symbols", "detail": "0.8519 > 0.5"},
        {"step": "row checks", "reason": "missing text", "detail": ""},
    ]
    assert result.report.steps[0].examples[0].detail == "0.8519 > 0.5"
