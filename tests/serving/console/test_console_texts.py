"""Both languages say everything, and say what is asked for."""

from __future__ import annotations

import re

import pytest

from deepseek.serving.console.assets import FOLDER

SCRIPTS = [path for path in FOLDER.rglob("*.js") if path.parent.name != "texts"]
ENTRY = re.compile(r'^  "([^"]+)": "(.*)",$')


def texts(language: str) -> dict[str, str]:
    lines = (FOLDER / "texts" / f"{language}.js").read_text(encoding="utf-8").splitlines()
    entries = [ENTRY.match(line) for line in lines if line.startswith('  "')]
    assert all(entries)
    found = [(entry[1], entry[2]) for entry in entries if entry]
    assert len(dict(found)) == len(found), "a text is there twice"
    return dict(found)


def test_both_languages_have_the_same_texts_with_the_same_places() -> None:
    english, chinese = texts("en"), texts("zh")
    assert english.keys() == chinese.keys()
    for key in english:
        assert sorted(re.findall(r"\{\w+\}", english[key])) == sorted(re.findall(r"\{\w+\}", chinese[key])), key


def test_every_text_that_is_asked_for_is_there_and_every_text_is_asked_for() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    asked = set(re.findall(r'\bt\(\s*(?:\w+ \? )?"([^"]+)"', source))
    pieces = re.findall(r"`((?:[\w.]|\$\{[^{}`]+\})+)`", source)
    made = [
        re.sub(r"\$\{[^}]+\}", ".+", piece.replace(".", r"\."))
        for piece in pieces
        if re.search(r"[a-z]\.|\.[a-z]", piece)
    ]
    english = texts("en")
    assert asked - english.keys() == set()
    assert r"view\..+" in made
    unasked = [key for key in english if f'"{key}"' not in source and not any(re.fullmatch(p, key) for p in made)]
    assert unasked == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_of_text(script: object) -> None:
    source = script.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source)
