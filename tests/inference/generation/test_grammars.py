"""Compiled grammars are shared by threads: one that is slow to compile keeps nobody else waiting."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deepseek.inference.generation import Grammar
from deepseek.inference.generation.paged import grammars as module
from deepseek.inference.generation.paged.grammars import Grammars


def grammar(number: int) -> Grammar:
    return Grammar("regex", f"a{{{number}}}")


@pytest.fixture
def grammars(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Grammars(lambda: None, 256, frozenset([0]))  # type: ignore[arg-type, return-value]
    made.compilations, made.gate, made.started = [], threading.Event(), threading.Event()  # type: ignore[attr-defined]
    made.gate.set()  # type: ignore[attr-defined]

    def compiled(one: Grammar) -> str:
        made.compilations.append(one.text)  # type: ignore[attr-defined]
        made.started.set()  # type: ignore[attr-defined]
        assert made.gate.wait(20)  # type: ignore[attr-defined]
        return one.text

    monkeypatch.setattr(made, "_compile", compiled)
    return made


def test_a_compiled_grammar_is_had_while_another_compiles(grammars: Any) -> None:
    assert grammars.compiled(grammar(1)) == "a{1}"
    grammars.started.clear()
    grammars.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(grammars.compiled, grammar(2)) for _ in range(2)]
        assert grammars.started.wait(20)
        assert grammars.compiled(grammar(1)) == "a{1}"
        assert not any(each.done() for each in slow)
        grammars.gate.set()
        assert [each.result() for each in slow] == ["a{2}", "a{2}"]
    assert grammars.compilations == ["a{1}", "a{2}"]  # once each, whoever asks


def test_the_last_used_are_kept(grammars: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    for number in (1, 2, 1, 3, 1, 2):
        grammars.compiled(grammar(number))
    assert grammars.compilations == ["a{1}", "a{2}", "a{3}", "a{2}"]
