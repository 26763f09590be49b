"""Several short examples in one sequence, each blind to the others.

Choices
- First-fit decreasing fills the sequences (at most 11/9 of the least number of them, Johnson 1973).
- Position ids start again at 0 with every example, and nothing else marks the borders: transformers finds packed
  examples by them when there is no attention mask (``masking_utils.find_packed_sequence_indices``) and builds a
  block-diagonal causal mask of the kind that each layer needs, sliding windows included. Padding at the end of a batch
  is an example of its own.
- Encoders' masks are not built from positions by transformers, so :func:`block_masks` builds them with its functions.
- An architecture that takes no positions, or ignores packing, would mix examples silently. :func:`check_isolation` asks
  the model itself, once.
- ``"joined"`` packing lets the examples of a sequence see each other, as GPT-2 and RoBERTa were trained: for
  architectures that cannot keep them apart, and for long sequences. The special tokens of each text stay, so that a
  model can learn where one ends.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    import torch

Packing = bool | Literal["joined"]
POSITIONS = "position_ids"
IGNORED = -100
"""Labels that transformers' losses leave out."""

_INSTEAD = "joined (examples see each other) or false"
_checked: weakref.WeakSet[Any] = weakref.WeakSet()


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Group items so that each group's lengths add up to at most ``capacity``; groups hold indices, longest first."""
    groups: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = next((g for g, free in enumerate(room) if free >= lengths[i]), None)
        if at is None:
            groups.append([i])
            room.append(capacity - lengths[i])
        else:
            groups[at].append(i)
            room[at] -= lengths[i]
    return groups


def pack(
    features: Sequence[Mapping[str, list[int]]],
    capacity: int,
    *,
    packing: Packing = True,
    numbered: Sequence[str] = (),
) -> list[dict[str, list[int]]]:
    """Join features (lists of one length each) into packed ones, with position ids that restart with each example.

    Args:
        packing: ``"joined"`` gives no position ids, so that examples see each other; ``False`` changes nothing.
        numbered: lists of these names count something from 0 (words); they count on through the joined examples.
    """
    if not packing:
        return [dict(feature) for feature in features]
    packed = []
    for group in first_fit_decreasing([len(f["input_ids"]) for f in features], capacity):
        joined: dict[str, list[int]] = {name: [] for name in features[group[0]]}
        joined[POSITIONS] = []
        for i in group:
            for name, values in features[i].items():
                offset = max(joined[name], default=-1) + 1 if name in numbered else 0
                joined[name] += [value + offset if value >= 0 else value for value in values] if offset else values
            joined[POSITIONS] += range(len(features[i]["input_ids"]))
        if packing == "joined":
            del joined[POSITIONS]
        packed.append(joined)
    return packed


def pad_right(
    features: Sequence[Mapping[str, Any]], fill: Mapping[str, int], *, tokenizer: Any = None
) -> dict[str, torch.Tensor]:
    """Lists to tensors of shape (batch, longest), padded with ``fill`` of each name; positions go on counting from 0.

    Sequences that are not packed also get an ``attention_mask``; packed ones must not have one.

    Args:
        tokenizer: may have ``padded_length(tokens)``, to how many tokens a batch with such a longest row is padded.
    """
    import torch

    longest = max(len(f["input_ids"]) for f in features)
    longest = getattr(tokenizer, "padded_length", int)(longest)
    batch = {name: torch.full((len(features), longest), value) for name, value in fill.items()}
    packed = POSITIONS in features[0]
    if packed:
        batch[POSITIONS] = torch.zeros((len(features), longest), dtype=torch.long)
    else:
        batch["attention_mask"] = torch.zeros((len(features), longest), dtype=torch.long)
    for i, feature in enumerate(features):
        size = len(feature["input_ids"])
        for name in fill:
            batch[name][i, :size] = torch.tensor(feature[name])
        if packed:
            batch[POSITIONS][i, :size] = torch.tensor(feature[POSITIONS])
            batch[POSITIONS][i, size:] = torch.arange(longest - size)
        else:
            batch["attention_mask"][i, :size] = 1
    return batch


