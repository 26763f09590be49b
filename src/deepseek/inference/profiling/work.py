"""What a model has to do: its arithmetic, counted, and the bytes that have to move through memory.

FLOPs are counted by PyTorch's ``FlopCounterMode`` while the reference model (transformers, eager attention) runs on the
``meta`` device: shapes without numbers, so that a model of any size is counted in a moment. A multiplication and an
addition are two. Products, attention and convolutions count; what is done once per number (norms, activations, softmax)
does not. Causal attention counts the whole square, as is the custom (PaLM, arXiv 2204.02311, appendix B): a kernel that
leaves out the masked half does less than that.

Bytes are the least that any implementation moves: each weight once, of embedding tables the rows that are looked up,
and the key-value cache, read once and written once. Activations are not among them, for they can stay in a cache. All
experts of a mixture count, even where a token is sent to a few.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from deepseek.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class Sizes:
    """Bytes of one number: of the matrices that multiply, of other weights (tables, norms, biases), of the cache."""

    matrix: int
    other: int
    cache: int

    @classmethod
    def of(cls, dtype: str) -> Sizes:
        """Of a model that is wholly in one precision, by its name in PyTorch."""
        import torch

        size = int(getattr(torch, dtype).itemsize)
        return cls(size, size, size)


@dataclass(frozen=True)
class Work:
    """What one pass has to do.

    Attributes:
        flops: operations; a multiplication and an addition are two.
        weight_bytes: of weights that are read.
        cache_read_bytes, cache_written_bytes: of the key-value cache.
    """

    flops: int
    weight_bytes: int
    cache_read_bytes: int = 0
    cache_written_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All bytes that have to move."""
        return self.weight_bytes + self.cache_read_bytes + self.cache_written_bytes

    @property
    def intensity(self) -> float:
        """FLOPs for each byte that moves."""
        return self.flops / self.bytes


def reference(checkpoint: Checkpoint, head: str) -> Any:
    """The checkpoint's model without its weights, to count on.

    Raises:
        ConfigError: the architecture has no such head.
    """
    import torch
    from transformers import AutoConfig

    from deepseek.models.loading import from_config, quiet_transformers

    config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False)
    config._attn_implementation = "eager"  # a fused kernel would hide the grouping of heads from the counter
    with torch.device("meta"), quiet_transformers():
        return from_config(config, head=head).eval()


def forward_work(model: Any, batch: Mapping[str, torch.Tensor], sizes: Sizes) -> Work:
    """One pass of a model on ``meta`` over a batch of any device; only its shapes count, and none of it as padding.

    Raises:
        ConfigError: the model cannot be counted.
    """
    given = {name: value.to("meta") for name, value in batch.items() if name != "attention_mask"}
    ids = given.get("input_ids")
    flops, _ = _counted(model, lambda: model(**given))
    return Work(flops, weight_bytes(model, 0 if ids is None else ids.numel(), sizes))


def prefill_work(model: Any, rows: int, tokens: int, sizes: Sizes) -> Work:
    """Reading prompts, ``rows`` of ``tokens`` each, into an empty cache, with the logits of the last token of each.

    Raises:
        ConfigError: the model cannot be counted.
    """
    flops, outputs = _counted(model, lambda: _step(model, rows, tokens, None))
    written = sum(states.numel() for states in _cached(model, outputs))
    return Work(flops, weight_bytes(model, rows * tokens, sizes), 0, written * sizes.cache)


def decode_work(model: Any, rows: int, context: int, sizes: Sizes) -> Work:
    """One more token for each of ``rows`` sequences that have ``context`` tokens in the cache.

    Raises:
        ConfigError: the model cannot be counted.
    """
    _, outputs = _counted(model, lambda: _step(model, rows, context, None))
    states = _cached(model, outputs)
    read = sum(state.numel() for state in states)
    written = sum(state[:, :, :1].numel() for state in states)
    flops, _ = _counted(model, lambda: _step(model, rows, 1, outputs.past_key_values))
    return Work(flops, weight_bytes(model, rows, sizes), read * sizes.cache, written * sizes.cache)


def weight_bytes(model: Any, lookups: int, sizes: Sizes) -> int:
    """Bytes of weights that one pass reads.

    Args:
        lookups: rows that are looked up in each embedding table; a table that multiplies as well (a tied head) counts
            whole.
    """
    import torch

    found, seen = 0, set()
    tables_last = sorted(model.modules(), key=lambda module: isinstance(module, torch.nn.Embedding))
    for module in tables_last:
        for weight in module.parameters(recurse=False):
            if id(weight) in seen:
                continue
            seen.add(id(weight))
            if isinstance(module, torch.nn.Embedding):
                found += min(weight.shape[0], lookups) * weight.shape[1] * sizes.other
            else:
                found += weight.numel() * (sizes.matrix if weight.ndim > 1 else sizes.other)
    return found


def last_logits_only(model: Any) -> dict[str, int]:
    """The argument that spares a causal model the logits of all but the last token, if it has one."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def _step(model: Any, rows: int, tokens: int, cache: Any) -> Any:
    import torch

    ids = torch.zeros(rows, tokens, dtype=torch.long, device="meta")
    return model(input_ids=ids, past_key_values=cache, use_cache=True, **last_logits_only(model))


def _counted(model: Any, call: Callable[[], Any]) -> tuple[int, Any]:
    """(FLOPs, what the call returned)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    try:
        with torch.inference_mode(), counter:
            outputs = call()
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:  # whatever needs numbers, not shapes
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"the work of {type(model).__name__} cannot be counted from shapes alone: {said}") from error
    return counter.get_total_flops(), outputs


def _cached(model: Any, outputs: Any) -> list[torch.Tensor]:
    """Keys and values of all layers, (rows, heads, tokens, width) each."""
    layers = getattr(outputs.past_key_values, "layers", None)
    if not layers or not all(getattr(layer, "keys", None) is not None for layer in layers):
        raise ConfigError(
            f"the cache of {type(model).__name__} is not one of keys and values in every layer, so its bytes cannot be "
            "counted"
        )
    return [states for layer in layers for states in (layer.keys, layer.values)]
