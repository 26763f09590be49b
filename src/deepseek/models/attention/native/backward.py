"""One call of the C source: gradients of what :mod:`.attention` computes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.native.attention import Inputs, PassCall, native_takes, sources

SOURCES = sources(Path(__file__).with_name("backward.c"))


def native_differentiates(q: Tensor, v: Tensor, layout: BlockLayout) -> bool:
    """Whether the C source computes gradients of these tensors' attention here."""
    return native_takes(q, v, layout) and PassCall.function(SOURCES[q.dtype], "deepseek_attention_backward") is not None


def native_gradients(
    inputs: Inputs,
    out: Tensor,
    mass: Tensor,
    grad: Tensor,
    layout: BlockLayout,
    *,
    scale: float,
    tiles: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values, the gate's term and the distances'.

    Args:
        inputs: of :func:`deepseek.models.attention.native.attention.native_attention`.
        out, mass: what that gave.
        grad: of ``out``, (B, H, T, D).

    Raises:
        MemoryError: there is no room for a head on each thread.
    """
    q, k, v, s, r = inputs[:5]
    found = {f"{name}_grad": torch.empty(x.shape, dtype=x.dtype) for name, x in (("q", q), ("k", k), ("v", v))}
    found["s_grad"] = torch.empty(s.shape)
    found["r_grad"] = torch.empty(len(q), *r.shape)
    call = PassCall(
        inputs,
        layout,
        out=out,
        mass=mass.contiguous(),
        grad=grad.to(out.dtype),
        scale=scale,
        tiles=tiles,
        stepped=("grad",),
        **found,
    )
    call.made_by(SOURCES[q.dtype], "deepseek_attention_backward")
    return (
        found["q_grad"], found["k_grad"], found["v_grad"], found["s_grad"].to(s.dtype),
        found["r_grad"].sum(0).to(r.dtype),
    )  # fmt: skip
