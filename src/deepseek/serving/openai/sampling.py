"""From a request's parameters to the engine's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from deepseek.inference.generation.sampling import MOST_STOPS, Grammar, SamplingParameters
from deepseek.serving.generation.host import PromptTooLongError
from deepseek.serving.openai.errors import ParameterError
from deepseek.serving.openai.requests import Generation, ResponseFormat

MOST_SCHEMA_BYTES = 64 * 1024
MOST_SCHEMA_DEPTH = 32
MOST_SCHEMA_PROPERTIES = 400
"""The time that a grammar takes to compile grows with their square: 0.2 s for so many."""
_LEAST_TOP_P = 1e-9  # the engine's is above 0; either way the most probable token alone is left
_SEEDS = 1 << 63

Plan = Callable[[int], list[SamplingParameters]]


def plan_of(
    request: Generation,
    *,
    context: int,
    max_tokens: int | None,
    limit_name: str,
    logprobs: int | None,
    grammar: Grammar | None = None,
) -> Plan:
    """How each of ``n`` answers is sampled, once the prompt's length is known.

    Args:
        context: tokens of prompt and answer together.
        max_tokens: of an answer; ``None``: what the context has room for.
        limit_name: the parameter that ``max_tokens`` came from.
        logprobs: as :class:`SamplingParameters` has it.

    Raises:
        ParameterError: a parameter is wrong; from the plan, like :class:`PromptTooLongError`, what does not fit.
    """
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    if not all(stop) or len(stop) > MOST_STOPS:
        raise ParameterError(
            f"expected at most {MOST_STOPS} texts that are not empty as 'stop'", "stop", "invalid_value"
        )
    least = request.min_tokens or 0
    if max_tokens is not None and least > max_tokens:
        raise ParameterError(f"'min_tokens' is {least}, more than {limit_name!r} ({max_tokens})", "min_tokens")
    sampling = SamplingParameters(
        temperature=_given(request.temperature, 1.0),
        top_p=max(_given(request.top_p, 1.0), _LEAST_TOP_P),
        top_k=max(_given(request.top_k, 0), 0),
        min_p=_given(request.min_p, 0.0),
        repetition_penalty=_given(request.repetition_penalty, 1.0),
        presence_penalty=_given(request.presence_penalty, 0.0),
        frequency_penalty=_given(request.frequency_penalty, 0.0),
        logprobs=logprobs,
        stop=stop,
        stop_token_ids=tuple(request.stop_token_ids or ()),
        ignore_eos=bool(request.ignore_eos),
        grammar=grammar,
    )
    count, seed = request.n or 1, request.seed

    def plan(prompt_tokens: int) -> list[SamplingParameters]:
        room = context - prompt_tokens
        wanted = 1 if max_tokens is None else max_tokens
        if wanted > room:
            raise PromptTooLongError(
                f"This model's maximum context length is {context} tokens. However, you requested "
                f"{prompt_tokens + wanted} tokens ({prompt_tokens} in the prompt, {wanted} in the completion)."
            )
        if least > room:
            raise ParameterError(f"'min_tokens' is {least}, but the context has room for {room}", "min_tokens")
        bounded = replace(sampling, max_new_tokens=room if max_tokens is None else max_tokens, min_new_tokens=least)
        # answers of one request differ, and those of a repeated request are the same again
        return [bounded if seed is None else replace(bounded, seed=(seed + i) % _SEEDS) for i in range(count)]

    return plan


def grammar_of(form: ResponseFormat | None) -> Grammar | None:
    """What ``response_format`` asks of the answer; raises :class:`ParameterError`."""
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return Grammar("json-schema", '{"type":"object"}')
    if form.json_schema is None or form.json_schema.schema is None:
        raise ParameterError(
            "Missing required parameter: 'response_format.json_schema.schema'.",
            "response_format.json_schema",
            "missing_required_parameter",
        )
    schema = form.json_schema.schema
    text = msgspec.json.encode(schema)
    if (
        len(text) > MOST_SCHEMA_BYTES
        or _depth(schema, MOST_SCHEMA_DEPTH) > MOST_SCHEMA_DEPTH
        or _properties(schema) > MOST_SCHEMA_PROPERTIES
    ):
        raise ParameterError(
            f"expected a JSON schema of at most {MOST_SCHEMA_BYTES} bytes, {MOST_SCHEMA_DEPTH} levels and "
            f"{MOST_SCHEMA_PROPERTIES} properties",
            "response_format.json_schema.schema",
            "invalid_value",
        )
    return Grammar("json-schema", text.decode())


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _inner(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _depth(value: Any, most: int) -> int:
    """Levels of a JSON value, counted no further than just beyond ``most``."""
    inner = _inner(value)
    if not inner:
        return 1
    return 1 + (max(_depth(each, most - 1) for each in inner) if most > 0 else 0)


def _properties(value: Any) -> int:
    """Entries of all ``properties`` in a schema of bounded depth."""
    own = value.get("properties") if isinstance(value, dict) else None
    return (len(own) if isinstance(own, dict) else 0) + sum(map(_properties, _inner(value)))
