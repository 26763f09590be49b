"""The official OpenAI client, unchanged, against this server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_environments import OPENAI
from generation_fakes import Echo, FakeEmbedder, echoing
from serving_fakes import CONFIG

from deepseek.serving import Server, assembly
from deepseek.serving.errors import AuthenticationError, PermissionDeniedError, QuotaExceededError
from deepseek.serving.gateway import Gateway

CALLS = Path(__file__).with_name("openai_client_calls.py")


def call(name: str, server: Server) -> Any:
    return OPENAI.run(CALLS, name, f"{server.http_url}/v1")


@pytest.fixture(scope="module")
def answered(openai_server: Server) -> Any:
    return call("fakes", openai_server)


def test_models(answered: Any) -> None:
    assert answered["models"] == ["echo", "pirate", "sentiment", "vectors"]
    assert answered["model"]["id"] == "pirate"
    assert answered["model"]["owned_by"] == "deepseek"


def test_chats(answered: Any) -> None:
    assert answered["chat"]["choices"][0]["message"]["content"] == "<USER: HI\n>"
    assert answered["chat"]["choices"][0]["finish_reason"] == "stop"
    assert answered["chat"]["usage"]["total_tokens"] == 20
    choices = [chunk["choices"][0] for chunk in answered["stream"]]
    assert "".join(c["delta"]["content"] or "" for c in choices) == "pirate<USER: HI\n>"
    assert choices[-1]["finish_reason"] == "stop"
    assert answered["helper"]["choices"][0]["message"]["content"] == "<USER: HI\n>"
    assert answered["helper"]["usage"]["completion_tokens"] == 11


def test_completions(answered: Any) -> None:
    assert [choice["text"] for choice in answered["completion"]["choices"]] == ["<A>", "<B>"]
    assert answered["completion"]["choices"][1]["logprobs"]["tokens"] == ["<", "B", ">"]


def test_embeddings_as_base64_which_is_the_clients_default_and_as_numbers(answered: Any) -> None:
    assert [len(d["embedding"]) for d in answered["embedding"]["data"]] == [3, 3]
    assert answered["embedding"]["data"][0]["embedding"] == answered["plain embedding"]
    assert answered["embedding"]["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_errors_are_the_clients_exceptions(answered: Any) -> None:
    found = [(e["class"], e["status"], e["param"], e["code"]) for e in answered["errors"]]
    assert found == [
        ("NotFoundError", 404, "model", "model_not_found"),
        ("NotFoundError", 404, "model", "model_not_found"),
        ("BadRequestError", 400, "temperature", "invalid_value"),
        ("BadRequestError", 400, "colour", "unknown_parameter"),
        ("BadRequestError", 400, None, "context_length_exceeded"),
        ("BadRequestError", 400, "tools", "unsupported_parameter"),
    ]
    assert {e["type"] for e in answered["errors"]} == {"invalid_request_error"}


def test_a_client_that_stops_reading_cancels_the_answer(openai_server: Server, core: Echo) -> None:
    core.cancelled.clear()
    assert call("leaving", openai_server) == {"roles": ["assistant", "assistant"]}
    deadline = time.monotonic() + 20
    while len(core.cancelled) < 2:
        assert time.monotonic() < deadline, "the engine goes on for clients that have left"
        time.sleep(0.01)
    assert not core.left


class Key:
    def __init__(self, key_id: str) -> None:
        self.key_id = key_id

    def allows(self, model: str) -> bool:
        return model == "echo"


class Keys:
    """The key "good" covers the model "echo"; "spent" has used up its plan."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def authenticate(self, headers: Any) -> Key:
        key = (headers.get("authorization") or "").removeprefix("Bearer ")
        if key not in ("good", "spent"):
            raise AuthenticationError("unknown key")
        return Key(key)

    def admit(self, principal: Any, model: str, rows: int) -> None:
        if not principal.allows(model):
            raise PermissionDeniedError(f"this key does not cover {model!r}")
        if principal.key_id == "spent":
            raise QuotaExceededError("the plan allows no more today", 7.2)
        self.seen.append((principal.key_id, model, rows))

    def charge(self, principal: Any, model: str, rows: int, input_tokens: int, output_tokens: int) -> None: ...


