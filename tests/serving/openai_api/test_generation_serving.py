"""Generating models behind the task and OIP routes: continuous batching, cancellation, queues, blocking calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import transformers
from generation_fakes import Echo, core_of, echoing
from serving_fakes import CONFIG

from deepseek.errors import ConfigError, DataError
from deepseek.inference.generation import SamplingParameters
from deepseek.serving import ModelRepository, Server, ServingConfig
from deepseek.serving.errors import NotReadyError, QueueFullError, RequestError
from deepseek.serving.generation.generator import ServedGenerator
from deepseek.serving.generation.host import Ask
from deepseek.serving.generation.token_texts import TokenTexts
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc

TASK = "/v1/tasks/text-generation"


@pytest.fixture
def model() -> Iterator[ServedGenerator]:
    with echoing(adapters=["pirate"], max_sequences=2) as made:
        yield made


@pytest.fixture
def core(model: ServedGenerator) -> Echo:
    return core_of(model)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


def ask(prompt: str, count: int = 1) -> Ask:
    return Ask(prompt, count, lambda tokens: [SamplingParameters(max_new_tokens=50)] * count)


def test_rows_are_answered_over_every_protocol(model: ServedGenerator) -> None:
    with Server(CONFIG, [model]) as server, httpx.Client(base_url=server.http_url, timeout=30) as http:
        answer = http.post(
            TASK, json={"inputs": ["a", "b"], "model": "echo", "parameters": {"max_new_tokens": 2}}
        ).json()
        assert answer["outputs"] == [
            {"text": text, "prompt_tokens": 1, "completion_tokens": 2, "finish_reason": "length"}
            for text in ("<A", "<B")
        ]
        full = {"inputs": "a", "model": "pirate", "parameters": {"return_full_text": True}}
        assert http.post(TASK, json=full).json()["outputs"][0]["text"] == "apirate<A>"
        tensor = {"name": "prompt", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
        rest = http.post("/v2/models/pirate/infer", json={"inputs": [tensor]}).json()
        assert rest["outputs"][0]["data"] == ["pirate<A>", "pirate<B>"]
        metadata = http.get("/v2/models/echo").json()
        assert metadata["platform"] == "echo"
        with grpc.insecure_channel(server.grpc_address) as channel:
            typed = {"name": "prompt", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}
            request = pb.ModelInferRequest(model_name="echo", inputs=[typed])
            reply = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
            assert reply.outputs[0].contents.bytes_contents == [b"<A>"]


@pytest.mark.parametrize(
    ("inputs", "parameters", "message"),
    [
        ("a", {"temperature": -1}, "temperature"),
        ("a", {"max_length": 1, "max_new_tokens": 1}, "not both"),
        ("abc", {"max_length": 2}, "max_length=2"),
        ("x" * 400, {}, "the prompt has 400 tokens; the context has 400"),
        ("  ", {}, "empty"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    model: ServedGenerator, inputs: str, parameters: dict[str, Any], message: str
) -> None:
    with Server(CONFIG, [model]) as server:
        answer = httpx.post(server.http_url + TASK, json={"inputs": inputs, "parameters": parameters})
        assert answer.status_code == 400
        assert message in answer.json()["error"]
    with pytest.raises((DataError, ConfigError), match=message):
        model.predict([{"prompt": inputs}], parameters)


def test_short_answers_do_not_wait_for_long_ones(model: ServedGenerator, core: Echo) -> None:
    async def run() -> None:
        batcher = model.batcher(max_queue=8)
        long = batcher.submit([{"prompt": "endless"}])
        await eventually(lambda: core.left)
        [short] = await batcher.submit([{"prompt": "b"}])
        assert short["text"] == "<B>"
        assert not long.done()
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        assert not batcher.busy
        await eventually(lambda: core.cancelled and not core.left)

    asyncio.run(run())


def test_a_request_that_is_cancelled_while_its_prompt_is_read_leaves_nothing_behind(
    model: ServedGenerator, core: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    reading, read = threading.Event(), threading.Event()
    prompt_ids = model.host.engine.prompt_ids

    def slow(prompt: Any) -> list[int]:
        reading.set()
        assert read.wait(20)
        return prompt_ids(prompt)

    async def run() -> None:
        batcher = model.batcher(max_queue=8)
        task = asyncio.get_running_loop().create_task(batcher.start([ask("endless", 2)]))
        await eventually(reading.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not batcher.busy
        read.set()
        await eventually(lambda: len(core.cancelled) == 2 and not core.left)

    monkeypatch.setattr(model.host.engine, "prompt_ids", slow)
    asyncio.run(run())


def test_the_queue_is_bounded_for_a_model_and_its_adapters_together(model: ServedGenerator, core: Echo) -> None:
    async def run() -> None:
        base, adapter = (m.batcher(max_queue=2) for m in model.family())
        core.gate.clear()
        first = base.submit([{"prompt": p} for p in "ab"])
        second = adapter.submit([{"prompt": p} for p in "cd"])
        await asyncio.sleep(0)
        assert model.host.queued_rows == 2
        with pytest.raises(QueueFullError, match="2 rows waiting of at most 2"):
            await base.submit([{"prompt": "e"}])
        with pytest.raises(RequestError, match="at most 4 answers"):
            await base.start([ask("x", 5)])
        with pytest.raises(RequestError, match="at least one"):
            base.submit([])
        core.gate.set()
        assert [row["text"] for row in await first + await second] == ["<A>", "<B>", "pirate<C>", "pirate<D>"]
        assert model.host.rows == 0

    asyncio.run(run())


def test_a_wrong_prompt_among_several_starts_nothing(model: ServedGenerator, core: Echo) -> None:
    async def run() -> None:
        batcher = model.batcher(max_queue=8)
        with pytest.raises(DataError, match="token ids from 0 to 255"):
            await batcher.start([ask("endless"), Ask([999], 1, lambda n: [SamplingParameters()])])
        assert not batcher.busy
        await eventually(lambda: not core.left and not core.busy)

    asyncio.run(run())


def test_draining_waits_and_closing_does_not(model: ServedGenerator, core: Echo) -> None:
    async def run() -> None:
        batcher = model.batcher(max_queue=8)
        core.gate.clear()
        answer = batcher.submit([{"prompt": "a"}])
        await asyncio.sleep(0)
        draining = asyncio.get_running_loop().create_task(batcher.drain())
        await asyncio.sleep(0.01)
        assert not draining.done()
        core.gate.set()
        assert (await answer)[0]["text"] == "<A>"
        await draining
        with pytest.raises(NotReadyError):
            await batcher.submit([{"prompt": "a"}])
        other = model.batcher(max_queue=8)
        stuck = other.submit([{"prompt": "endless"}])
        await eventually(lambda: core.left)
        other.close()
        with pytest.raises(NotReadyError, match="shut down"):
            await stuck

    asyncio.run(run())


def test_a_closed_model_takes_no_requests(model: ServedGenerator) -> None:
    async def run() -> None:
        batcher = model.batcher(max_queue=8)
        model.close()
        with pytest.raises(NotReadyError):
            await batcher.submit([{"prompt": "a"}])
        assert not batcher.busy

    asyncio.run(run())


def test_blocking_calls_and_a_repository_that_removes(model: ServedGenerator) -> None:
    assert [row["text"] for row in model.predict([{"prompt": "a"}, {"prompt": "b"}])] == ["<A>", "<B>"]

    async def run() -> None:
        repository = ModelRepository(ServingConfig())
        await repository.add(model).warm_up()
        assert repository.names == ["echo", "pirate"]
        await repository.remove("pirate")
        [row] = await repository.get("echo").batcher.submit([{"prompt": "a"}])
        assert row["text"] == "<A>"

    asyncio.run(run())


def test_the_model_of_another_task_is_refused(tmp_path: Path) -> None:
    transformers.BertConfig(architectures=["BertForMaskedLM"], hidden_size=8).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="masked-language-modelling; expected a model for text-generation"):
        ServedGenerator.load(tmp_path)


def test_token_texts_are_the_text(smollm: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    texts = TokenTexts(tokenizer)
    text = " Grüße, 世界 🙂!\n\tdef f(x):  return x"
    ids = tokenizer(text)["input_ids"]
    assert b"".join(texts[token].bytes for token in ids) == text.encode()
    assert texts[tokenizer.eos_token_id].text == tokenizer.eos_token
    assert texts[len(tokenizer) + 5].bytes == b""
