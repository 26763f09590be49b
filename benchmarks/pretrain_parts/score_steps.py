"""Pre-trains a BERT and a DeepSeek-Base on the same tokens in the same order, and fine-tunes them on four tasks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.optimising import adamw, keep_weights, kept, load_weights, take_step
from benchmarks.worker import Clock, serve

PAD = 0
BETAS = (0.9, 0.98)
ROOMS = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1_024)
"""Tokens that texts are filled up to."""


def prepare(clock: Clock, *, folder: str, settings: dict[str, Any]) -> dict[str, int]:
    """Train one tokenizer for both models, and write all texts as numbers."""
    return kept(Path(folder) / "prepared.json", lambda: _prepare(clock, Path(folder), settings))


def _prepare(clock: Clock, folder: Path, settings: dict[str, Any]) -> dict[str, int]:
    import numpy as np

    from benchmarks.pretrain_parts.corpora import TASKS, pretraining_texts, task_splits
    from deepseek.models import train_tokenizer

    most = settings["most"]
    with clock:
        texts = list(pretraining_texts(most=most))
        # byte pairs: with as many Chinese characters as the reviews have, WordPiece would have no room for words
        tokenizer = train_tokenizer(texts, kind="bpe", vocab_size=settings["vocabulary"], lowercase=True)
        tokenizer.save_pretrained(folder / "tokenizer")
        ids = [number for text in texts for number in tokenizer(text, verbose=False)["input_ids"]]
        np.save(folder / "corpus.npy", np.array(ids, dtype=np.uint16))
        for task in TASKS:
            splits, labels = task_splits(task, most=most)
            numbers = {
                name: {"ids": tokenizer(split.texts, verbose=False)["input_ids"], "labels": split.labels}
                for name, split in splits.items()
            }
            (folder / f"{task}.json").write_text(json.dumps({"labels": labels, "splits": numbers}), encoding="utf-8")
    return {"tokens": len(ids), "vocabulary": len(tokenizer)}


def pretrain(clock: Clock, *, kind: str, seed: int, rate: float, folder: str, settings: dict[str, Any]) -> Any:
    """Masked language modelling; what was trained before is taken as it is.

    Returns:
        ``loss`` on tokens that are kept apart, ``seconds``, ``parameters``.
    """
    target = Path(folder) / f"{kind}-{seed}-{rate}.safetensors"
    return kept(target.with_suffix(".json"), lambda: _pretrain(clock, kind, seed, rate, target, settings))


def _pretrain(clock: Clock, kind: str, seed: int, rate: float, target: Path, settings: dict[str, Any]) -> Any:
    import numpy as np
    import torch
    from torch.nn import functional

    folder = str(target.parent)
    model, logits_of = _masked_lm(kind, seed, folder, settings)
    special = _special(folder)
    tokens = torch.from_numpy(np.load(target.with_name("corpus.npy")).astype("int64"))
    length, batch, steps = settings["tokens"], settings["batch"], settings["steps"]
    held, tokens = tokens[: 64 * length], tokens[64 * length :]
    draw = torch.Generator().manual_seed(1_000 + seed)  # the same texts and masks in the same order for both
    optimizer = adamw(model, rate, decay=0.05, betas=BETAS)
    model.train()
    with clock:
        for step in range(steps):
            starts = torch.randint(0, len(tokens) - length, (batch,), generator=draw)
            ids = torch.stack([tokens[start : start + length] for start in starts.tolist()])
            shown, scored = _masked(ids, special, settings["masked"], draw)
            with torch.autocast("cpu", torch.bfloat16):
                logits, outputs = logits_of(shown, scored)
                loss = functional.cross_entropy(logits.float(), ids[scored])
                if outputs is not None:
                    loss = model.with_gate_loss(loss, outputs)
            take_step(model, optimizer, loss, rate=_rate(rate, step, steps))
            if step % 100 == 0:
                print(kind, seed, rate, step, round(float(loss.detach()), 3), flush=True)
    model.eval()
    draw = torch.Generator().manual_seed(7)
    losses = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for ids in held.view(-1, length).split(batch):
            shown, scored = _masked(ids, special, settings["masked"], draw)
            losses.append(float(functional.cross_entropy(logits_of(shown, scored)[0].float(), ids[scored])))
    keep_weights(model.base_model.state_dict(), target)
    return {
        "loss": sum(losses) / len(losses),
        "seconds": clock.seconds,
        "parameters": sum(w.numel() for w in model.parameters()),
    }


def finetune(
    clock: Clock,
    *,
    kind: str,
    seed: int,
    weights: str,
    task: str,
    rate: float,
    pooling: str,
    folder: str,
    settings: dict[str, Any],
) -> Any:
    """Train a classifier on a pre-trained model and read all of its validation and test texts.

    Args:
        weights: the file of the pre-trained model, in the folder.

    Returns:
        ``validation``, the share of right labels; ``test``, for each text whether its label was right; ``seconds``.
    """
    import torch

    report = Path(folder) / f"{Path(weights).stem}-{task}-{rate}-{pooling}.json"

    def tune() -> dict[str, Any]:
        data = json.loads((Path(folder) / f"{task}.json").read_text(encoding="utf-8"))
        options = settings["finetuning"]
        model = _classifier(kind, seed, data["labels"], weights, pooling, folder, settings)
        longest = options["longest"][kind]
        splits = {
            name: list(zip([ids[:longest] for ids in split["ids"]], split["labels"], strict=True))
            for name, split in data["splits"].items()
        }
        draw = torch.Generator().manual_seed(seed)
        epochs = [_batches(splits["train"], options["batch_tokens"], draw) for _ in range(options["epochs"][task])]
        batches = [batch for epoch in epochs for batch in epoch]
        optimizer = adamw(model, rate, decay=0.01, betas=BETAS)
        model.train()
        with clock:
            for step, batch in enumerate(batches):
                ids, mask, labels = padded(batch)
                with torch.autocast("cpu", torch.bfloat16):
                    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
                take_step(model, optimizer, loss, rate=_rate(rate, step, len(batches)))
        made = {
            "validation": sum(_right(model, splits["validation"])) / len(splits["validation"]),
            "test": _right(model, splits["test"]),
            "seconds": clock.seconds,
        }
        if seed == 0:
            model.save_pretrained(Path(folder) / f"tuned-{report.stem}")
        return made

    return kept(report, tune)


def long_texts(clock: Clock, *, folder: str, tuned: str, task: str, longer_than: int) -> Any:
    """Right labels of a task's long test texts, sparse and dense with the same weights, whole."""
    import torch

    data = json.loads((Path(folder) / f"{task}.json").read_text(encoding="utf-8"))
    test = data["splits"]["test"]
    some = [(ids, label) for ids, label in zip(test["ids"], test["labels"], strict=True) if len(ids) > longer_than]
    from deepseek.models.deepseek_base import DeepSeekBaseForSequenceClassification

    model = DeepSeekBaseForSequenceClassification.from_pretrained(Path(folder) / tuned).eval()
    found = {"texts": len(some)}
    for mode in ("dense", "sparse"):
        model.config.attention_mode = mode
        with torch.inference_mode(), clock:
            right = [int(model(torch.tensor([ids])).logits.argmax(-1)) == label for ids, label in some]
        found[mode] = sum(right) / max(1, len(right))
    return found


