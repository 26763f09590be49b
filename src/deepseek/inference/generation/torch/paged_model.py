"""A transformers language model that runs on a paged cache, if it is one that can.

Every model is tried at load: a few tokens through the cache, in pieces, must give what the model's own forward pass
gives. That finds what no list of architectures would: layers that keep another state, positions that are not passed on,
attention that does not go through transformers' interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.generation.paged.blocks import BLOCK, blocks_for
from deepseek.inference.generation.paged.model import PagedModel, Piece
from deepseek.inference.generation.torch.attention import NAME, Layer, recording, register, running
from deepseek.inference.generation.torch.batching import batch_of, ordered

if TYPE_CHECKING:
    import torch

_PIECES = (21, 4, 1, 1, 5)
"""Tokens of the trial, step by step: a prompt, a chunk after it, single ones, and several guesses at once."""
_TOLERANCE = {"torch.float32": 1e-3, "torch.bfloat16": 0.1, "torch.float16": 0.03}
"""Largest difference to the model's own logits of a token, as a share of their norm."""
_OTHERS = "the generation cores 'openvino' and 'vllm', or the runtime 'torch' of Predictor, may run it"
_CHANGES = ("sliding_window", "softcap", "s_aux", "position_bias", "cache", "attention_mask")


@dataclass(frozen=True)
class _Shape:
    key_heads: int
    key: int
    value: int


