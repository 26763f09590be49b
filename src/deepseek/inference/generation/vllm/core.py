"""vLLM's engine as a core: its scheduler, its paged cache and its kernels, for NVIDIA and AMD GPUs.

Public API of vLLM 0.33: ``LLMEngine.from_engine_args``, ``add_request``, ``step`` and ``abort_request`` with
``SamplingParams``; each step hands over the tokens that are new. vLLM (arXiv 2309.06180) does continuous batching,
chunked prefill, prefix reuse, speculative decoding, grammars and LoRA itself.

Other than the contract says: without ``cache_tokens`` the cache takes what is free of 92% of the GPU's memory, also
where ``max_sequences`` need less; and :meth:`VllmCore.usage` counts a sequence as running from its first token on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from deepseek.errors import ConfigError, EngineError, UnknownNameError
from deepseek.inference.generation.core import CoreSettings, GenerationCore, Step, TokenLogprobs
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.inference.generation.vllm.arguments import engine_arguments, sampling_arguments
from deepseek.inference.generation.vllm.library import availability, module
from deepseek.inference.runtime import Availability
from deepseek.models.checkpoint import Checkpoint


@dataclass
class _Taken:
    """A sequence that vLLM has: tokens that end it, log-probabilities that were asked for, whether one came."""

    ends: frozenset[int]
    logprobs: int | None
    begun: bool = False


class VllmCore(GenerationCore):
    """One ``vllm.LLMEngine`` in this process.

    Args:
        engine: as vLLM made it.
        ends: tokens that end a text.
        adapters: vLLM's requests for adapters, by name.
        vocabulary: tokens that the model tells apart.
    """

    name: ClassVar[str] = "vllm"

    def __init__(self, engine: Any, ends: frozenset[int], adapters: dict[str, Any], vocabulary: int) -> None:
        self._engine, self._ends, self._adapters, self._vocabulary = engine, ends, adapters, vocabulary
        self._context = int(engine.vllm_config.model_config.max_model_len)
        self._taken: dict[int, _Taken] = {}
        self._begun = 0

    @classmethod
    def available(cls) -> Availability:
        return availability()

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, *, device: str = "auto", dtype: str = "auto", settings: CoreSettings
    ) -> VllmCore:
        from transformers import AutoConfig

        found = cls.available()
        if not found.works:
            raise ConfigError(found.detail)
        config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False).get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        arguments = engine_arguments(checkpoint, device=device, dtype=dtype, settings=settings, positions=positions)
        vllm = module("vllm")
        request = module("vllm.lora.request").LoRARequest
        adapters = {
            name: request(lora_name=name, lora_int_id=number, lora_path=str(folder))
            for number, (name, folder) in enumerate(settings.adapters.items(), start=1)
        }
        try:
            engine = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**arguments))
        except Exception as error:
            raise ConfigError(
                f"vLLM cannot run {checkpoint.name!r} with these settings: {type(error).__name__}: {error}. The core "
                "'torch' runs every causal language model of transformers"
            ) from error
        return cls(engine, end_tokens_of(checkpoint), adapters, int(config.vocab_size))

    @property
    def context_length(self) -> int:
        return self._context

    @property
    def vocabulary(self) -> int:
        return self._vocabulary

    @property
    def end_tokens(self) -> frozenset[int]:
        return self._ends

    def check(self, sampling: SamplingParameters) -> None:
        config = self._engine.vllm_config
        try:
            parameters = module("vllm").SamplingParams(**sampling_arguments(sampling, self._ends))
            parameters.verify(
                config.model_config,
                config.speculative_config,
                config.structured_outputs_config,
                self._engine.get_tokenizer(),
            )
        except Exception as error:
            what = "the grammar" if sampling.grammar is not None else "the sampling parameters"
            raise ConfigError(f"vLLM refuses {what}: {error}") from error

    def add(
        self, sequence: int, prompt: Sequence[int], sampling: SamplingParameters, adapter: str | None = None
    ) -> None:
        if adapter is not None and adapter not in self._adapters:
            raise UnknownNameError("adapter", adapter, self._adapters)
        vllm = module("vllm")
        parameters = vllm.SamplingParams(**sampling_arguments(sampling, self._ends))
        try:
            self._engine.add_request(
                str(sequence),
                vllm.TokensPrompt(prompt_token_ids=list(prompt)),
                parameters,
                lora_request=None if adapter is None else self._adapters[adapter],
            )
        except Exception as error:
            raise ConfigError(f"vLLM refuses the request: {error}") from error
        ends = frozenset(sampling.stop_token_ids) | (frozenset() if sampling.ignore_eos else self._ends)
        self._taken[sequence] = _Taken(ends, sampling.logprobs)

    def step(self) -> list[Step]:
        return [step for output in self._engine.step() if (step := self._step_of(output)) is not None]

    def _step_of(self, output: Any) -> Step | None:
        taken = self._taken.get(int(output.request_id))
        if taken is None:
            return None  # cancelled after this step had begun
        [completion] = output.outputs
        tokens, reason = tuple(completion.token_ids), completion.finish_reason
        if reason not in (None, "stop", "length"):
            raise EngineError(f"vLLM ended sequence {output.request_id} with {reason!r}: see its log for the cause")
        logprobs = tuple(
            _logprobs(token, row, taken.logprobs)
            for token, row in zip(tokens, completion.logprobs or (), strict=taken.logprobs is not None)
        )
        if tokens and not taken.begun:
            taken.begun = True
            self._begun += 1
        if reason is not None:
            self._forget(int(output.request_id))
        if reason == "stop" and tokens and (tokens[-1] in taken.ends or tokens[-1] in self._ends):
            tokens, logprobs = tokens[:-1], logprobs[:-1]  # vLLM hands over the token that ends a text too
        return Step(int(output.request_id), tokens, logprobs, reason)

    def cancel(self, sequence: int) -> None:
        if sequence in self._taken:
            self._forget(sequence)
            self._engine.abort_request([str(sequence)])

    def _forget(self, sequence: int) -> None:
        self._begun -= self._taken.pop(sequence).begun

    @property
    def busy(self) -> bool:
        return bool(self._taken)

    def usage(self) -> dict[str, float]:
        begun = self._begun
        return {"running": float(begun), "waiting": float(max(0, len(self._taken) - begun))}

    def close(self) -> None:
        """Free the GPU's memory."""
        self._taken.clear()
        self._begun = 0
        self._engine.engine_core.shutdown()


def end_tokens_of(checkpoint: Checkpoint) -> frozenset[int]:
    """The tokens that end a text: those of the generation settings, of the configuration and of the tokenizer."""
    from transformers import AutoConfig, GenerationConfig

    from deepseek.models.loading import tokenizer_for

    sources = [AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False).get_text_config()]
    if (checkpoint.path / "generation_config.json").is_file():
        sources.append(GenerationConfig.from_pretrained(checkpoint.path))
    ends: set[int] = set()
    for source in (*sources, tokenizer_for(checkpoint)):
        given = getattr(source, "eos_token_id", None)
        ends.update([given] if isinstance(given, int) else given or ())
    return frozenset(ends)


def _logprobs(token: int, row: Any, count: int | None) -> TokenLogprobs:
    """vLLM's row has the token itself and the ``count`` best, each with its rank from 1 on."""
    best = sorted((each.rank, other, each.logprob) for other, each in row.items() if each.rank <= (count or 0))
    return TokenLogprobs(float(row[token].logprob), tuple((other, float(logprob)) for _, other, logprob in best))
