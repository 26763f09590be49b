"""The bodies of requests, as OpenAI's API reference has them, and vLLM's parameters beyond.

Parameters that are known to the API but not to this server are declared too: values that ask for nothing are taken, any
other is refused by name rather than ignored.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from deepseek.inference.generation.sampling import MOST_LOGPROBS
from deepseek.serving.openai.errors import ParameterError

MOST_CHOICES = 128
MOST_INPUTS = 2048
DEFAULT_COMPLETION_TOKENS = 16

Ratio = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1, le=1 << 20)]


class StreamOptions(Struct, forbid_unknown_fields=True):
    """``include_usage``: a last chunk has the usage."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Generation(Struct, kw_only=True, forbid_unknown_fields=True):
    """What chat and plain completions have alike."""

    model: str
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Ratio | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    # vLLM's
    top_k: Annotated[int, Meta(ge=-1, le=1 << 20)] | None = None
    min_p: Ratio | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    stop_token_ids: list[Annotated[int, Meta(ge=0)]] | None = None
    ignore_eos: bool | None = None
    # known, not supported
    logit_bias: Any = None


class ContentPart(Struct):
    """A part of a message; of those that the API has, a text model reads ``text``."""

    type: str
    text: str | None = None


class Message(Struct):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


class JsonSchema(Struct, forbid_unknown_fields=True):
    """A schema that the answer fits; answers always do, so ``strict`` changes nothing."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, forbid_unknown_fields=True):
    """What the whole answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(Generation, kw_only=True):
    """The body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    # without effect here
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    parallel_tool_calls: bool | None = None
    # known, not supported
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    web_search_options: Any = None
    service_tier: Any = None
    store: Any = None
    moderation: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None


class CompletionRequest(Generation, kw_only=True):
    """The body of ``POST /v1/completions``."""

    prompt: str | list[str | int | list[int]]
    max_tokens: Tokens | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: bool | None = None
    # known, not supported
    suffix: Any = None
    best_of: Any = None


class EmbeddingRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/embeddings``."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logit_bias": (None, {}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "moderation": (None,),
    "prompt_cache_options": (None,),
    "prompt_cache_retention": (None, "in_memory"),
    "suffix": (None, ""),
    "best_of": (None, 1),
}
"""Values that ask for nothing beyond what is done anyway."""

R = TypeVar("R", ChatRequest, CompletionRequest, EmbeddingRequest)
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?P<problem>unknown|missing required) field `(?P<name>.*)`", re.DOTALL)


def decode(decoder: msgspec.json.Decoder[R], body: bytes) -> R:
    """Decode and check a body; raises :class:`ParameterError`."""
    try:
        request = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _named(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ParameterError(f"We could not parse the JSON body of your request: {error}", None) from error
    for name, neutral in _NEUTRAL.items():
        value = getattr(request, name, None)
        if not any(type(value) is type(each) and value == each for each in neutral):
            raise ParameterError(
                f"{name!r} is not supported by this server; leave it out", name, "unsupported_parameter"
            )
    return request


def _named(error: msgspec.ValidationError) -> ParameterError:
    found = _AT.match(str(error))
    assert found is not None
    what, path = found["what"], found["path"] or ""
    field = _FIELD.search(what)
    if field is None:
        return ParameterError(f"Invalid value for {path or 'the body'!r}: {what}", path or None, "invalid_value")
    name = f"{path}.{field['name']}" if path else field["name"]
    if field["problem"] == "unknown":
        return ParameterError(f"Unknown parameter: {name!r:.200}.", name[:200], "unknown_parameter")
    return ParameterError(f"Missing required parameter: {name!r}.", name, "missing_required_parameter")
