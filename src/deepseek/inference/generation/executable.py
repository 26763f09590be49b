"""A generation engine as the executable that tasks run on."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.tasks.base import Generated

if TYPE_CHECKING:
    import torch

    from deepseek.inference.generation.engine import GenerationEngine
    from deepseek.models.checkpoint import Checkpoint

_PASSED_ON = ("max_new_tokens", "min_new_tokens", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


class EngineExecutable:
    """Generates and scores with an engine, whose batches other callers may share.

    Attributes:
        engine: as given; it is closed with the executable, at the latest when nobody refers to that any more.
    """

    def __init__(self, engine: GenerationEngine) -> None:
        self.engine = engine
        self._closing = weakref.finalize(self, engine.close)

    @property
    def context_length(self) -> int:
        """Longest sequence that model and cache have room for."""
        return self.engine.core.context_length

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Logits of all tokens, (rows, tokens, vocabulary); zeros where the mask is."""
        import torch

        mask = batch["attention_mask"].bool()
        ids = [row[own].tolist() for row, own in zip(batch["input_ids"], mask, strict=True)]
        found = self.engine.run(lambda: self.engine.core.logits(ids))
        logits = torch.zeros(*mask.shape, found[0].shape[-1])
        for row, own, values in zip(logits, mask, found, strict=True):
            row[own] = values
        return {"logits": logits}

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        """Continue each prompt; ``options`` are transformers' names of what :class:`SamplingParameters` has.

        Raises:
            ConfigError: an option is not known here; the runtime ``torch`` knows all of transformers'.
        """
        sampling = sampling_of(options)
        mask = batch["attention_mask"].bool()
        prompts = [row[own].tolist() for row, own in zip(batch["input_ids"], mask, strict=True)]
        return [Generated(list(a.token_ids), a.finish_reason) for a in self.engine.generate(prompts, sampling)]

    def close(self) -> None:
        """Close the engine."""
        self._closing()


def load_executable(
    checkpoint: Checkpoint, *, core: str, device: str = "auto", dtype: str = "auto"
) -> EngineExecutable:
    """A checkpoint on an engine of its own.

    Raises:
        UnknownNameError, ConfigError: as :meth:`GenerationCore.load`.
    """
    from deepseek.inference.generation import CORES
    from deepseek.inference.generation.core import CoreSettings
    from deepseek.inference.generation.engine import GenerationEngine
    from deepseek.models.loading import tokenizer_for

    loaded = CORES.get(core).load(checkpoint, device=device, dtype=dtype, settings=CoreSettings())
    return EngineExecutable(GenerationEngine(loaded, tokenizer_for(checkpoint)))


def sampling_of(options: Mapping[str, Any]) -> SamplingParameters:
    """Sampling parameters from transformers' generation options, which do not sample unless ``do_sample`` is set.

    Raises:
        ConfigError: an option is not known here, or its value is wrong.
    """
    left = dict(options)
    sample = left.pop("do_sample", False)
    temperature = left.pop("temperature", None)
    chosen = {name: left.pop(name) for name in _PASSED_ON if left.get(name) is not None}
    left = {name: value for name, value in left.items() if value is not None}
    if left:
        raise ConfigError(
            f"generation option {', '.join(map(repr, left))} is not known to generation engines; the runtime 'torch' "
            "knows all of transformers'"
        )
    if not sample:
        for name in ("top_k", "top_p", "min_p", "seed"):
            chosen.pop(name, None)
        return SamplingParameters(**chosen)
    return SamplingParameters(temperature=1.0 if temperature is None else temperature, **chosen)