def _masked_lm(kind: str, seed: int, folder: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    import torch

    from benchmarks.pretrain_parts.models import config_of, masked_lm

    torch.manual_seed(seed)
    return masked_lm(kind, config_of(kind, _size(folder, settings)))


def _classifier(
    kind: str, seed: int, labels: int, weights: str, pooling: str, folder: str, settings: dict[str, Any]
) -> Any:
    import torch

    from benchmarks.pretrain_parts.models import classifier, config_of

    torch.manual_seed(seed)
    dropout = settings["finetuning"]["dropout"]
    own = {"hidden_dropout_prob": dropout} if kind == "bert" else {"hidden_dropout": dropout}
    config = config_of(kind, _size(folder, settings), num_labels=labels)
    for name, value in {**own, "classifier_dropout": dropout}.items():
        setattr(config, name, value)
    model = classifier(kind, config, pooling)
    load_weights(
        model.base_model, Path(folder) / weights, without=frozenset({"pooler.dense.weight", "pooler.dense.bias"})
    )
    return model


def _size(folder: str, settings: dict[str, Any]) -> dict[str, Any]:
    made = json.loads((Path(folder) / "prepared.json").read_text(encoding="utf-8"))
    return {**settings["size"], "vocab_size": made["vocabulary"], "pad_token_id": PAD}


def _special(folder: str) -> dict[str, Any]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(folder) / "tokenizer")
    assert tokenizer.pad_token_id == PAD
    return {"mask": tokenizer.mask_token_id, "all": tokenizer.all_special_ids, "size": len(tokenizer)}


