"""What a step hands over."""

from dataclasses import dataclass
from typing import Any

from vllm._facts import Fields


class Logprob(Fields):
    of = "Logprob"


class CompletionOutput(Fields):
    of = "CompletionOutput"


@dataclass
class RequestOutput:
    """Its first parameters."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int] | None
    prompt_logprobs: Any
    outputs: list[CompletionOutput]
    finished: bool
