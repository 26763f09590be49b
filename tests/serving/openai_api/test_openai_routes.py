"""OpenAI's API byte by byte: bodies, events, errors, and what reaches the engine."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from generation_fakes import Echo, core_of, echoing
from serving_fakes import CONFIG

from deepseek.serving import Server, ServingConfig, assembly
from deepseek.serving.gateway import Gateway

CHAT = "/chat/completions"
ENDLESS = [{"role": "user", "content": "endless"}]
HELLO = [{"role": "user", "content": "hi"}]
ANSWER = "<USER: HI\n>"


DEEP: dict[str, Any] = {}
for _ in range(40):
    DEEP = {"a": DEEP}


def SCHEMA(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "properties": properties}}}


def chat(api: httpx.Client, **more: Any) -> httpx.Response:
    return api.post(CHAT, json={"model": "echo", "messages": HELLO, **more})


def complete(api: httpx.Client, prompt: Any = "abc", **more: Any) -> httpx.Response:
    return api.post("/completions", json={"model": "echo", "prompt": prompt, **more})


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The objects of a stream that ended as it should."""
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    parts = response.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    assert all(part.startswith("data: ") and "\n" not in part for part in parts[:-1])
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.005)


def test_models_and_adapters_are_listed(api: httpx.Client) -> None:
    listed = api.get("/models").json()
    assert listed["object"] == "list"
    found = {model["id"]: model for model in listed["data"]}
    assert list(found) == ["echo", "pirate", "sentiment", "vectors"]
    assert found["pirate"]["parent"] == "echo"
    assert api.get("/models/echo").json() == found["echo"]
    assert found["echo"] == {
        "id": "echo",
        "object": "model",
        "created": found["echo"]["created"],
        "owned_by": "deepseek",
    }
    missing = api.get("/models/ecko")
    assert missing.status_code == 404
    assert missing.json()["error"] == {
        "message": "unknown model 'ecko'. Did you mean 'echo'?",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_a_chat_is_answered(api: httpx.Client, core: Echo) -> None:
    answer = chat(api).json()
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "echo"
    assert abs(answer["created"] - time.time()) < 60
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"content": ANSWER, "role": "assistant", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {"prompt_tokens": 9, "completion_tokens": 11, "total_tokens": 20}
    assert core.sampled[-1].temperature == 1.0
    assert core.sampled[-1].max_new_tokens == core.context_length - 9
    assert chat(api).json()["system_fingerprint"] == answer["system_fingerprint"]


def test_an_adapter_answers_under_its_name(api: httpx.Client) -> None:
    answer = chat(api, model="pirate").json()
    assert answer["model"] == "pirate"
    assert answer["choices"][0]["message"]["content"] == "pirate" + ANSWER


def test_messages_in_every_form(api: httpx.Client) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": parts, "name": "ann"},
        {"role": "assistant", "content": "yes", "refusal": None, "annotations": []},
    ]
    content = chat(api, messages=messages).json()["choices"][0]["message"]["content"]
    assert content == "<SYSTEM: BE BRIEF\nUSER: ONE\nTWO\nASSISTANT: YES\n>"


def test_a_streamed_chat(api: httpx.Client) -> None:
    chunks = events(chat(api, stream=True))
    assert {(c["object"], c["id"], c["model"], c["created"]) for c in chunks} == {
        ("chat.completion.chunk", chunks[0]["id"], "echo", chunks[0]["created"])
    }
    assert all("usage" not in c and len(c["choices"]) == 1 for c in chunks)
    choices = [c["choices"][0] for c in chunks]
    assert choices[0] == {
        "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None,
    }  # fmt: skip
    assert [c["finish_reason"] for c in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert choices[-1]["delta"] == {}
    assert "".join(c["delta"].get("content", "") for c in choices) == ANSWER
    assert len(choices) > 5


def test_a_stream_tells_its_usage_last_and_only_when_asked(api: httpx.Client) -> None:
    chunks = events(chat(api, stream=True, stream_options={"include_usage": True}, n=2, max_tokens=4))
    assert all(c["usage"] is None for c in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17}
    for index in (0, 1):
        own = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == index]
        assert "".join(c["delta"].get("content", "") for c in own) == ANSWER[:4]
        assert own[0]["delta"]["role"] == "assistant"
        assert own[-1]["finish_reason"] == "length"


