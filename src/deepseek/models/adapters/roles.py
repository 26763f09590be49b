"""Which part of a transformer block each linear layer is.

Architectures name the same thing differently: a query projection is ``query`` in BERT, ``q_proj`` in Llama, ``q_lin``
in DistilBERT, a part of ``c_attn`` in GPT-2 and of ``query_key_value`` in BLOOM. A layer's role is read from the last
part of its name, and where that is ambiguous (``dense``, ``c_proj``, ``wo``) from the block that it is in. The names
are those of transformers 5; ``tests/models/test_adapter_architectures.py`` holds the table of what is covered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

QUERY = frozenset(
    {"query", "q_proj", "q_lin", "q", "query_proj", "wq", "to_q", "q_attn", "q_a_proj", "q_b_proj", "lin_q"}
)
KEY = frozenset({"key", "k_proj", "k_lin", "k", "key_proj", "wk", "to_k"})
VALUE = frozenset({"value", "v_proj", "v_lin", "v", "value_proj", "wv", "to_v"})
KEY_VALUE = frozenset({"kv_a_proj_with_mqa", "kv_b_proj", "kv_proj", "key_value"})
"""Keys and values in one: DeepSeek's multi-head latent attention projects both through one low-rank bottleneck."""
FUSED = frozenset({"query_key_value", "qkv_proj", "Wqkv", "c_attn", "qkv", "W_pack", "in_proj", "qkv_linear"})
"""Query, key and value in one matrix; ``in_proj`` only inside attention, since Mamba has one too."""
OUTPUT = frozenset({"o_proj", "out_proj", "out_lin", "c_proj", "dense", "o", "Wo", "wo", "to_out", "proj", "output"})
MLP = frozenset(
    {
        "gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "fc_in", "fc_out", "lin1", "lin2", "c_fc",
        "c_proj", "dense_h_to_4h", "dense_4h_to_h", "wi", "wi_0", "wi_1", "wo", "Wi", "Wo", "w1", "w2", "w3",
        "intermediate.dense", "output.dense", "intermediate_dense", "output_dense", "ffn", "ffn_output", "layer_1",
        "layer_2", "pwconv1", "pwconv2", "linear_fc1", "linear_fc2",
    }
)  # fmt: skip

ROLES = ("query", "key", "value", "attention_output", "mlp")
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_LAYER = re.compile(r"(?:^|.*?\.)(?P<list>[^.]+)\.(?P<index>\d+)\.")


def roles(path: str) -> frozenset[str]:
    """The roles of the linear layer at a dotted path; a fused projection has several, most heads have none.

    >>> sorted(roles("encoder.layer.0.attention.output.dense")), sorted(roles("h.3.mlp.c_proj"))
    (['attention_output'], ['mlp'])
    >>> sorted(roles("h.3.attn.c_attn"))
    ['key', 'query', 'value']
    """
    *parents, leaf = path.split(".")
    in_attention = any(_ATTENTION.search(part) for part in parents)
    if leaf in FUSED and (in_attention or leaf not in {"in_proj", "qkv"}):
        return frozenset({"query", "key", "value"})
    if leaf in QUERY:
        return frozenset({"query"})
    if leaf in KEY_VALUE:
        return frozenset({"key", "value"})
    if leaf in KEY:
        return frozenset({"key"})
    if leaf in VALUE:
        return frozenset({"value"})
    if in_attention:
        return frozenset({"attention_output"}) if leaf in OUTPUT else frozenset()
    in_block = any(part.isdigit() for part in parents) or parents[-1:] == ["mlp"]
    if in_block and (leaf in MLP or ".".join(path.split(".")[-2:]) in MLP):
        return frozenset({"mlp"})
    return frozenset()


def layer_of(path: str) -> tuple[str, str, int] | None:
    """``(stack, list, index)`` of the block that a module is in: the first numbered part of its path, as PEFT counts.

    >>> layer_of("encoder.layer.3.attention.self.query")
    ('encoder.layer', 'layer', 3)
    """
    match = _LAYER.match(path)
    if match is None:
        return None
    return path[: match.end("list")], match["list"], int(match["index"])


def fused_experts(model: nn.Module) -> list[str]:
    """Ends of the paths of weights that hold all routed experts in one 3-D parameter, so that no layer is there."""
    found = {
        ".".join(path.split(".")[-3:])
        for path, weight in model.named_parameters()
        if weight.dim() == 3 and path.split(".")[-2:-1] == ["experts"]
    }
    return sorted(found)
