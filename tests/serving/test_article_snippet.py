"""The article's FastAPI application runs as written, with only the model's name exchanged."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

SNIPPET = """
from fastapi import FastAPI
from deepseek.serving import DeepSeekInference
app = FastAPI()
model = DeepSeekInference.from_pretrained("deepseek-7b")
@app.post("/predict")
async def predict(text: str):
    return model.generate(text, max_length=200)
"""


def run(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "app"}
    exec(compile(source, "app.py", "exec"), space)
    return space


async def post(app: Any, text: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=120) as client:
        return await client.post("/predict", params={"text": text})


def test_it_answers() -> None:
    space = run(SNIPPET.replace("deepseek-7b", "smollm2-135m-instruct").replace("max_length=200", "max_length=200"))
    response = asyncio.run(post(space["app"], "The capital of France is"))
    assert response.status_code == 200
    assert response.json().startswith(" Paris")
    tokenizer = space["model"].predictor.tokenizer
    assert len(tokenizer("The capital of France is" + response.json())["input_ids"]) <= 201


def test_awaiting_agenerate_leaves_the_event_loop_free() -> None:
    space = run(SNIPPET.replace("deepseek-7b", "smollm2-135m-instruct"))
    model = space["model"]

    async def both() -> tuple[int, str]:
        answer = asyncio.create_task(model.agenerate("The capital of France is", max_new_tokens=30))
        ticks = 0
        while not answer.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks, await answer

    ticks, text = asyncio.run(both())
    assert text == model.generate("The capital of France is", max_new_tokens=30)
    assert ticks > 5  # the loop ran on while the model worked


def test_the_articles_own_name_fails_at_once_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek.errors import FetchError

    monkeypatch.setenv("DEEPSEEK_OFFLINE", "1")
    with pytest.raises(FetchError, match="deepseek-ai/"):
        run(SNIPPET)
