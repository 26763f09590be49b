"""The engine over a core whose tokens are given: texts, stop texts, cancellation, failures, queues, streams."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.errors import ConfigError, DataError, EngineError
from deepseek.inference.generation import (
    CoreSettings,
    GenerationCore,
    GenerationEngine,
    SamplingParameters,
    Step,
    Stream,
)
from deepseek.inference.generation.text import TextOfTokens
from deepseek.inference.runtime import Availability
from deepseek.models.checkpoint import Checkpoint


class Bytes:
    """A tokenizer whose tokens are the bytes of UTF-8, so that a character may take several."""

    chat_template = None

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}

    def __len__(self) -> int:
        return 256

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return bytes(ids).decode(errors="replace")


class Scripted(GenerationCore):
    """Answers every prompt with the same text, a token a step, until it is held, told to fail, or done."""

    name = "scripted"

    def __init__(self, answer: str) -> None:
        self.answer, self.left = answer.encode(), dict[int, list[int]]()
        self.go, self.failure, self.cancelled = threading.Event(), None, list[int]()
        self.go.set()
        self.closed = False

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, ("cpu",), "")

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, device: str = "auto", dtype: str = "auto", settings: CoreSettings) -> Any:
        raise NotImplementedError

    context_length, vocabulary, end_tokens = 40, 256, frozenset[int]()  # type: ignore[assignment]

    def check(self, sampling: SamplingParameters) -> None:
        if sampling.grammar is not None:
            raise ConfigError("no grammars here")

    def add(
        self, sequence: int, prompt: Sequence[int], sampling: SamplingParameters, adapter: str | None = None
    ) -> None:
        if adapter is not None:
            raise ConfigError(f"no adapter {adapter}")
        self.left[sequence] = list(self.answer[: sampling.max_new_tokens])

    def step(self) -> list[Step]:
        assert self.go.wait(30)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        steps = []
        for sequence, tokens in list(self.left.items()):
            token = tokens.pop(0)
            if not tokens:
                del self.left[sequence]
            steps.append(Step(sequence, (token,), (), None if tokens else "length"))
        return steps

    def cancel(self, sequence: int) -> None:
        self.cancelled.append(sequence)
        self.left.pop(sequence, None)

    @property
    def busy(self) -> bool:
        return bool(self.left)

    def close(self) -> None:
        self.closed = True


Start = Callable[..., tuple[GenerationEngine, Scripted]]


@pytest.fixture
def start() -> Iterator[Start]:
    engines: list[GenerationEngine] = []

    def made(answer: str, **options: Any) -> tuple[GenerationEngine, Scripted]:
        core = Scripted(answer)
        engines.append(GenerationEngine(core, Bytes(), **options))  # type: ignore[arg-type]
        return engines[-1], core

    yield made
    for engine in engines:
        engine.close()


def test_a_character_comes_when_its_last_token_has(start: Start) -> None:
    engine, _ = start("a€é")
    stream = engine.submit("x")
    assert [piece.text for piece in stream] == ["a", "", "", "€", "", "é"]
    whole = stream.result()
    assert (whole.text, whole.finish_reason, whole.prompt_tokens) == ("a€é", "length", 1)
    assert bytes(whole.token_ids).decode() == "a€é"
    assert list(stream) == []  # each piece is given out once


def test_a_character_that_is_never_finished_comes_as_it_is(start: Start) -> None:
    engine, _ = start("a€")
    assert engine.generate(["x"], SamplingParameters(max_new_tokens=3))[0].text == "a\ufffd"


def test_what_may_begin_a_stop_text_waits_and_the_sequence_ends_at_it(start: Start) -> None:
    engine, core = start("one <en <end> more")
    stream = engine.submit("x", SamplingParameters(stop=("<end>", "never")))
    pieces = [piece.text for piece in stream]
    assert "".join(pieces) == "one <en "
    assert "<" not in pieces
    assert stream.result().finish_reason == "stop"
    assert core.cancelled == [0]


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="ab€", max_size=12),
    st.lists(st.text(alphabet="ab€", min_size=1, max_size=3), max_size=3),
    st.integers(1, 4),
)
def test_the_text_is_what_comes_before_the_first_stop_text_however_tokens_come(
    text: str, stops: list[str], size: int
) -> None:
    tokens = list(text.encode())
    made = TextOfTokens(Bytes(), [120], stops)  # type: ignore[arg-type]
    chunks = [tokens[i : i + size] for i in range(0, len(tokens), size)] or [[]]
    found = "".join(made.add(chunk, last=chunk is chunks[-1]) for chunk in chunks)
    ends = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    if size == 1 or not ends:
        assert found == text[: min(ends, default=len(text))] or _overlapping(text, stops)
    assert made.stopped == bool(ends)
    assert text.startswith(found)


def _overlapping(text: str, stops: list[str]) -> bool:
    """Whether a stop text ends before another one that begins earlier: then the one that is complete first counts."""
    spans = [(text.find(stop), text.find(stop) + len(stop)) for stop in stops if stop in text]
    return min(spans)[1] > min(end for _, end in spans)


def test_a_failed_step_fails_what_ran_and_nothing_later(start: Start) -> None:
    engine, core = start("abc")
    core.go.clear()
    streams = [engine.submit("x"), engine.submit("y")]
    core.failure = ValueError("broken kernel")
    core.go.set()
    for stream in streams:
        with pytest.raises(EngineError, match="ValueError: broken kernel"):
            stream.result(timeout=30)
    assert engine.generate(["z"])[0].text == "abc"


def test_a_refused_sequence_fails_alone(start: Start) -> None:
    engine, _ = start("abc")
    with pytest.raises(ConfigError, match="no adapter mine"):
        engine.submit("x", adapter="mine").result(timeout=30)
    assert engine.generate(["x"])[0].text == "abc"


def test_cancelling_ends_a_stream_and_its_sequence(start: Start) -> None:
    engine, core = start("abcdefgh" * 4)
    stream = engine.submit("x")
    core.go.clear()
    stream.cancel()
    core.go.set()
    assert stream.result(timeout=30).finish_reason == "cancelled"
    assert core.left == {}
    stream.cancel()  # once more does nothing


def test_the_answer_is_cut_to_the_room_in_the_context(start: Start) -> None:
    engine, _ = start("a" * 60)
    assert len(engine.generate(["x" * 35])[0].token_ids) == 5
    with pytest.raises(DataError, match=r"40 tokens; the context has 40"):
        engine.submit("x" * 40)
    with pytest.raises(DataError, match="empty"):
        engine.submit([])
    with pytest.raises(DataError, match="no chat template"):
        engine.submit([{"role": "user", "content": "x"}])


def test_more_than_may_wait_is_refused_and_a_failing_prompt_leaves_none_of_its_batch(start: Start) -> None:
    engine, core = start("ab", max_waiting=2)
    core.go.clear()
    taken: list[Stream] = []

    def more() -> None:
        while len(taken) < 9:
            taken.append(engine.submit("x"))

    with pytest.raises(EngineError, match="requests wait already"):
        more()
    core.go.set()
    assert 2 <= len(taken) <= 5  # what was taken before answers
    assert {stream.result(timeout=30).text for stream in taken} == {"ab"}
    with pytest.raises(DataError, match="empty"):
        engine.generate(["fine", ""])
    with pytest.raises(ConfigError, match="2 prompts, received 1"):
        engine.generate(["a", "b"], [SamplingParameters()])


def test_a_closed_engine_cancels_and_refuses(start: Start) -> None:
    engine, core = start("a" * 30)
    core.go.clear()
    stream = engine.submit("x")
    closing = threading.Thread(target=engine.close)
    closing.start()
    core.go.set()
    closing.join(30)
    assert stream.result(timeout=30).finish_reason == "cancelled"
    assert core.closed
    with pytest.raises(EngineError, match="closed"):
        engine.submit("x")
    with pytest.raises(EngineError, match="closed"):
        engine.run(lambda: 1)


def test_jobs_run_in_the_engines_thread_and_raise_in_the_callers(start: Start) -> None:
    engine, _ = start("ab")
    assert engine.run(lambda: threading.current_thread().name) == "deepseek-generation"
    with pytest.raises(ZeroDivisionError):
        engine.run(lambda: 1 // 0)


def test_event_loops_read_streams_beside_each_other(start: Start) -> None:
    engine, _ = start("abcd")

    async def read(prompt: str) -> str:
        return "".join([piece.text async for piece in engine.submit(prompt)])

    async def both() -> list[str]:
        return await asyncio.gather(read("x"), read("y"))

    assert asyncio.run(both()) == ["abcd", "abcd"]


def test_waiting_can_end_before_the_answer(start: Start) -> None:
    engine, core = start("ab")
    core.go.clear()
    stream = engine.submit("x")
    with pytest.raises(TimeoutError, match="not complete"):
        stream.result(timeout=0.01)
    core.go.set()
    assert stream.result(timeout=30).text == "ab"


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"temperature": -1}, "'temperature'"),
        ({"temperature": float("nan")}, "'temperature'"),
        ({"top_p": 0}, "'top_p' above 0"),
        ({"top_k": -1}, "'top_k'"),
        ({"max_new_tokens": 0}, "'max_new_tokens'"),
        ({"max_new_tokens": True}, "'max_new_tokens'"),
        ({"min_new_tokens": 9, "max_new_tokens": 3}, "more than"),
        ({"presence_penalty": 3}, "'presence_penalty'"),
        ({"logprobs": 99}, "'logprobs'"),
        ({"stop": [""]}, "'stop'"),
        ({"stop_token_ids": [-1]}, "'stop_token_ids'"),
        ({"grammar": "x"}, "Grammar"),
        ({"heat": 1}, "unknown sampling parameter 'heat'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_wrong_parameters_are_named(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SamplingParameters.of(**given_)


def test_lists_become_tuples() -> None:
    assert SamplingParameters.of(stop="x", stop_token_ids=[3]) == SamplingParameters(stop=("x",), stop_token_ids=(3,))
