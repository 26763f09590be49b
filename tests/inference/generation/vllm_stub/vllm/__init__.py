"""A stand-in for vLLM with the signatures of its version 0.33 and a model of transformers inside, for tests.

What the core sees is as vLLM does it: tokens of a step, the token that ends a text among them; rows of log-probabilities
with the sampled token first; requests by the caller's names; refusals as its own errors. How it computes is not: one
sequence after the other, no paged cache.
"""

import os

from vllm._engine import EngineArgs, LLMEngine
from vllm._facts import FACTS
from vllm._outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import SamplingParams

__version__ = FACTS["version"]
__all__ = ["CompletionOutput", "EngineArgs", "LLMEngine", "RequestOutput", "SamplingParams", "TokensPrompt"]
IMPORTED_WITH = dict(os.environ)


class TokensPrompt(dict):
    """A typed dictionary, as there."""
