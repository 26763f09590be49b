"""What the official OpenAI client does, in its own environment: ``python openai_client_calls.py CALL URL [KEY]``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import openai
from pydantic import BaseModel

HELLO: Any = [{"role": "user", "content": "hi"}]
ENDLESS: Any = [{"role": "user", "content": "endless"}]
FRANCE: Any = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
SMOL = "smollm2-135m-instruct"


def told(error: openai.APIError) -> dict[str, Any]:
    found = {"class": type(error).__name__, "param": error.param, "code": error.code, "type": error.type}
    return found | {"message": error.message, "status": getattr(error, "status_code", None)}


def failing(call: Any) -> dict[str, Any]:
    try:
        call()
    except openai.APIError as error:
        return told(error)
    raise AssertionError("the call was expected to fail")


def fakes(client: openai.OpenAI, url: str) -> dict[str, Any]:
    """Every route, against models whose answers are known."""
    chat = client.chat.completions
    found: dict[str, Any] = {"models": [m.id for m in client.models.list()]}
    found["model"] = client.models.retrieve("pirate").model_dump()
    found["chat"] = chat.create(model="echo", messages=HELLO).model_dump()
    found["stream"] = [c.model_dump() for c in chat.create(model="pirate", messages=HELLO, stream=True)]
    with chat.stream(model="echo", messages=HELLO, stream_options={"include_usage": True}) as stream:
        found["helper"] = stream.get_final_completion().model_dump()
    found["completion"] = client.completions.create(
        model="echo", prompt=["a", "b"], logprobs=1, extra_body={"top_k": 5}
    ).model_dump()
    found["embedding"] = client.embeddings.create(model="vectors", input=["a b", "c"]).model_dump()
    plain = client.embeddings.create(model="vectors", input="a b", encoding_format="float")
    found["plain embedding"] = plain.data[0].embedding
    found["errors"] = [
        failing(lambda: chat.create(model="nope", messages=HELLO)),
        failing(lambda: client.models.retrieve("nope")),
        failing(lambda: chat.create(model="echo", messages=HELLO, temperature=3)),
        failing(lambda: chat.create(model="echo", messages=HELLO, extra_body={"colour": 1})),
        failing(lambda: chat.create(model="echo", messages=[{"role": "user", "content": "x" * 500}])),
        failing(
            lambda: chat.create(model="echo", messages=HELLO, tools=[{"type": "function", "function": {"name": "f"}}])
        ),
    ]
    return found


def leaving(client: openai.OpenAI, url: str) -> dict[str, Any]:
    """Streams that the client does not read to their end."""
    seen = []
    with client.chat.completions.create(model="echo", messages=ENDLESS, stream=True) as stream:
        seen.append(next(iter(stream)).choices[0].delta.role)

    async def leave() -> None:
        async with (
            openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as other,
            await other.chat.completions.create(model="echo", messages=ENDLESS, stream=True) as answers,
        ):
            async for chunk in answers:
                seen.append(chunk.choices[0].delta.role)
                break

    asyncio.run(leave())
    return {"roles": seen}


def refused(client: openai.OpenAI, url: str) -> dict[str, Any]:
    """Keys and limits."""
    hello = lambda key, model="echo": failing(  # noqa: E731
        lambda: openai.OpenAI(base_url=url, api_key=key, max_retries=0).chat.completions.create(
            model=model, messages=HELLO
        )
    )
    good = openai.OpenAI(base_url=url, api_key="good", max_retries=0)
    return {
        "unknown": hello("bad"),
        "scope": hello("good", "vectors"),
        "spent": hello("spent"),
        "models": [m.id for m in good.models.list()],
        "chat": good.chat.completions.create(model="echo", messages=HELLO).choices[0].message.content,
    }


class City(BaseModel):
    name: str
    inhabitants: int
    river: str | None


def real(client: openai.OpenAI, url: str) -> dict[str, Any]:
    """A real language model."""
    chat = client.chat.completions
    found: dict[str, Any] = {}
    options: Any = {"model": SMOL, "messages": FRANCE, "temperature": 0, "max_completion_tokens": 24}
    found["whole"] = chat.create(**options, logprobs=True, top_logprobs=2).model_dump()
    found["stream"] = [c.model_dump() for c in chat.create(**options, stream=True, logprobs=True)]
    found["drawn"] = [
        [c.message.content for c in chat.create(model=SMOL, messages=FRANCE, seed=5, n=2, max_tokens=8).choices]
        for _ in range(2)
    ]
    parsed = chat.parse(
        model=SMOL,
        messages=[{"role": "user", "content": "Describe Paris as JSON."}],
        response_format=City,
        max_completion_tokens=80,
        temperature=0,
    )
    found["parsed"] = parsed.choices[0].message.parsed.model_dump() if parsed.choices[0].message.parsed else None
    any_json = chat.create(
        model=SMOL,
        messages=[{"role": "user", "content": "A JSON object with the key city."}],
        response_format={"type": "json_object"},
        max_completion_tokens=30,
        temperature=0,
    )
    found["object"] = any_json.choices[0].model_dump()
    found["completion"] = client.completions.create(
        model=SMOL, prompt="1, 2, 3, 4,", max_tokens=8, temperature=0, logprobs=2
    ).model_dump()

    async def many() -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as other:

            async def one(number: int) -> str:
                stream = await other.completions.create(
                    model=SMOL, prompt=f"{number}, {number + 1},", max_tokens=6, temperature=0, stream=True
                )
                return "".join([chunk.choices[0].text async for chunk in stream])

            return list(await asyncio.gather(*map(one, range(4))))

    found["many"] = asyncio.run(many())
    found["alone"] = [
        client.completions.create(model=SMOL, prompt=f"{n}, {n + 1},", max_tokens=6, temperature=0).choices[0].text
        for n in range(4)
    ]
    vectors = client.embeddings.create(model="all-minilm-l6-v2", input=["a cat", "a kitten", "tax law"])
    found["vectors"] = vectors.model_dump()
    return found


if __name__ == "__main__":
    call, address = sys.argv[1:3]
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=100) as shared:
        print(json.dumps(globals()[call](shared, address)))
