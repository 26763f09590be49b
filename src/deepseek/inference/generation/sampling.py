"""How the next token is picked, and when a text ends: one request's parameters, checked before anything is computed.

Names and meanings are those of OpenAI's API, transformers and vLLM where the three agree. They act on a step's logits
in this order: grammar, penalties, temperature, top-k, top-p, min-p (transformers' order).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from deepseek.errors import ConfigError

GRAMMARS = ("json-schema", "regex", "ebnf")
MOST_LOGPROBS = 20
MOST_STOPS = 16


@dataclass(frozen=True)
class Grammar:
    """What the whole answer must look like.

    Attributes:
        kind: ``"json-schema"``, ``"regex"`` or ``"ebnf"`` (GBNF's dialect, whose start rule is ``root``).
        text: the schema as JSON, the expression, or the grammar.
    """

    kind: Literal["json-schema", "regex", "ebnf"]
    text: str

    def __post_init__(self) -> None:
        if self.kind not in GRAMMARS:
            raise ConfigError(f"expected a grammar of kind {', '.join(GRAMMARS)}, received {self.kind!r}")
        if not isinstance(self.text, str) or not self.text.strip():
            raise ConfigError(f"expected the text of a {self.kind}, received {self.text!r:.80}")
        if self.kind == "json-schema":
            try:
                schema = json.loads(self.text)
            except ValueError as error:
                raise ConfigError(f"the JSON schema is no JSON: {error}") from error
            if not isinstance(schema, (dict, bool)):
                raise ConfigError(f"expected an object as JSON schema, received {self.text:.80}")


@dataclass(frozen=True, kw_only=True)
class SamplingParameters:
    """One request's parameters. All numbers are finite.

    Attributes:
        max_new_tokens: at most so many tokens are generated; at least 1.
        min_new_tokens: no end of text before so many.
        temperature: 0 is greedy; else what logits are divided by.
        top_k: sample from the k most probable tokens; 0: from all.
        top_p: sample from the smallest set of most probable tokens whose probabilities sum to this, in (0, 1].
        min_p: leave out tokens less probable than this share of the most probable one's, in [0, 1] (arXiv 2407.01082).
        repetition_penalty: positive logits of tokens that prompt or answer have are divided by it, negative ones
            multiplied (arXiv 1909.05858); 1 is none.
        presence_penalty, frequency_penalty: subtracted from logits of tokens that the answer has, once and once for
            each occurrence (OpenAI's), in [-2, 2].
        seed: makes this request's sampling repeatable on the same engine, whatever else runs; ``None``: random.
        logprobs: return each token's log-probability and those of so many most probable ones; ``None``: none. They
            are those of the model, before penalties and temperature act.
        stop: texts that end the answer; the answer does not have them.
        stop_token_ids: tokens that end it, besides the model's end of text.
        ignore_eos: go on past the model's end of text (for benchmarks).
        grammar: what the answer must look like.
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logprobs: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _WHOLE.items():
            value = getattr(self, name)
            if value is None and name in ("seed", "logprobs"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"expected a whole number from {low} to {high} as {name!r}, received {value!r}")
        for name, (lowest, highest) in _REAL.items():
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not lowest <= value <= highest:
                raise ConfigError(f"expected a number from {lowest:g} to {highest:g} as {name!r}, received {value!r}")
        if self.top_p <= 0:
            raise ConfigError(f"expected 'top_p' above 0 (1 is all tokens), received {self.top_p!r}")
        if self.min_new_tokens > self.max_new_tokens:
            raise ConfigError(
                f"'min_new_tokens' is {self.min_new_tokens}, more than 'max_new_tokens' ({self.max_new_tokens})"
            )
        stops: Any = self.stop
        if isinstance(stops, str) or not all(isinstance(s, str) and s for s in stops) or len(stops) > MOST_STOPS:
            raise ConfigError(
                f"expected at most {MOST_STOPS} texts that are not empty as 'stop', received {stops!r:.80}"
            )
        if not all(isinstance(t, int) and not isinstance(t, bool) and t >= 0 for t in self.stop_token_ids):
            raise ConfigError(f"expected token ids as 'stop_token_ids', received {self.stop_token_ids!r:.80}")
        if self.grammar is not None and not isinstance(self.grammar, Grammar):
            raise ConfigError(f"expected a Grammar as 'grammar', received {self.grammar!r:.80}")

    @classmethod
    def of(cls, **given: Any) -> SamplingParameters:
        """As the constructor, with lists for tuples, and an error that names what is not known.

        Raises:
            ConfigError: a name or a value is wrong.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise ConfigError(f"unknown sampling parameter {name!r}; known: {', '.join(known)}")
        for name in ("stop", "stop_token_ids"):
            if isinstance(given.get(name), list):
                given[name] = tuple(given[name])
        if isinstance(given.get("stop"), str):
            given["stop"] = (given["stop"],)
        return cls(**given)

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken each time."""
        return self.temperature == 0


_WHOLE: dict[str, tuple[int, int]] = {
    "max_new_tokens": (1, 1 << 20),
    "min_new_tokens": (0, 1 << 20),
    "top_k": (0, 1 << 20),
    "seed": (0, (1 << 63) - 1),
    "logprobs": (0, MOST_LOGPROBS),
}
_REAL: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
