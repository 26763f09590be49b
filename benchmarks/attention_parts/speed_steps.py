"""One attention, forward or forward and backward, in a process of its own."""

from __future__ import annotations

from typing import Any

from benchmarks.worker import Clock, serve

HEADS, WIDTH, CONTENT = 12, 64, 48


def attend(clock: Clock, *, kind: str, tokens: int, dtype: str, causal: bool, backward: bool) -> float:
    """Time one text's attention, 12 heads of 64; the gate with all that it needs: pooling, search, both terms.

    Args:
        kind: ``dense`` (PyTorch's scaled_dot_product_attention) or ``gate``.

    Returns:
        A number that depends on all of the output.
    """
    import torch

    torch.manual_seed(0)
    kept = getattr(torch, dtype)
    q, k, v = (torch.randn(1, HEADS, tokens, WIDTH).to(kept) for _ in range(3))
    attention = _dense if kind == "dense" else _Gate(causal, kept)
    inputs = [x.requires_grad_(backward) for x in (q, k, v)]
    grad = torch.randn(1, HEADS, tokens, WIDTH).to(kept) if backward else None
    _called(attention, inputs, causal, grad)  # as a model's layers find it: memory is there, sources are loaded
    for x in inputs:
        x.grad = None
    with clock:
        out = _called(attention, inputs, causal, grad)
    return float((out if grad is None else q.grad).float().abs().mean())


def _called(attention: Any, inputs: list[Any], causal: bool, grad: Any) -> Any:
    import torch

    with torch.inference_mode(grad is None):
        out = attention(*inputs, causal)
    if grad is not None:
        out.backward(grad)
    return out


def _dense(q: Any, k: Any, v: Any, causal: bool) -> Any:
    import torch

    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


class _Gate:
    """The layer's attention between its projections, with weights as a trained model has them: none is zero."""

    def __init__(self, causal: bool, dtype: Any) -> None:
        import torch

        from deepseek.models.attention.blocks import BlockLayout

        self.layout = BlockLayout(causal=causal)
        self.saliency = torch.randn(HEADS, CONTENT).mul(0.1).to(dtype)
        self.sharpness = torch.randn(HEADS).mul(0.1).to(dtype)
        self.rows = torch.randn(HEADS, self.layout.sides * self.layout.buckets, CONTENT).mul(0.1).to(dtype)

    def __call__(self, q: Any, k: Any, v: Any, causal: bool) -> Any:
        from deepseek.models.attention.gate import choose
        from deepseek.models.attention.pooling import Level, pool_blocks
        from deepseek.models.attention.sparse import sparse_attention

        scale = WIDTH**-0.5
        leaves = pool_blocks(k[..., :CONTENT], self.saliency, self.layout.width, sharpness_H=self.sharpness)
        term = 0.5 * leaves.keys
        scored = Level(leaves.keys + term, leaves.mass, 1)
        choice = "token" if causal else "block"
        chosen = choose(q[..., :CONTENT], scored, self.rows, self.layout, choice=choice, scale=scale)
        return sparse_attention(q, k, v, term, self.rows, self.layout, scale=scale, chosen=chosen)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(2)
    serve(attend)