class Noticing(Gateway):
    """Keeps what requests used."""

    used: list[Any]

    def end(self, call: Any, error: BaseException | None) -> None:
        self.used.append(call)
        super().end(call, error)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Keys, Noticing]]:
    gateways: list[Noticing] = []
    keys = Keys()

    def gateway(repository: Any, lifecycle: Any, **_: Any) -> Noticing:
        gateways.append(Noticing(repository, lifecycle, access=keys))
        gateways[0].used = []
        return gateways[0]

    monkeypatch.setattr(assembly, "Gateway", gateway)
    with echoing() as model, Server(CONFIG, [model, FakeEmbedder()]) as server:
        yield server, keys, gateways[0]


def test_keys_scopes_and_quotas(guarded: tuple[Server, Keys, Noticing]) -> None:
    server, keys, gateway = guarded
    found = call("refused", server)
    assert (found["unknown"]["class"], found["unknown"]["status"]) == ("AuthenticationError", 401)
    assert found["unknown"]["code"] == "invalid_api_key"
    assert (found["scope"]["class"], found["scope"]["status"]) == ("PermissionDeniedError", 403)
    assert (found["spent"]["class"], found["spent"]["code"]) == ("RateLimitError", "rate_limit_exceeded")
    assert found["models"] == ["echo"]
    assert found["chat"] == "<USER: HI\n>"
    assert keys.seen == [("good", "echo", 1)]
    last = gateway.used[-1]
    assert (last.input_tokens, last.output_tokens) == (9, 11)
    assert last.first_output > last.started
    assert (last.protocol, last.operation) == ("openai", "chat")


@pytest.fixture(scope="module")
def real() -> Iterator[Any]:
    from deepseek.inference import Predictor
    from deepseek.inference.generation import CoreSettings
    from deepseek.serving.generation.generator import ServedGenerator

    settings = CoreSettings(max_sequences=8, cache_tokens=4096)
    with ServedGenerator.load(
        "smollm2-135m-instruct", core="torch", device="cpu", dtype="float32", settings=settings
    ) as model:
        encoder = Predictor.load("all-minilm-l6-v2", task="sentence-embedding", device="cpu")
        with Server(CONFIG, [model, encoder]) as server:
            yield call("real", server), model.host.engine.tokenizer, encoder.tokenizer


def test_a_real_models_chat_whole_and_streamed(real: Any) -> None:
    found, tokenizer, _ = real
    choice = found["whole"]["choices"][0]
    content = choice["message"]["content"]
    assert "Paris" in content
    assert choice["finish_reason"] == "stop"
    assert "".join(c["choices"][0]["delta"]["content"] or "" for c in found["stream"]) == content
    chat = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert found["whole"]["usage"]["prompt_tokens"] == len(prompt)
    assert found["whole"]["usage"]["completion_tokens"] == len(choice["logprobs"]["content"])


def test_a_real_models_logprobs(real: Any) -> None:
    found = real[0]
    choice = found["whole"]["choices"][0]
    entries = choice["logprobs"]["content"]
    assert b"".join(bytes(e["bytes"]) for e in entries).decode() == choice["message"]["content"]
    assert all(e["top_logprobs"][0]["token"] == e["token"] for e in entries)  # greedy
    assert all(e["top_logprobs"][0]["logprob"] >= e["top_logprobs"][1]["logprob"] for e in entries)
    assert all(e["logprob"] <= 0 for e in entries)
    streamed = [e for c in found["stream"] for e in (c["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert [e["token"] for e in streamed] == [e["token"] for e in entries]
    whole = found["completion"]["choices"][0]
    assert "".join(whole["logprobs"]["tokens"]) == whole["text"]
    assert [whole["text"][o:].startswith(t) for o, t in zip(whole["logprobs"]["text_offset"], whole["logprobs"]["tokens"], strict=True)] == [True] * 8  # fmt: skip
    assert all(len(top) in (2, 3) for top in whole["logprobs"]["top_logprobs"])


def test_a_seed_repeats_a_draw_and_choices_differ(real: Any) -> None:
    first, second = real[0]["drawn"]
    assert first == second
    assert first[0] != first[1]


def test_answers_fit_a_json_schema(real: Any) -> None:
    found = real[0]
    assert set(found["parsed"]) == {"name", "inhabitants", "river"}
    text = found["object"]["message"]["content"]
    if found["object"]["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert text.startswith("{")


def test_streams_at_once_answer_as_one_after_the_other(real: Any) -> None:
    assert real[0]["many"] == real[0]["alone"]


def test_a_real_encoders_embeddings(real: Any) -> None:
    vectors = np.array([d["embedding"] for d in real[0]["vectors"]["data"]])
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
    read = sum(map(len, real[2](["a cat", "a kitten", "tax law"])["input_ids"]))
    assert real[0]["vectors"]["usage"] == {"prompt_tokens": read, "total_tokens": read}