def test_characters_of_several_tokens_are_not_torn(api: httpx.Client) -> None:
    chunks = events(complete(api, "€é", stream=True))
    texts = [c["choices"][0]["text"] for c in chunks]
    assert "".join(texts) == "<€É>"
    assert "�" not in "".join(texts)


def test_parameters_reach_the_engine(api: httpx.Client, core: Echo) -> None:
    chat(
        api, max_completion_tokens=5, temperature=0.5, top_p=0.9, stop="Z", seed=7, presence_penalty=1,
        frequency_penalty=-0.5, top_k=-1, min_p=0.1, repetition_penalty=1.2, min_tokens=2, ignore_eos=True,
        stop_token_ids=[255], user="u", metadata={"a": "b"}, n=2, logit_bias=None, tools=[], store=False,
    )  # fmt: skip
    first, second = core.sampled[-2:]
    assert (first.seed, second.seed) == (7, 8)
    assert first.max_new_tokens == 5
    assert first.min_new_tokens == 2
    assert (first.temperature, first.top_p, first.top_k, first.min_p) == (0.5, 0.9, 0, 0.1)
    assert (first.presence_penalty, first.frequency_penalty, first.repetition_penalty) == (1.0, -0.5, 1.2)
    assert (first.stop, first.stop_token_ids, first.ignore_eos) == (("Z",), (255,), True)
    complete(api, temperature=None, top_p=0, top_k=3, seed=-1, max_tokens=None)
    assert core.sampled[-1].max_new_tokens == 16
    assert core.sampled[-1].top_p == pytest.approx(0, abs=1e-6)
    assert core.sampled[-1].top_k == 3
    assert core.sampled[-1].seed == (1 << 63) - 1


def test_stop_texts_end_the_answer(api: httpx.Client) -> None:
    for stop in ("HI", ["ZZ", "HI"]):
        choice = chat(api, stop=stop).json()["choices"][0]
        assert choice["message"]["content"] == "<USER: "
        assert choice["finish_reason"] == "stop"
    chunks = events(chat(api, stop=["HI"], stream=True))
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "<USER: "


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("abc", ["<ABC>"]),
        (["abc", "d"], ["<ABC>", "<D>"]),
        ([97, 98], ["<AB>"]),
        ([[97], [98, 99]], ["<A>", "<BC>"]),
    ],
)
def test_prompts_in_every_form(api: httpx.Client, prompt: Any, texts: list[str]) -> None:
    answer = complete(api, prompt).json()
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert [(c["index"], c["text"], c["finish_reason"]) for c in answer["choices"]] == [
        (i, text, "stop") for i, text in enumerate(texts)
    ]
    sizes = [len(text) - 2 for text in texts]
    assert answer["usage"]["prompt_tokens"] == sum(sizes)
    assert answer["usage"]["completion_tokens"] == sum(map(len, texts))


def test_choices_and_echoes(api: httpx.Client) -> None:
    answer = complete(api, ["ab", "c"], n=2, echo=True, seed=4).json()
    assert [c["text"] for c in answer["choices"]] == ["ab<AB|4>", "ab<AB|5>", "c<C|4>", "c<C|5>"]
    assert answer["usage"]["prompt_tokens"] == 3
    chunks = events(complete(api, ["ab", "c"], echo=True, stream=True))
    for index, text in enumerate(["ab<AB>", "c<C>"]):
        own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert "".join(c["text"] for c in own) == text
        assert [c["finish_reason"] for c in own if c["finish_reason"]] == ["stop"]


def test_logprobs_of_chats(api: httpx.Client) -> None:
    plain = chat(api, logprobs=True, top_logprobs=2, max_tokens=3).json()["choices"][0]["logprobs"]
    assert plain["refusal"] is None
    assert [c["token"] for c in plain["content"]] == list(ANSWER[:3])
    assert plain["content"][0] == {
        "token": "<",
        "logprob": -0.5,
        "bytes": [60],
        "top_logprobs": [
            {"token": "<", "logprob": -0.5, "bytes": [60]},
            {"token": "=", "logprob": -1.5, "bytes": [61]},
        ],
    }
    chunks = events(chat(api, logprobs=True, max_tokens=3, stream=True))
    told = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["logprobs"]]
    assert [entry["token"] for each in told for entry in each["content"]] == list(ANSWER[:3])
    assert all(entry["top_logprobs"] == [] for each in told for entry in each["content"])


