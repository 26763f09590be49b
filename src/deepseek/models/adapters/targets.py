"""Names of layers that mean the same on every architecture.

``query_key_value`` is what GPT-NeoX, BLOOM and Falcon call their fused projection; BERT has ``query``, ``key`` and
``value``, Llama ``q_proj``, ``k_proj`` and ``v_proj``. A name that the model has is used as it is; a general name is
looked up here; anything else is an error that lists the names that exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from deepseek.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import nn

QUERY = ("query", "q_proj", "q_lin", "q", "query_proj", "wq", "to_q", "q_attn")
KEY = ("key", "k_proj", "k_lin", "k", "key_proj", "wk", "to_k")
VALUE = ("value", "v_proj", "v_lin", "v", "value_proj", "wv", "to_v")
FUSED = ("query_key_value", "qkv_proj", "Wqkv", "c_attn", "qkv", "in_proj", "W_pack", "attn.c_attn")
OUTPUT = (
    "attention.output.dense",
    "o_proj",
    "out_proj",
    "out_lin",
    "attn.c_proj",
    "attention.dense",
    "o",
    "attn.Wo",
    "wo",
)
MLP = (
    "intermediate.dense", "gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "lin1", "lin2", "c_fc",
    "mlp.c_proj", "dense_h_to_4h", "dense_4h_to_h", "wi", "wi_0", "wi_1", "wo", "mlp.Wi", "mlp.Wo", "w1", "w2", "w3",
)  # fmt: skip

GENERAL: dict[str, tuple[tuple[str, ...], ...]] = {
    "query_key_value": (QUERY, KEY, VALUE),
    "query": (QUERY,),
    "key": (KEY,),
    "value": (VALUE,),
    "attention_output": (OUTPUT,),
}
"""General name -> groups of synonyms; every group must be found (a fused projection stands for all of them)."""


def resolve_targets(model: nn.Module, target_modules: Iterable[str]) -> list[str]:
    """Translate target names into layer names that exist in ``model``.

    Args:
        model: any torch module, usually a transformers model.
        target_modules: layer names (whole or the last parts of the dotted path) or general names.

    Returns:
        Names as PEFT matches them: the ends of dotted paths, in the order asked for, without duplicates.

    Raises:
        UnknownNameError: a name is neither a layer of the model nor a general name that applies to it.
    """
    paths = adaptable_layers(model)
    found: list[str] = []
    for name in target_modules:
        if _matches(name, paths):
            found.append(name)
        elif name == "all-linear":
            heads = {id(layer) for layer in _output_layers(model)}
            found.extend(_ends(path for path, layer in paths.items() if id(layer) not in heads))
        elif name == "mlp":
            found.extend(_require(name, [m for m in MLP if _matches(m, paths)], paths))
        elif name in GENERAL:
            fused = [f for f in FUSED if _matches(f, paths)]
            groups = [next((s for s in group if _matches(s, paths)), None) for group in GENERAL[name]]
            if all(groups):
                found.extend(g for g in groups if g)
            elif fused and name in {"query_key_value", "query", "key", "value"}:
                found.append(fused[0])
            else:
                _require(name, [], paths)
        else:
            _require(name, [], paths)
    return list(dict.fromkeys(found))


def adaptable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that LoRA can adapt, by dotted path: linear layers and GPT-2's transposed ones."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    found: dict[str, nn.Module] = {}
    for path, layer in model.named_modules():
        own = path.removesuffix(".base_layer")  # a layer that an adapter wraps already keeps its own name
        inside_adapter = any(part in path for part in (".lora_", ".modules_to_save", ".original_module"))
        if isinstance(layer, nn.Linear | Conv1D) and not inside_adapter:
            found[own] = layer
    return found


def _output_layers(model: nn.Module) -> list[nn.Module]:
    getter = getattr(model, "get_output_embeddings", None)
    head = getter() if getter else None
    fresh = set(getattr(model, "fresh_modules", ()))
    named = [layer for path, layer in model.named_modules() if path.split(".", 1)[0] in fresh]
    return ([head] if head is not None else []) + named


def _matches(name: str, paths: Iterable[str]) -> bool:
    return any(path == name or path.endswith("." + name) for path in paths)


def _ends(paths: Iterable[str]) -> list[str]:
    return sorted({path.rpartition(".")[2] for path in paths})


def _require(name: str, found: list[str], paths: dict[str, nn.Module]) -> list[str]:
    if found:
        return found
    ends = _ends(paths)
    raise UnknownNameError(
        "target module",
        name,
        [*ends, *GENERAL, "mlp", "all-linear"],
        hint=f"Layers of this model that can be adapted: {', '.join(ends)}. "
        f"Names that mean the same on every architecture: {', '.join([*GENERAL, 'mlp', 'all-linear'])}.",
    )
