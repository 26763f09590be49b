"""The playground in a real browser: each task asked and answered, refusals, copies that run, a chat that streams."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_models import Churn, Embedder, Pictures, Sentiment, Tagger, Teller, teller
from console_page import ConsolePage
from console_traffic import QUICK
from generation_fakes import echoing
from headless_chromium import Browser
from serving_fakes import FakeArrays
from upload_fakes import FakeImages, answer

from deepseek.serving import Server

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGP8z4APMOGVHbHSDEQAEe4BD8j4XioAAAAASUVORK5CYII="
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    models: list[Any] = [
        Sentiment(), Embedder("minilm"), Tagger("entities"), Pictures("animals"), Churn("churn"), FakeArrays(), FakeImages(task="pictures"),
        teller(), echoing(),
    ]  # fmt: skip
    with Server(QUICK, models) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[ConsolePage]:
    with ConsolePage(browser, server.http_url, expected=(400, 500)) as opened:
        yield opened


def choose(page: ConsolePage, model: str) -> None:
    page.go(f"playground/{model}")
    page.wait(f"document.querySelector('.chooser select')?.value.startsWith('{model}/')")


def ask(page: ConsolePage) -> str:
    """Press the button; what the answer then says."""
    page.run("document.querySelector('.output').replaceChildren(); document.querySelector('form').requestSubmit()")
    page.wait("document.querySelector('.output .raw, .output .notice')")
    return page.text(".output")


def snippet(page: ConsolePage, kind: str) -> str:
    page.press(kind, ".snippets")
    page.wait("document.querySelector('.snippets pre')")
    return str(page.run("document.querySelector('.snippets pre').textContent"))


def raw(page: ConsolePage) -> Any:
    return json.loads(page.run("document.querySelector('.raw pre').textContent"))


def test_a_text_is_classified(page: ConsolePage) -> None:
    choose(page, "sentiment")
    said = ask(page)  # the form begins with an example
    assert said.startswith("Rows: 1 · ")
    assert page.texts(".output dt")[0] == "positive"
    assert sorted(page.texts(".output dt")) == ["negative", "neutral", "positive"]
    assert page.texts(".output .amount")[0].endswith("%")
    page.write("textarea[name=text]", "dull tired boring")
    page.write("input[name=temperature]", "0.5")
    ask(page)
    expected = Sentiment().answer({"text": "dull tired boring"}, {"temperature": 0.5})
    assert raw(page)[0]["label"] == expected["label"] == "negative"
    assert raw(page)[0]["score"] == pytest.approx(expected["score"], abs=1e-6)


def test_several_rows_are_asked_at_once(page: ConsolePage) -> None:
    choose(page, "sentiment")
    page.press("Add a row")
    page.press("Add a row")
    assert page.texts(".row legend span") == ["Row 1", "Row 2", "Row 3"]
    page.press("Remove", ".row:nth-child(1)")
    page.write(".row:nth-child(1) textarea", "wonderful warm film")
    page.write(".row:nth-child(2) textarea", "dull film")
    ask(page)
    assert [row["label"] for row in raw(page)] == ["positive", "negative"]


def test_what_is_wrong_is_said_where_it_is(page: ConsolePage) -> None:
    choose(page, "churn")
    page.write("input[name=age]", "1.5")
    page.run("document.querySelector('form').requestSubmit()")
    page.wait_for("age: expected a whole number", ".problem")
    assert page.run("document.activeElement.name") == "age"
    page.write("input[name=age]", "")
    page.run("document.querySelector('form').requestSubmit()")
    page.wait_for("age: expected a value, received none", ".problem")
    page.write("input[name=age]", "40")
    page.write("textarea[name=visits]", "[1, 2]")
    assert "Refused (400)" in ask(page)
    assert "visits" in page.text(".output")
    page.write("textarea[name=visits]", "1, 2, 3")
    page.write("input[name=balance]", "100.5")
    page.write("select[name=active]", "true")
    ask(page)
    row = {"age": 40, "balance": 100.5, "active": True, "visits": [1, 2, 3]}
    assert raw(page)[0]["value"] == pytest.approx(Churn("churn").answer(row, {})["value"], abs=1e-6)
    assert page.text(".value") != ""


def test_a_fault_of_the_model_is_shown_as_one(page: ConsolePage) -> None:
    choose(page, "sentiment")
    page.write("textarea[name=text]", "crash")
    assert "Refused (500)" in ask(page)
    page.write("textarea[name=text]", "refuse")
    assert "expected a text about a film" in ask(page)


def test_spans_are_marked_where_they_are(page: ConsolePage) -> None:
    choose(page, "entities")
    text = "😀 Ada went to Turin"
    page.write("textarea[name=text]", text)
    ask(page)
    marks = page.run(
        "[...document.querySelectorAll('mark')].map((e) => [e.firstChild.textContent, e.lastChild.textContent])"
    )
    assert marks == [["Ada", "PER"], ["Turin", "ORG"]]
    plain = page.run(
        "[...document.querySelector('.spans').childNodes].map((e) => e.firstChild?.textContent ?? e.textContent).join('')"
    )
    assert plain == text
    page.write("textarea[name=text]", "nothing here")
    assert "Nothing was marked." in ask(page)


def test_vectors_are_told_in_short_and_compared(page: ConsolePage) -> None:
    choose(page, "minilm")
    page.press("Add a row")
    page.write(".row:nth-child(1) textarea", "a film")
    page.write(".row:nth-child(2) textarea", "a film")
    said = ask(page)
    assert "384 dimensions · norm 1.00" in said
    assert page.run("document.querySelectorAll('.stripes').length") == 2
    assert page.texts(".output table td.number") == ["1.000"] * 4


def test_a_picture_is_shown_and_sent(page: ConsolePage, tmp_path: Path) -> None:
    file = tmp_path / "it's a picture.png"
    file.write_bytes(PNG)
    choose(page, "animals")
    page.run("document.querySelector('form').requestSubmit()")
    page.wait_for("image: expected a value", ".problem")
    page.browser.upload("input[name=image]", [file])
    page.wait("document.querySelector('.preview img')?.naturalWidth === 8")
    ask(page)
    expected = Pictures("animals").answer({"image": PNG}, {})
    assert (raw(page)[0]["label"], raw(page)[0]["bytes"]) == (expected["label"], len(PNG))
    command = snippet(page, "curl")
    assert "-F 'image=@" in command
    assert base64.b64encode(PNG).decode() not in command
    if shutil.which("curl"):
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert json.loads(done.stdout)["outputs"] == raw(page)
    code = snippet(page, "Python")
    assert run_python(code, tmp_path) == raw(page)


def test_several_files_are_sent_with_and_without_what_is_optional(page: ConsolePage, tmp_path: Path) -> None:
    files = [tmp_path / "one.bin", tmp_path / 'two "2".bin']
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * 50)
    choose(page, "pictures")
    page.press("Add a row")
    for number, file in enumerate(files, 1):
        page.browser.upload(f".row:nth-child({number}) input[name=image]", [file])
    page.write("input[name=top_k]", "3")
    for captions in (["a", "100% \\ b"], ["a", ""]):
        for number, caption in enumerate(captions, 1):
            page.write(f".row:nth-child({number}) textarea[name=caption]", caption)
        ask(page)
        expected = [answer(file.read_bytes(), text) for file, text in zip(files, captions, strict=True)]
        assert [row["digest"] for row in raw(page)] == [row["digest"] for row in expected]
        assert [row["caption"] for row in raw(page)] == captions
        assert run_python(snippet(page, "Python"), tmp_path) == raw(page)
        if shutil.which("curl"):
            command = snippet(page, "curl")
            done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=30)
            assert json.loads(done.stdout)["outputs"] == raw(page), command


def run_python(code: str, folder: Path) -> Any:
    pytest.importorskip("requests")
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        exec(compile(code, "snippet", "exec"), {})
    return eval(out.getvalue())


def test_copies_do_the_same_whatever_is_written(page: ConsolePage, tmp_path: Path) -> None:
    choose(page, "sentiment")
    page.write("textarea[name=text]", 'it\'s "100%" $HOME `moving` \\n and funny\nfilm é 😀')
    page.write("input[name=temperature]", "2")
    ask(page)
    assert run_python(snippet(page, "Python"), tmp_path) == raw(page)
    if shutil.which("curl"):
        command = snippet(page, "curl")
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert json.loads(done.stdout)["outputs"] == raw(page)
    page.browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.browser.call("Page.bringToFront")
    page.press("Copy", ".snippets")
    page.wait_for("Copied", ".snippets")


def test_lists_optional_fields_and_bytes(page: ConsolePage) -> None:
    choose(page, "arrays")
    assert page.run("document.querySelector('[name=x]').value") == "[[0.5,0.5],[0.5,0.5]]"
    page.write("textarea[name=tags]", "one\ntwo")
    page.write("select[name=flag]", "true")
    said = ask(page)
    assert raw(page)[0]["tags"] == ["one", "two"]
    assert raw(page)[0]["flag"] is True
    assert raw(page)[0]["x"] == [[0.5, 0.5], [0.5, 0.5]]
    assert "tags" in said
    page.write("textarea[name=x]", "[[1, 2")
    page.run("document.querySelector('form').requestSubmit()")
    page.wait_for("x: expected a list such as", ".problem")


def test_what_is_written_stays_while_numbers_come(page: ConsolePage) -> None:
    choose(page, "sentiment")
    page.write("textarea[name=text]", "half a sentence")
    page.run("window.area = document.querySelector('textarea[name=text]'); 0")
    page.run("performance.clearResourceTimings()")
    page.wait("performance.getEntriesByType('resource').some((e) => e.name.includes('/console/data'))")
    assert (
        page.run("document.querySelector('textarea[name=text]') === window.area && window.area.value")
        == "half a sentence"
    )


def test_a_chat_streams_and_remembers(page: ConsolePage) -> None:
    choose(page, "echo")
    page.write("textarea[name=system]", "Be brief.")
    page.write("input[name=seed]", "7")
    page.write("textarea[name=prompt]", "hello")
    page.press("Send")
    page.wait("document.querySelector('.message.assistant .words') && !document.querySelector('.writing')")
    assert page.text(".message.assistant .words") == "<SYSTEM: BE BRIEF.\nUSER: HELLO\n|7>"
    assert "first token after" in page.text(".message.assistant")
    assert "tokens/s" in page.text(".message.assistant")
    page.write("textarea[name=prompt]", "again")
    page.run("document.querySelector('[name=prompt]').focus()")
    page.browser.call(
        "Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", modifiers=2, windowsVirtualKeyCode=13
    )
    page.wait("document.querySelectorAll('.message.assistant').length === 2 && !document.querySelector('.writing')")
    answer = page.texts(".message.assistant .words")[1]
    assert "ASSISTANT: <SYSTEM" in answer
    assert "USER: AGAIN" in answer
    code = snippet(page, "Python")
    compile(code, "snippet", "exec")
    assert "seed=7," in code
    assert '"content": "Be brief."' in code
    page.press("Start again")
    assert page.run("document.querySelectorAll('.message').length") == 0


def test_a_chat_appears_word_by_word_and_can_be_stopped(page: ConsolePage) -> None:
    choose(page, "teller")
    page.write("textarea[name=prompt]", "why?")
    page.press("Send")
    page.wait("document.querySelector('.message.assistant .words')?.textContent.length > 10")
    page.press("Stop")
    page.wait_for("Stopped.", ".message.assistant")
    said = page.text(".message.assistant .words")
    assert Teller.story.startswith(said)
    assert len(said) < len(Teller.story)
    assert page.run("document.querySelector('.compose .primary').checkVisibility()")


def test_a_chat_that_is_refused_says_why(page: ConsolePage) -> None:
    choose(page, "echo")
    page.press("Send")
    page.wait_for("Message: expected a value", ".problem")
    page.write("textarea[name=prompt]", "hello")
    page.write("input[name=temperature]", "9")
    page.press("Send")
    page.wait_for("Refused (400)", ".message.assistant")
    assert "temperature" in page.text(".message.assistant")