def test_logprobs_of_completions(api: httpx.Client) -> None:
    whole = complete(api, "ab", logprobs=1, max_tokens=3).json()["choices"][0]["logprobs"]
    assert whole == {
        "tokens": ["<", "A", "B"],
        "token_logprobs": [-0.5] * 3,
        "top_logprobs": [{"<": -0.5}, {"A": -0.5}, {"B": -0.5}],
        "text_offset": [0, 1, 2],
    }
    parts = [c["choices"][0]["logprobs"] for c in events(complete(api, "ab", logprobs=1, max_tokens=3, stream=True))]
    joined = {key: [each for part in parts if part for each in part[key]] for key in whole}
    assert joined == whole


@pytest.mark.parametrize(
    ("path", "change", "param", "code", "message"),
    [
        (CHAT, {"temperatur": 1}, "temperatur", "unknown_parameter", "Unknown parameter: 'temperatur'"),
        (CHAT, {"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter", "stream_options.x"),
        (CHAT, {"temperature": 3}, "temperature", "invalid_value", "<= 2"),
        (CHAT, {"temperature": "hot"}, "temperature", "invalid_value", "float"),
        (CHAT, {"n": 0}, "n", "invalid_value", ">= 1"),
        (CHAT, {"n": 129}, "n", "invalid_value", "<= 128"),
        (CHAT, {"stop": [""]}, "stop", "invalid_value", "not empty"),
        (CHAT, {"stop": ["a"] * 17}, "stop", "invalid_value", "at most 16"),
        (CHAT, {"messages": []}, "messages", "invalid_value", "length"),
        (CHAT, {"messages": None}, "messages", "invalid_value", "array"),
        (CHAT, {"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "invalid_value", "king"),
        (CHAT, {"messages": [{"role": "user"}]}, "messages[0].content", "invalid_value", "expected text"),
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0]", "unsupported_parameter", "tools"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
            "unsupported_content",
            "reads text",
        ),
        (CHAT, {"tools": [{"type": "function"}]}, "tools", "unsupported_parameter", "'tools' is not supported"),
        (CHAT, {"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter", "logit_bias"),
        (CHAT, {"top_logprobs": 2}, "top_logprobs", "invalid_value", "needs 'logprobs'"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value", "<= 20"),
        (CHAT, {"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens", "invalid_value", "not both"),
        (CHAT, {"max_tokens": 2, "min_tokens": 3}, "min_tokens", None, "more than 'max_tokens'"),
        (CHAT, {"max_tokens": 500}, None, "context_length_exceeded", "maximum context length is 400 tokens"),
        (CHAT, {"stream_options": {"include_usage": True}}, "stream_options", "invalid_value", "'stream'"),
        (CHAT, {"response_format": {"type": "json_object"}}, "response_format", None, "follows no grammar"),
        (CHAT, {"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter", "schema"),
        (CHAT, {"response_format": SCHEMA({f"p{i}": {} for i in range(401)})}, "response_format.json_schema.schema", "invalid_value", "400 properties"),
        (CHAT, {"response_format": SCHEMA(DEEP)}, "response_format.json_schema.schema", "invalid_value", "32 levels"),
        (CHAT, {"response_format": {"type": "xml"}}, "response_format.type", "invalid_value", "xml"),
        (CHAT, {"model": "sentiment"}, "model", "unsupported_model", "generates no text"),
        (CHAT, {"model": 5}, "model", "invalid_value", "str"),
        ("/completions", {"prompt": ""}, "prompt", "invalid_value", "not empty"),
        ("/completions", {"prompt": []}, "prompt", "invalid_value", "not empty"),
        ("/completions", {"prompt": ["a", 5]}, "prompt", "invalid_value", "list of token ids"),
        ("/completions", {"prompt": [300]}, None, None, "token ids from 0 to 255"),
        ("/completions", {"prompt": "x" * 400}, None, "context_length_exceeded", "416 tokens"),
        ("/completions", {"prompt": "x" * 20_000}, None, "context_length_exceeded", "20000 characters"),
        ("/completions", {"suffix": "x"}, "suffix", "unsupported_parameter", "suffix"),
        ("/completions", {"best_of": 3}, "best_of", "unsupported_parameter", "best_of"),
        ("/completions", {"echo": True, "logprobs": 1}, "logprobs", "unsupported_parameter", "echo"),
        ("/completions", {"n": 128, "prompt": ["a"] * 9}, None, None, "at most 1088 answers"),
        ("/embeddings", {"input": [1, 2]}, "input", "unsupported_content", "token ids"),
        ("/embeddings", {"input": [[1, 2]]}, "input", "unsupported_content", "token ids"),
        ("/embeddings", {"input": ""}, "input", "invalid_value", "not empty"),
        ("/embeddings", {"input": []}, "input", "invalid_value", "not empty"),
        ("/embeddings", {"dimensions": 2}, "dimensions", "unsupported_parameter", "3 dimensions"),
        ("/embeddings", {"encoding_format": "hex"}, "encoding_format", "invalid_value", "hex"),
        ("/embeddings", {"model": "echo"}, "model", "unsupported_model", "embeds no texts"),
    ],
)  # fmt: skip
def test_refusals_name_the_parameter(
    api: httpx.Client, path: str, change: dict[str, Any], param: str | None, code: str | None, message: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        CHAT: {"model": "echo", "messages": HELLO},
        "/completions": {"model": "echo", "prompt": "abc"},
        "/embeddings": {"model": "vectors", "input": "abc"},
    }
    answer = api.post(path, json=bodies[path] | change)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert message in error["message"]


def test_refusals_of_bodies_and_methods(api: httpx.Client) -> None:
    for content, headers, status, message in [
        (b"{", {}, 400, "parse the JSON body"),
        (b"[]", {}, 400, "the body"),
        (b"", {}, 400, "empty"),
        (b'{"model": "echo"}', {}, 400, "Missing required parameter: 'messages'"),
        (b"{}", {"content-type": "text/plain"}, 415, "application/json"),
        (b'"' + b"x" * 70_000 + b'"', {}, 413, "at most 65536 bytes"),
        (b'{"model": "nope", "messages": [{"role": "user", "content": "x"}]}', {}, 404, "unknown model 'nope'"),
    ]:
        answer = api.post(CHAT, content=content, headers=headers)
        assert answer.status_code == status, content[:40]
        assert message in answer.json()["error"]["message"]
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert api.get(CHAT).status_code == 405


def test_embeddings(api: httpx.Client) -> None:
    answer = api.post("/embeddings", json={"model": "vectors", "input": ["a b", "c"], "dimensions": 3}).json()
    assert answer["object"] == "list"
    assert answer["model"] == "vectors"
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert [(d["object"], d["index"]) for d in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert answer["data"][0]["embedding"] == pytest.approx([3, 0.097, 0.098])
    coded = api.post("/embeddings", json={"model": "vectors", "input": "a b", "encoding_format": "base64"}).json()
    vector = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), dtype="<f4")
    assert vector.tolist() == answer["data"][0]["embedding"]


def test_a_failure_before_the_first_token_has_a_status(api: httpx.Client, core: Echo) -> None:
    core.failure = RuntimeError("a secret of the implementation")
    answer = chat(api, stream=True)
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "incident" in answer.json()["error"]["message"]
    assert "secret" not in answer.text
    assert chat(api).status_code == 200


def test_a_failure_after_the_first_token_is_an_event(api: httpx.Client, core: Echo) -> None:
    from deepseek.errors import DataError

    body = {"model": "echo", "messages": ENDLESS, "stream": True, "n": 2}
    with api.stream("POST", CHAT, json=body) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"
        core.failure = DataError("the third token is too heavy")
        rest = [line for line in lines if line]
    assert json.loads(rest[-1].removeprefix("data: "))["error"] == {
        "message": "the third token is too heavy", "type": "invalid_request_error", "param": None, "code": None,
    }  # fmt: skip
    assert "[DONE]" not in "".join(rest)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_cancels_its_answers(
    api: httpx.Client, core: Echo, openai_server: Server, stream: bool
) -> None:
    core.cancelled.clear()
    core.gate.clear()
    batcher = openai_server.repository.get("echo").batcher
    try:
        impatient = httpx.Timeout(5, read=0.3)
        with httpx.Client(base_url=api.base_url, timeout=impatient) as leaving, pytest.raises(httpx.ReadTimeout):
            chat(leaving, messages=ENDLESS, stream=stream, n=3)
        until(lambda: not batcher.busy)  # the batcher has let go while the engine is still in its step
    finally:
        core.gate.set()
    until(lambda: len(core.cancelled) == 3)
    assert not core.left
    assert chat(api).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_a_stream_cancels_it(api: httpx.Client, core: Echo) -> None:
    core.cancelled.clear()
    with httpx.Client(base_url=api.base_url, timeout=20) as leaving:
        body = {"model": "echo", "messages": ENDLESS, "stream": True}
        with leaving.stream("POST", CHAT, json=body) as response:
            next(response.iter_lines())
    until(lambda: len(core.cancelled) == 1)
    assert not core.left


def test_a_full_queue_says_when_to_retry() -> None:
    config = ServingConfig(http_port=0, grpc_port=0, max_queue=1)
    with echoing(max_sequences=1) as model, Server(config, [model]) as server, ThreadPoolExecutor(1) as pool:
        core, batcher = core_of(model), server.repository.get("echo").batcher
        with httpx.Client(base_url=f"{server.http_url}/v1", timeout=20) as api:
            core.gate.clear()
            try:
                waiting = pool.submit(chat, api, n=2)
                until(lambda: batcher.queued_rows == 1)
                refused = chat(api)
            finally:
                core.gate.set()
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
            assert refused.json()["error"]["code"] == "queue_full"
            assert waiting.result().status_code == 200
            too_many = chat(api, n=3)
            assert too_many.status_code == 400
            assert "at most 2 answers" in too_many.json()["error"]["message"]
            assert chat(api).status_code == 200


def test_an_answer_that_takes_longer_than_its_client_waits_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hurried(Gateway):
        def begin(self, *arguments: Any) -> Any:
            call = super().begin(*arguments)
            call.deadline = asyncio.get_running_loop().time() + 0.05
            return call

    monkeypatch.setattr(assembly, "Gateway", Hurried)
    with echoing() as model, Server(CONFIG, [model]) as server:
        with httpx.Client(base_url=f"{server.http_url}/v1", timeout=20) as api:
            late = chat(api, messages=ENDLESS)
            assert late.status_code == 504
            assert late.json()["error"]["code"] == "timeout"
            streamed = chat(api, messages=ENDLESS, stream=True)
            assert streamed.status_code == 200
            assert '"code":"timeout"' in streamed.text.split("\n\n")[-2]
        until(lambda: len(core_of(model).cancelled) == 2)


def test_shutting_down_tells_streams_so() -> None:
    config = CONFIG.model_copy(update={"drain_seconds": 0.2})
    with echoing() as model:
        server = Server(config, [model]).start()
        with httpx.Client(base_url=f"{server.http_url}/v1", timeout=20) as api:
            body = {"model": "echo", "messages": ENDLESS, "stream": True}
            with api.stream("POST", CHAT, json=body) as response, ThreadPoolExecutor(1) as pool:
                lines = response.iter_lines()
                next(lines)
                stopping = pool.submit(server.stop)
                last = [line for line in lines if line][-1]
                stopping.result()
        error = json.loads(last.removeprefix("data: "))["error"]
        assert error["type"] == "server_error"
        assert error["code"] == "not_ready"


def test_openapi_describes_the_routes(api: httpx.Client, openai_server: Server) -> None:
    document = httpx.get(f"{openai_server.http_url}/openapi.json").json()
    post = document["paths"]["/v1/chat/completions"]["post"]
    name = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    assert set(schema["required"]) == {"model", "messages"}
    assert schema["additionalProperties"] is False
    assert {"text/event-stream", "application/json"} == set(post["responses"]["200"]["content"])
    text = json.dumps(document)
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert reference in document["components"]["schemas"]
    for path in ("/v1/models", "/v1/models/{model}", "/v1/completions", "/v1/embeddings"):
        assert path in document["paths"]
