"""One text through one model, in a process of its own."""

from __future__ import annotations

from functools import cache
from typing import Any

from benchmarks.worker import Clock, serve


def read(
    clock: Clock, *, kind: str, dtype: str, tokens: int, size: dict[str, Any], longest: int, repeats: int
) -> float:
    """Time ``repeats`` passes of a text of so many tokens; returns a number that depends on all of the output."""
    import torch

    model = _model(kind, dtype, tuple(size.items()), longest)
    ids = torch.randint(0, size["vocab_size"], (1, tokens), generator=torch.Generator().manual_seed(tokens))
    with torch.inference_mode():
        model(input_ids=ids)
        with clock:
            for _ in range(repeats):
                hidden = model(input_ids=ids).last_hidden_state
    return float(hidden.float().abs().mean())


@cache
def _model(kind: str, dtype: str, size: tuple[tuple[str, Any], ...], longest: int) -> Any:
    import torch
    from transformers import AutoModel

    from benchmarks.pretrain_parts.models import config_of

    torch.manual_seed(0)
    config = config_of(kind, dict(size), max_position_embeddings=longest)
    model = AutoModel.from_config(config, attn_implementation="sdpa", dtype=getattr(torch, dtype)).eval()
    with torch.no_grad():  # the gate's weights and positions as trained ones are: not zero
        for name, weight in model.named_parameters():
            if name.rpartition(".")[2] in ("relative_steps", "saliency", "sharpness", "gate_weight"):
                weight.normal_(std=0.1)
    return model


if __name__ == "__main__":
    import torch

    torch.set_num_threads(2)
    serve(read)
