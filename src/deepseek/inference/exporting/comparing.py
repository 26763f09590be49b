"""The exported model and PyTorch in float32 on the same batches: how far apart, and how fast each."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from deepseek.inference.choice.contest import relative_error
from deepseek.inference.exporting.report import Comparison
from deepseek.inference.recording import Batch, Recorder

if TYPE_CHECKING:
    import torch

    from deepseek.inference.exporting.format import Source
    from deepseek.tasks.base import Executable

TEXTS = (
    "Good.",
    "The delivery arrived two days late, and nobody answered the phone.",
    "这家餐厅的服务很好，但是价格有点高。",
    "In 2019 the company reported revenue of $4.2 million, up 17% from the year before; its chief executive said that "
    "most of the growth came from customers in Asia and that the margin would not change much.",
    "She opened the letter slowly, read it twice, and put it back into the drawer without a word. Outside, the rain "
    "had stopped. A bus went by, then another, and the street was quiet again. Nothing in the room had changed since "
    "the morning, except that the clock on the shelf, which had been wrong for years, was now right.",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "¿Dónde está la biblioteca? Tout près d'ici, à gauche.",
    "An instant classic.",
)
"""Sentences, paragraphs, code; several scripts; from one to about eighty tokens."""
SHAPES = ((0, 1), (4, 5), (0, 4), (0, 8))
"""Which of the texts (or pictures) make a batch: a short one, a long one, and some with gaps behind the short ones."""
SIDE = 96
"""Pixels of a picture's side; an image processor brings it to the model's size."""
ROUNDS = 7
SECONDS = 5.0
"""No further round of a batch is begun after that, but one is: large models on few cores take long."""


def compared(exported: Executable, reference: Executable, source: Source) -> tuple[Comparison, ...]:
    """Both models on the same batches, in turn."""
    found = []
    for name, batch in batches(source, reference).items():
        expected, given = reference.forward(batch), exported.forward(batch)
        times: dict[int, list[float]] = {0: [], 1: []}
        started = monotonic()
        for done in range(ROUNDS):
            if done and monotonic() - started > SECONDS:
                break
            for number, model in enumerate((reference, exported)):
                begun = perf_counter()
                model.forward(batch)
                times[number].append(perf_counter() - begun)
        expected = {each: expected[each] for each in given}
        found.append(
            Comparison(
                batch=name,
                error=relative_error(given, expected, batch),
                agreement=agreement(given, expected, batch),
                reference_seconds=statistics.median(times[0]),
                seconds=statistics.median(times[1]),
            )
        )
    return tuple(found)


def agreement(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], batch: Batch) -> float | None:
    """Share of the answers whose highest logit is the same one; ``None`` where there are no logits of classes."""
    value, other = expected.get("logits"), found.get("logits")
    if value is None or other is None or value.shape[-1] < 2:
        return None
    same = value.argmax(-1) == other.argmax(-1)
    mask = batch.get("attention_mask")
    if mask is not None and same.shape == mask.shape:
        same = same[mask.bool()]
    return float(same.float().mean())


def batches(source: Source, model: Executable) -> dict[str, Batch]:
    """Batches of several shapes, by their shape, as the task gives them to its model.

    Args:
        model: answers while the batches are made.
    """
    made: dict[str, Batch] = {}
    for start, stop in SHAPES:
        if source.head == "causal-lm":
            batch: Batch = _padded(
                [source.processor(text)["input_ids"] for text in TEXTS[start:stop]], source.processor
            )
        else:
            recorder = Recorder(model)
            features = source.task.prepare([_row(source, number) for number in range(start, stop)], source.processor)
            source.task.run(recorder, features, source.processor, {})
            batch = recorder.batches[0]
        first = next(iter(batch.values()))
        name = f"{len(first)} x {first.shape[1]}" if "input_ids" in batch else f"{len(first)} rows"
        made.setdefault(name, batch)
    return made


def _row(source: Source, number: int) -> dict[str, Any]:
    """A row with the task's inputs."""
    row: dict[str, Any] = {}
    for place, field in enumerate(source.task.signature.inputs):
        text = TEXTS[(number + place) % len(TEXTS)]
        if field.dtype == "bytes":
            row[field.name] = _picture(number)
        elif source.head == "masked-lm":  # a task that fills masks refuses a text without one
            row[field.name] = f"{source.processor.mask_token} {text}"
        else:
            row[field.name] = text
    return row


def _picture(number: int) -> bytes:
    """A PNG of smooth waves in three colours, another one for each number."""
    import numpy as np
    from PIL import Image

    across, down = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    waves = [np.sin((2 + number + colour) * 3 * across + (1 + number * colour) * 2 * down) for colour in range(3)]
    pixels = (127.5 * (1 + np.stack(waves, axis=-1))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _padded(sequences: Sequence[Sequence[int]], tokenizer: Any) -> Batch:
    """Token ids padded on the right, which the mask leaves out."""
    import torch

    length = max(map(len, sequences))
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)
    ids = torch.full((len(sequences), length), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, sequence in enumerate(sequences):
        ids[number, : len(sequence)] = torch.tensor(list(sequence))
        mask[number, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask}
