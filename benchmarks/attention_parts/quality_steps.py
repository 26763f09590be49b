"""Trains small causal language models that differ in their positions alone, and reads long texts with them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from benchmarks.optimising import adamw, keep_weights, kept, load_weights, take_step
from benchmarks.worker import Clock, serve

OURS = "ours"


def train(clock: Clock, *, kind: str, seed: int, folder: str, settings: dict[str, Any]) -> dict[str, float]:
    """Train one model on the folder's tokens and keep its weights; what was trained before is taken as it is.

    Args:
        kind: ``ours`` or one of :data:`benchmarks.attention_parts.peer_positions.KINDS`.
        settings: ``model`` (fields of the configuration), ``tokens`` of a text, ``batch``, ``steps``, ``rate``.
    """
    target = Path(folder) / f"model-{kind}-{seed}.safetensors"
    return kept(target.with_suffix(".json"), lambda: _train(clock, kind, seed, target, settings))


def _train(clock: Clock, kind: str, seed: int, target: Path, settings: dict[str, Any]) -> dict[str, float]:
    import numpy as np
    import torch

    model = _model(kind, seed, settings).train()
    tokens = torch.from_numpy(np.load(target.with_name("train.npy")).astype("int64"))
    draw = torch.Generator().manual_seed(1000 + seed)  # the same texts in the same order for every kind
    optimizer = adamw(model, settings["rate"], decay=0.1, betas=(0.9, 0.95))
    length, batch, steps = settings["tokens"], settings["batch"], settings["steps"]
    losses: list[float] = []
    with clock:
        for step in range(steps):
            starts = torch.randint(0, len(tokens) - length - 1, (batch,), generator=draw)
            ids = torch.stack([tokens[start : start + length] for start in starts.tolist()])
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            rate = settings["rate"] * min(1.0, (step + 1) / (0.05 * steps)) * (0.1 + 0.9 * (1 - step / steps))
            take_step(model, optimizer, loss, rate=rate)
            losses.append(float(loss.detach()))
            if step % 50 == 0:
                print(kind, seed, step, round(sum(losses[-50:]) / len(losses[-50:]), 3), flush=True)
    keep_weights({name: x for name, x in model.state_dict().items() if name != "lm_head.weight"}, target)
    return {
        "loss": sum(losses[-50:]) / len(losses[-50:]),
        "seconds": clock.seconds,
        "parameters": sum(w.numel() for w in model.parameters()),
    }


def perplexity(
    clock: Clock, *, kind: str, seed: int, folder: str, settings: dict[str, Any], tokens: int, mode: str
) -> dict[str, float]:
    """Perplexity and accuracy of the next token on held-out text, in windows of so many tokens.

    Every window length reads the same tokens, and all of a window's but the first are scored.

    Args:
        mode: of our attention, ``dense`` or ``sparse``.
    """
    import numpy as np
    import torch

    model = _trained(kind, seed, folder, settings, mode)
    text = torch.from_numpy(np.load(Path(folder) / "test.npy").astype("int64"))
    whole = len(text) // settings["longest"] * settings["longest"]
    windows = text[:whole].view(-1, tokens)
    total, right, number = 0.0, 0, 0
    with torch.inference_mode(), clock:
        for window in windows:
            hidden = model.model(input_ids=window[None], use_cache=False).last_hidden_state[0, :-1]
            for part in range(0, tokens - 1, 1024):
                logits = model.lm_head(hidden[part : part + 1024]).float()
                labels = window[1 + part : 1 + part + len(logits)]
                total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
                right += int((logits.argmax(-1) == labels).sum())
                number += len(labels)
    return {"perplexity": math.exp(total / number), "accuracy": right / number, "tokens": number}


def _model(kind: str, seed: int, settings: dict[str, Any]) -> Any:
    import torch

    from benchmarks.attention_parts.peer_positions import replace_positions
    from deepseek.models.deepseek_base import DeepSeekBaseConfig, DeepSeekBaseForCausalLM

    torch.manual_seed(seed)
    model = DeepSeekBaseForCausalLM(DeepSeekBaseConfig(**settings["model"]))
    if kind != OURS:
        replace_positions(model, kind, positions=settings["tokens"])
    return model


def _trained(kind: str, seed: int, folder: str, settings: dict[str, Any], mode: str) -> Any:
    model = _model(kind, seed, settings)
    load_weights(model, Path(folder) / f"model-{kind}-{seed}.safetensors")
    model.config.attention_mode = mode
    return model.eval()


if __name__ == "__main__":
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    serve(train, perplexity)
