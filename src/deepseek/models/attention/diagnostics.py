"""What the gate does on a text: how much of dense attention it keeps, and how sure it is.

For some query positions, of each layer and head:

- *coverage*: the share of dense attention that falls on what the query attends to: near blocks, sinks, chosen ones. 1:
  the gate loses nothing.
- *far share*: the share of dense attention on far blocks, which the gate is there for.
- *entropy*: of the softmax of the gate's scores over the blocks that it may choose, divided by the logarithm of their
  number: 0 where it wants one block, 1 where it does not care.
- *visited*: how many of the blocks are chosen by any of the looked-at queries.

Costs O(T) a query: attention is made dense for the queries that are looked at alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepseek.errors import ConfigError
from deepseek.models.attention.blocks import LOW, BlockLayout, members
from deepseek.models.attention.dense import block_attention, far_term
from deepseek.models.attention.gate import choose
from deepseek.models.attention.pooling import occupied

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """Of one layer; tensors of one number a head, means over texts and queries."""

    layer: int
    coverage: Tensor
    far_share: Tensor
    entropy: Tensor
    visited: Tensor


def inspect_gate(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None = None, *, queries: int = 64, seed: int = 0
) -> list[GateReport]:
    """Look at the gates of a DeepSeek-Base model while it reads texts.

    Args:
        model: with or without a head; it runs as it is configured.
        input_ids: (B, T), long enough to have blocks to choose from.
        queries: positions to look at, drawn by ``seed`` from the later half of the texts.

    Returns:
        One report a layer.

    Raises:
        ConfigError: it is another architecture, the texts are too short for a gate, or padding stands before those of a
            causal model.
    """
    from deepseek.models.deepseek_base.attention_layer import AttentionInputs, GatedAttention

    layers = [module for module in model.modules() if isinstance(module, GatedAttention)]
    if not layers:
        raise ConfigError(f"expected a DeepSeek-Base model, received {type(model).__name__}, which has no gates")
    layout, tokens = layers[0].layout, input_ids.shape[1]
    if layout.neighbourly(layout.blocks(tokens) - layout.sinks):
        least = (layout.local + layout.sinks + 1) * layout.width + 1
        raise ConfigError(f"expected texts of at least {least} tokens, for a gate to have a choice; received {tokens}")
    drawn = tokens // 2 + torch.randperm(tokens - tokens // 2, generator=torch.Generator().manual_seed(seed))[:queries]
    reports: list[GateReport] = []

    def look(module: Any, given: tuple[Any, ...]) -> None:
        hidden, inputs = given[0], given[1]
        assert isinstance(inputs, AttentionInputs)
        if inputs.starts is not None:
            raise ConfigError("expected padding behind the texts of a causal model, received some before them")
        reports.append(_report(module, hidden, inputs, drawn.to(hidden.device)))

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    body = getattr(model, model.base_model_prefix, model)
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            body(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return reports


def _report(module: Any, hidden_BTM: Tensor, inputs: Any, drawn_S: Tensor) -> GateReport:
    layout: BlockLayout = module.layout
    q, k, _ = module.project(hidden_BTM, inputs.tables)
    leaves = module.summaries(k, inputs.mask_BL)
    term, scored = module.gate_keys(leaves)
    rows = module.relative(q.dtype)
    content = q[..., : module.content_dim]
    choice = "token" if layout.causal else "block"
    chosen = choose(content, scored, rows, layout, choice=choice, query_mask_BT=inputs.mask_BL, scale=module.scale)
    tokens = q.shape[2]
    blocks = layout.blocks(tokens)
    own_S = drawn_S // layout.width
    node_N = torch.arange(blocks, device=q.device)
    far_SN = layout.is_far(own_S[:, None] - node_N)
    good_BHSN = layout.is_choosable(own_S[:, None], node_N) & occupied(leaves)[:, :, None]

    q_BHSE = q[:, :, drawn_S].float()
    mass_BHSN = block_attention(
        q_BHSE, k.float(), term.float(), rows.float(), layout, drawn_S, module.scale, inputs.mask_BL
    )
    picked_BHSN = members(chosen[:, :, own_S if choice == "block" else drawn_S], blocks)
    attended_BHSN = picked_BHSN | members(layout.near_slots(blocks, q.device), blocks)[own_S]
    score = module.scale * far_term(q_BHSE, scored.keys.float(), rows.float(), layout, own_S)
    share = score.masked_fill(~good_BHSN, LOW).softmax(-1)
    number = good_BHSN.sum(-1).clamp(min=2).log()
    entropy = -(share * share.clamp(min=1e-12).log()).sum(-1) / number
    return GateReport(
        layer=module.layer_idx,
        coverage=(mass_BHSN * attended_BHSN).sum(-1).mean((0, 2)),
        far_share=(mass_BHSN * far_SN).sum(-1).mean((0, 2)),
        entropy=entropy.mean((0, 2)),
        visited=picked_BHSN.any(2).float().mean((0, 2)),
    )
