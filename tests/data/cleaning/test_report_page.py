"""The report page: complete, self-contained, in two languages, and nothing from the data is ever markup."""

import re
from html.parser import HTMLParser

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import CleaningConfig, clean
from deepseek.data.cleaning import (
    BalanceConfig,
    CleaningReport,
    Example,
    LanguageConfig,
    OutlierConfig,
    PIIConfig,
    QualityConfig,
    StepReport,
)
from deepseek.data.cleaning.report_page import page
from deepseek.data.cleaning.report_words import words
from deepseek.errors import UnknownNameError

EVIL = "<script>alert('x')</script><img src=x onerror=\"y\">&amp;"
VOID = {"meta", "line", "rect", "path", "br", "i"}


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that they are nested properly."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in {"meta", "br", "line"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert tags.open == []
    assert not tags.seen & {"script", "img", "iframe", "link", "object", "embed", "a", "b-evil"}
    assert not any(name.startswith("on") or name in {"src", "href"} for name in tags.attributes)
    assert not re.search(r"https?://|url\(|@import", html)
    return tags


def real_report():
    texts = [
        "A fine film, and one to see again with friends.", "A fine film, and one to see again with friends.", EVIL * 3,
        "Das Wetter ist heute schön und wir gehen in den Park.", "write to bob@example.com about the film, please do",
        "", "这部电影真的很好看，值得再看一遍。", "$$$%%%^^^&&&***((((",
    ]  # fmt: skip
    labels = ["good", "good", EVIL, "bad", "good", "bad", "good", "bad"]
    table = pa.table({"text": texts, "label": labels, "x": [1.0, 2, 1, 2, 1, 2, 1, 9e9]})
    config = CleaningConfig(
        quality=QualityConfig(max_markup=None), language=LanguageConfig(), pii=PIIConfig(), balance=BalanceConfig(),
        outliers=OutlierConfig(columns=("x",)),
    )  # fmt: skip
    return clean(table, config).report


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_real_report(lang, tmp_path):
    html = real_report().to_html(tmp_path / "report.html", lang=lang).read_text(encoding="utf-8")
    tags = parsed(html)
    text = " ".join(tags.text)
    say = words(lang)
    for title in (
        "Cleaning report", "How the rows went", "Why rows were rejected", "Labels before and after", "Languages",
        "Text length, in characters", "Personal data", "Class balance", "Steps", "Examples", "Settings",
    ):  # fmt: skip
        assert say(title) in text
    assert "bob@example" not in html
    assert "prefers-color-scheme:dark" in html
    assert f'lang="{"zh-CN" if lang == "zh" else "en"}"' in html


def test_chinese_has_every_word_of_a_report(tmp_path):
    report = real_report()
    say = words("zh")
    for english in [
        *report.reasons,
        *(step.step for step in report.steps),
        *PIIConfig().kinds,
        "shorter than 5 characters",
    ]:
        assert re.search("[\u4e00-\u9fff]", say(english)), english
    assert say("my own label") == "my own label"
    with pytest.raises(UnknownNameError, match="Known: en, zh"):
        report.to_html(tmp_path / "x.html", lang="cn")


DIRTY = st.text(max_size=20) | st.sampled_from([EVIL, '"><svg onload=x>', "'", "</title>", "]]>", "\x00", "&lt;"])


@settings(max_examples=100, deadline=None)
@given(DIRTY, DIRTY, DIRTY, st.integers(0, 10**9), st.sampled_from(["en", "zh"]))
def test_nothing_from_the_data_becomes_markup(name, reason, text, count, lang):
    step = StepReport(
        step=name, rows_in=count + 1, rows_out=count, reasons={reason: 1},
        examples=[Example(reason=reason, row=1, text=text, duplicate_of=0, duplicate_text=text, detail=reason)],
        details={"flagged": [{"row": 1, "reason": reason, "score": 0.5, "text": text}], "found": {reason: 1},
                 "similarity": {text: 3}},
    )  # fmt: skip
    counts = {"labels": {text: count}, "lengths": {"10": count}}
    report = CleaningReport(
        rows_in=count + 1, rows_out=count, steps=[step], config={"x": text}, before=counts, after=counts
    )
    parsed(page(report, lang))


def test_empty_reports(tmp_path):
    parsed(page(CleaningReport(rows_in=0, rows_out=0, steps=[], config={}), "en"))
    nothing = clean(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())})).report
    parsed(nothing.to_html(tmp_path / "empty.html").read_text())


def test_lengths_and_labels_before_and_after():
    report = clean(pa.table({"text": ["abc", "abc", "abcdefghij"], "label": ["x", "x", "y"]})).report
    assert report.before == {"lengths": {"2": 2, "10": 1}, "labels": {"x": 2, "y": 1}}
    assert report.after == {"lengths": {"2": 1, "10": 1}, "labels": {"x": 1, "y": 1}}
