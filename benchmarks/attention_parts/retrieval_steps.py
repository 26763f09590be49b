"""Trains small decoders to find again what a text said, and asks them in longer texts.

*Recall*: pairs of a key and a value lie among random words; at the end keys are asked for, and the value has to come.
*Needle*: one pair in the whole text, one question. In both a pair is a mark, the key and the value. Models first learn
to repeat random words, which makes them look for what followed before (induction heads, arXiv:2209.11895).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.optimising import adamw, keep_weights, kept, load_weights, take_step
from benchmarks.worker import Clock, serve

WORDS, KEYS, VALUES = 192, 32, 32
MARK, ASK = WORDS + KEYS + VALUES, WORDS + KEYS + VALUES + 1
VOCABULARY = ASK + 1


def train(clock: Clock, *, seed: int, folder: str, settings: dict[str, Any]) -> dict[str, float]:
    """Train one model, dense, on texts up to the longest of ``settings``; what was trained before is taken as it is."""
    target = Path(folder) / f"retriever-{seed}.safetensors"
    return kept(target.with_suffix(".json"), lambda: _train(clock, seed, target, settings))


def _train(clock: Clock, seed: int, target: Path, settings: dict[str, Any]) -> dict[str, float]:
    import torch
    from torch.nn import functional

    model = _model(seed, settings).train()
    optimizer = adamw(model, settings["rate"], decay=0.01, betas=(0.9, 0.98))
    draw = torch.Generator().manual_seed(seed)
    steps, right, asked = settings["steps"], 0.0, 0
    with clock:
        for step in range(steps):
            done = step / steps
            tokens, pairs, questions = next(stage[1:] for stage in settings["stages"] if done < stage[0])
            batch = max(1, settings["batch_tokens"] // tokens)
            if done < settings["repeat_until"] or (done < 2 * settings["repeat_until"] and step % 2):
                ids, labels = _repeated(batch, tokens, draw)
            else:
                ids, labels = _recall(batch, tokens, pairs, questions, draw)
            scored = labels != -100
            outputs = model.model(input_ids=ids, gate_loss_mask=scored)
            logits = model.lm_head(outputs.last_hidden_state[scored])
            loss = model.with_gate_loss(functional.cross_entropy(logits, labels[scored]), outputs)
            take_step(model, optimizer, loss, rate=settings["rate"] * min(1.0, (step + 1) / 50) * (1 - 0.9 * done))
            if step >= steps - 20:
                right += int((logits.argmax(-1) == labels[scored]).sum())
                asked += int(scored.sum())
            if step % 100 == 0:
                print(seed, step, tokens, round(float(loss.detach()), 3), flush=True)
    keep_weights({name: x for name, x in model.state_dict().items() if name != "lm_head.weight"}, target)
    return {"accuracy": right / asked, "seconds": clock.seconds}


def ask(
    clock: Clock,
    *,
    seed: int,
    folder: str,
    settings: dict[str, Any],
    tokens: int,
    mode: str,
    pairs: int,
    questions: int,
    texts: int,
) -> float:
    """The share of right answers in new texts of so many tokens; with one pair and one question, a needle."""
    import torch

    model = _model(seed, settings)
    load_weights(model, Path(folder) / f"retriever-{seed}.safetensors")
    model.config.attention_mode = mode
    model.eval()
    draw = torch.Generator().manual_seed(10_000 + seed)
    right = asked = 0
    with torch.inference_mode(), clock:
        for _ in range(texts):
            ids, labels = _recall(1, tokens, pairs, questions, draw)
            scored = labels != -100
            answers = model.lm_head(model.model(input_ids=ids).last_hidden_state[scored]).argmax(-1)
            right += int((answers == labels[scored]).sum())
            asked += int(scored.sum())
    return right / asked


def _model(seed: int, settings: dict[str, Any]) -> Any:
    import torch

    from deepseek.models.deepseek_base import DeepSeekBaseConfig, DeepSeekBaseForCausalLM

    torch.manual_seed(seed)
    return DeepSeekBaseForCausalLM(DeepSeekBaseConfig(**{**settings["model"], "vocab_size": VOCABULARY}))


def _repeated(batch: int, tokens: int, draw: Any) -> tuple[Any, Any]:
    """Random words, twice; what is said again is scored."""
    import torch

    half = int(torch.randint(8, tokens // 2 + 1, (1,), generator=draw))
    ids = torch.randint(0, WORDS + KEYS + VALUES, (batch, half), generator=draw).repeat(1, 2)
    labels = torch.full_like(ids, -100)
    labels[:, half:-1] = ids[:, half + 1 :]
    return ids, labels


def _recall(batch: int, tokens: int, pairs: int, questions: int, draw: Any) -> tuple[Any, Any]:
    """Pairs among random words, then questions; the answers are scored."""
    import torch

    ids = torch.randint(0, WORDS, (batch, tokens), generator=draw)
    labels = torch.full_like(ids, -100)
    keys = WORDS + torch.rand(batch, KEYS, generator=draw).argsort(1)[:, :pairs]
    values = WORDS + KEYS + torch.randint(0, VALUES, (batch, pairs), generator=draw)
    places = (tokens - 4 * questions) // 4
    place = 4 * torch.rand(batch, places, generator=draw).argsort(1)[:, :pairs]
    row = torch.arange(batch)[:, None]
    for offset, said in ((0, MARK), (1, keys), (2, values)):
        ids[row, place + offset] = said
    which = torch.randint(0, pairs, (batch, questions), generator=draw)
    asked = (tokens - 4 * questions + 4 * torch.arange(questions)).expand(batch, -1)
    for offset, said in ((0, ASK), (1, keys.gather(1, which)), (2, values.gather(1, which))):
        ids[row, asked + offset] = said
    labels[row, asked + 1] = values.gather(1, which)
    return ids, labels


if __name__ == "__main__":
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    serve(train, ask)