def _masked(ids: Any, special: dict[str, Any], share: float, draw: Any) -> tuple[Any, Any]:
    """What the model is shown and what is scored: 80% of the chosen are masked, 10% changed, 10% left (BERT's way)."""
    import torch

    allowed = ~torch.isin(ids, torch.tensor(special["all"]))
    scored = (torch.rand(ids.shape, generator=draw) < share) & allowed
    dice = torch.rand(ids.shape, generator=draw)
    other = torch.randint(0, special["size"], ids.shape, generator=draw)
    shown = torch.where(scored & (dice < 0.8), special["mask"], ids)
    return torch.where(scored & (dice >= 0.9), other, shown), scored


def _rate(rate: float, step: int, steps: int) -> float:
    """Up in the first tenth, down to zero in a straight line, as BERT was trained."""
    warm = max(1, steps // 10)
    return rate * min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _batches(rows: list[Any], tokens: int, draw: Any) -> list[list[Any]]:
    """Rows of like length together, about so many tokens a batch, in any order.

    Of few shapes, because oneDNN compiles a kernel for each: with batches of any shape that was most of the time.
    """
    import torch

    like: dict[int, list[Any]] = {}
    for i in torch.randperm(len(rows), generator=draw).tolist():
        like.setdefault(_room(len(rows[i][0])), []).append(rows[i])
    batches = [
        some[start : start + tokens // room]
        for room, some in like.items()
        for start in range(0, len(some), tokens // room)
    ]
    mixed = torch.randperm(len(batches), generator=draw).tolist()
    return [batches[i] for i in mixed]


def _room(length: int) -> int:
    """The tokens of the batch that a text of so many is in."""
    return next(room for room in ROOMS if length <= room)


def padded(batch: list[Any]) -> tuple[Any, Any, Any]:
    """Numbers, mask and labels of rows, filled up to their batch's length."""
    import torch

    room = _room(max(len(ids) for ids, _ in batch))
    ids = torch.tensor([each + [PAD] * (room - len(each)) for each, _ in batch])
    mask = torch.tensor([[1] * len(each) + [0] * (room - len(each)) for each, _ in batch])
    return ids, mask, torch.tensor([label for _, label in batch])


def _right(model: Any, rows: list[Any]) -> list[bool]:
    """For each row, in order, whether its label is the model's first."""
    import torch

    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    right = [False] * len(rows)
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            part = order[start : start + 32]
            ids, mask, labels = padded([rows[i] for i in part])
            same = model(input_ids=ids, attention_mask=mask).logits.argmax(-1) == labels
            for i, good in zip(part, same.tolist(), strict=True):
                right[i] = good
    return right


if __name__ == "__main__":
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    serve(prepare, pretrain, finetune, long_texts)