def block_masks(config: Any, position_ids: torch.Tensor, dtype: torch.dtype) -> Any:
    """The attention mask of packed rows for an encoder, as its attention implementation takes it.

    Args:
        position_ids: (batch, tokens), restarting with every example.

    Returns:
        A mask of shape (batch, 1, tokens, tokens), or one a layer type for models with local attention.
    """
    import torch
    from transformers import masking_utils

    examples = (torch.diff(position_ids, prepend=position_ids[:, :1] - 1) != 1).cumsum(-1)
    arguments = {
        "config": config,
        "inputs_embeds": torch.empty((*position_ids.shape, 1), dtype=dtype, device=position_ids.device),
        "attention_mask": None,
        "and_mask_function": masking_utils.packed_sequence_mask_function(examples),
    }
    full = masking_utils.create_bidirectional_mask(**arguments)
    if "sliding_attention" not in (getattr(config, "layer_types", None) or ()):
        return full
    local = masking_utils.create_bidirectional_sliding_window_mask(**arguments)
    return {"full_attention": full, "sliding_attention": local}


def unwrapped(model: Any) -> Any:
    """The transformers model inside a data-parallel wrapper."""
    while not hasattr(model, "config") and hasattr(model, "module"):
        model = model.module
    return model


def check_isolation(model: Any, *, causal: bool) -> None:
    """Ask a model whether packed examples stay apart; the answer is remembered.

    Two sequences that differ only in their first example must give the second example the same logits, and those that
    it has alone. The model's mode is left as it was, and no random number is drawn.

    Raises:
        ConfigError: it takes no positions, or examples see each other.
    """
    import torch

    inner = unwrapped(model)
    if inner in _checked:
        return
    name = type(inner).__name__
    if POSITIONS not in inspect.signature(inner.forward).parameters:
        raise ConfigError(f"{name} takes no position ids, so examples cannot be kept apart; set packing: {_INSTEAD}")
    size = inner.config.get_text_config().vocab_size
    device = inner.get_input_embeddings().weight.device
    first, other, second = ([(start + i) % size for i in range(4)] for start in (5, 11, 17))
    ids = torch.tensor([[*first, *second], [*other, *second]], device=device)
    positions = torch.arange(4, device=device).repeat(2, 2)
    modes = [(module, module.training) for module in inner.modules()]
    inner.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            together = inner(**packed_inputs(inner, ids, positions, causal=causal)).logits[:, 4:].float()
            alone = inner(input_ids=ids[:1, 4:]).logits.float()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"{name} cannot be given packed examples ({error}); set packing: {_INSTEAD}") from error
    finally:
        for module, training in modes:
            module.training = training
    scale = alone.abs().max()
    exact = inner.dtype == torch.float32 and not getattr(inner, "is_quantized", False)
    if (together[0] - together[1]).abs().max() > 1e-4 * scale:
        raise ConfigError(f"{name} lets packed examples see each other; set packing: {_INSTEAD}")
    if (together[:1] - alone).abs().max() > (1e-3 if exact else 3e-2) * scale:
        raise ConfigError(
            f"{name} numbers positions in its own way, which packing does not know; set packing: {_INSTEAD}"
        )
    _checked.add(inner)


def packed_inputs(model: Any, input_ids: torch.Tensor, position_ids: torch.Tensor, *, causal: bool) -> dict[str, Any]:
    """What a model is called with for packed rows."""
    inner = unwrapped(model)
    inputs: dict[str, Any] = {"input_ids": input_ids, POSITIONS: position_ids + _first_position(inner)}
    if causal:
        return {**inputs, "use_cache": False}  # with a cache transformers does not look for packed examples
    return {**inputs, "attention_mask": block_masks(inner.config, position_ids, inner.dtype)}


def _first_position(model: Any) -> int:
    """The number of the first position: RoBERTa and its kin begin behind the index of the padding."""
    embeddings = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1