class TransformersModel(PagedModel):
    """A transformers model and its cache.

    Args:
        model: on its device, in its precision, in evaluation mode; its attention is replaced.
        name: for messages.

    Attributes:
        model: as given.
        vocabulary: size of its output.
        context_length: tokens that its positions cover; ``None`` where its config does not say.
        token_bytes: of the cache that one token takes.

    Raises:
        ConfigError: it is a model that this cannot run.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        config = model.config.get_text_config(decoder=True)
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.weight_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0]) if model.get_output_embeddings() else 0
        self.context_length: int | None = getattr(config, "max_position_embeddings", None)
        if not self.vocabulary or not model._can_set_attn_implementation():
            raise self._unfit("its attention is its own")
        if why := _only_later(config):
            raise self._unfit(why)
        self.layers: list[Layer] = []
        try:
            self._shapes = self._try_out(int(config.num_hidden_layers))
        except (TypeError, AttributeError, IndexError) as error:  # of its own code, which counts on a mask or a cache
            raise self._unfit(f"its code fails on a paged cache ({type(error).__name__}: {error})") from error
        self.token_bytes = sum(s.key_heads * (s.key + s.value) for s in self._shapes) * self.dtype.itemsize

    def allocate(self, blocks: int) -> None:
        import numpy as np
        import torch

        def empty(shape: _Shape, size: int) -> torch.Tensor:
            # zeros: a masked place counts nothing, but nothing times what is no number would be no number
            places = blocks * BLOCK * shape.key_heads * size
            if self.device.type == "cpu":  # NumPy's zeros take no memory before they are written to
                zeros = torch.from_numpy(np.zeros(places * self.dtype.itemsize, dtype=np.uint8)).view(self.dtype)
            else:
                zeros = torch.zeros(places, dtype=self.dtype, device=self.device)
            return zeros.view(blocks, BLOCK, shape.key_heads, size)

        self.layers = []
        self.layers = [Layer(empty(shape, shape.key), empty(shape, shape.value)) for shape in self._shapes]

    def release(self) -> None:
        self.layers = []

    def ordered(self, pieces: Sequence[Piece]) -> list[int]:
        return ordered(pieces)

    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        batch = batch_of(pieces, self.device)
        with running(batch, self.layers):
            logits = self.model(
                input_ids=batch.ids_1T,
                position_ids=batch.positions_1T,
                use_cache=False,
                logits_to_keep=batch.rows_R,
            ).logits[0]
        return logits.float()

    def _unfit(self, why: str) -> ConfigError:
        return ConfigError(
            f"the generation core 'torch' cannot run {self.name!r} ({type(self.model).__name__}): {why}; {_OTHERS}"
        )

    def _try_out(self, count: int) -> list[_Shape]:
        """Run the trial of this module's docstring; returns what each layer keeps."""
        import torch

        generator = torch.Generator().manual_seed(0)
        total = sum(_PIECES)
        if self.context_length is not None and self.context_length < total:
            raise self._unfit(f"its context has {self.context_length} tokens; at least {total} are needed")
        ids = torch.randint(self.vocabulary, (1, total), generator=generator).to(self.device)
        shapes: dict[int, _Shape] = {}
        changes: dict[str, Any] = {}

        def record(module: Any, query: Any, key: Any, value: Any, given: dict[str, Any]) -> None:
            shapes[getattr(module, "layer_idx", -1)] = _Shape(key.shape[1], key.shape[3], value.shape[3])
            changes.update({name: given[name] for name in _CHANGES if given.get(name) is not None})
            if given.get("is_causal", True) is False or not getattr(module, "is_causal", True):
                changes["is_causal"] = False
            if query.shape[1] % key.shape[1]:
                changes["heads"] = (query.shape[1], key.shape[1])

        with torch.inference_mode():
            own = self.model(input_ids=ids, use_cache=False).logits[0].float()
            self.model.set_attn_implementation(register())
            with recording(record):
                self.model(input_ids=ids, use_cache=False)
            window = changes.pop("sliding_window", None)
            if window is not None and (self.context_length is None or window < self.context_length):
                raise self._unfit(f"it attends to a sliding window of {window} tokens")
            if changes:
                raise self._unfit(f"its attention has {', '.join(sorted(changes))}")
            if sorted(shapes) != list(range(count)):
                raise self._unfit(f"{len(shapes)} of its {count} layers are attention with a cache")
            self._shapes = [shapes[at] for at in range(count)]
            paged = self._in_pieces(ids[0].tolist())
        difference = _difference(paged, own, exact=self.dtype == torch.float32)
        if not difference < _TOLERANCE.get(str(self.dtype), 0.1):
            raise self._unfit(f"with a paged cache it answers otherwise (logits differ by {difference:.1%})")
        return self._shapes

    def _in_pieces(self, ids: list[int]) -> torch.Tensor:
        """Logits of all tokens, through a small cache whose blocks are not in order."""
        import torch

        blocks = blocks_for(len(ids)) + 1
        self.allocate(blocks)
        table = list(range(blocks))[::-1]
        outs, start = [], 0
        for count in _PIECES:
            piece = Piece(ids[start : start + count], start, table, count)
            outs.append(self.forward([piece]))
            start += count
        self.layers = []
        return torch.cat(outs)


def _only_later(config: Any) -> str:
    """What would differ only in texts longer than the trial; empty if nothing."""
    context = getattr(config, "max_position_embeddings", None) or 0
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:  # a sliding window's length is seen in the trial
        return f"it has layers of {', '.join(sorted(kinds))}"
    rotary = getattr(config, "rope_parameters", None) or {}
    for each in [rotary, *(part for part in rotary.values() if isinstance(part, dict))]:
        if each.get("rope_type") == "longrope" and each.get("original_max_position_embeddings", 0) < context:
            return "its rotary positions change with the length of the longest text in a batch (longrope)"
    return ""


def _difference(paged: torch.Tensor, own: torch.Tensor, *, exact: bool) -> float:
    """How far logits of tokens are from each other: the furthest where they should be ``exact``.

    In narrow precisions rounding may send single tokens to other experts; so it is the median there, of the prompt and
    of what comes after it, whichever is larger.
    """
    each = (paged - own).norm(dim=-1) / own.norm(dim=-1)
    if exact:
        return float(each.max())
    return max(float(each[: _PIECES[0]].median()), float(each[_PIECES[0] :].median()))


__all__ = ["NAME", "TransformersModel"]
