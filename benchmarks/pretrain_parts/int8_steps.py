"""int8 copies of classifiers in ONNX Runtime: whether they answer as before, and how fast."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.worker import Clock, serve

HEAD = "sequence-classification"


def accuracy(clock: Clock, *, folder: str, tuned: str, task: str, kind: str) -> dict[str, float]:
    """Right labels of a task's test texts, float32 and int8.

    Args:
        tuned: the fine-tuned model's folder in ``folder``.
    """
    from benchmarks.pretrain_parts.score import SETTINGS
    from benchmarks.pretrain_parts.score_steps import padded

    report = Path(folder) / f"int8-{tuned}.json"
    if report.is_file():
        return dict(json.loads(report.read_text(encoding="utf-8")))
    data = json.loads((Path(folder) / f"{task}.json").read_text(encoding="utf-8"))
    longest = SETTINGS["finetuning"]["longest"][kind]
    test = data["splits"]["test"]
    rows = sorted(
        ((ids[:longest], label) for ids, label in zip(test["ids"], test["labels"], strict=True)),
        key=lambda row: len(row[0]),
    )
    found = {}
    for precision in ("float32", "int8"):
        model = _opened(Path(folder) / tuned, precision)
        right = 0
        with clock:
            for start in range(0, len(rows), 16):
                ids, mask, labels = padded(rows[start : start + 16])
                logits = model.forward({"input_ids": ids, "attention_mask": mask})["logits"]
                right += int((logits.argmax(-1) == labels).sum())
        found[precision] = right / len(rows)
    report.write_text(json.dumps(found), encoding="utf-8")
    return found


def speed(clock: Clock, *, folder: str, kind: str, size: dict[str, Any], tokens: int, precision: str) -> float:
    """Time one text, some times; returns a number that depends on the output."""
    import torch

    model = _of_size(folder, kind, tuple(size.items()), precision)
    ids = torch.randint(1, size["vocab_size"], (1, tokens), generator=torch.Generator().manual_seed(tokens))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model.forward(batch)
    with clock:
        for _ in range(max(1, 512 // tokens)):
            logits = model.forward(batch)["logits"]
    return float(logits.abs().mean())


@cache
def _of_size(folder: str, kind: str, size: tuple[tuple[str, Any], ...], precision: str) -> Any:
    """A model of random weights, written once for both precisions."""
    import torch
    from transformers import AutoModelForSequenceClassification

    target = Path(folder) / f"{kind}-{dict(size)['hidden_size']}"
    if not (target / "model.safetensors").is_file():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(_config(kind, dict(size)))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.rpartition(".")[2] in ("relative_steps", "saliency", "sharpness", "gate_weight"):
                    weight.normal_(std=0.1)
        model.save_pretrained(target)
    return _opened(target, precision)


def _config(kind: str, size: dict[str, Any]) -> Any:
    if kind != "deberta-v2":
        from benchmarks.pretrain_parts.models import config_of

        return config_of(kind, size)
    from transformers import DebertaV2Config

    # microsoft/deberta-v3-base's, but for the vocabulary
    return DebertaV2Config(
        **size,
        intermediate_size=4 * size["hidden_size"],
        max_position_embeddings=512,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
    )


def _opened(folder: Path, precision: str) -> Any:
    """A checkpoint in ONNX Runtime; its int8 copy is made beside it, once."""
    import deepseek.models.deepseek_base  # noqa: F401  # transformers knows the architecture then
    from deepseek.inference.onnx.runtime import OnnxRuntime
    from deepseek.models import resolve

    runtime, checkpoint = OnnxRuntime(), resolve(folder)
    if precision == "float32":
        return runtime.load(checkpoint, HEAD)
    copy = folder / "onnx-int8"
    if not (copy / "model.onnx").is_file():
        copy.mkdir(exist_ok=True)
        runtime.quantize(checkpoint, HEAD, [], copy)
    return runtime.open_copy(copy)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(2)
    serve(accuracy, speed)
