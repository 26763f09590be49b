"""Sampling parameters, with what vLLM refuses of those that the core can be asked for."""

from enum import Enum
from typing import Any

import xgrammar

from vllm._facts import FACTS, Fields
from vllm.exceptions import VLLMValidationError

RequestOutputKind = Enum("RequestOutputKind", FACTS["classes"]["RequestOutputKind"])


class StructuredOutputsParams(Fields):
    of = "StructuredOutputsParams"

    def grammar_of(self) -> Any:
        """As xgrammar takes it; raises what that says of a wrong one."""
        if self.json is not None:
            return xgrammar.Grammar.from_json_schema(self.json)
        if self.regex is not None:
            return xgrammar.Grammar.from_regex(self.regex)
        return xgrammar.Grammar.from_ebnf(self.grammar)


class SamplingParams(Fields):
    of = "SamplingParams"

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        if self.temperature > FACTS["most_temperature"]:
            raise VLLMValidationError(
                f"temperature must be in [0, 2], got {self.temperature}.", parameter="temperature"
            )
        if not 0 < self.top_p <= 1 or self.top_k < -1 or not 0 <= self.min_p <= 1 or self.max_tokens < 1:
            raise VLLMValidationError("top_p, top_k, min_p or max_tokens is out of range")
        if self.stop and not self.detokenize:
            raise VLLMValidationError("stop strings are only supported when detokenize is True.")
        if self.temperature < 1e-5:
            self.top_p, self.top_k, self.min_p = 1.0, 0, 0.0

    def verify(
        self, model_config: Any, speculative_config: Any, structured_outputs_config: Any, tokenizer: Any
    ) -> None:
        if speculative_config is not None and self.min_p > 1e-5:
            raise VLLMValidationError("The min_p sampling parameter is not yet supported with speculative decoding.")
        if self.logprobs is not None and self.logprobs > model_config.max_logprobs:
            raise VLLMValidationError("Requested sample logprobs are more than max allowed")
        if self.structured_outputs is not None:
            try:
                self.structured_outputs.grammar_of()
            except Exception as error:
                raise VLLMValidationError(f"Failed to transform it into a grammar: {error}") from error
