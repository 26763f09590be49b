"""What is to be measured, and the inputs that it is measured with."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.choice.batches import made_up
from deepseek.inference.profiling.outcome import Breakdown, Kind
from deepseek.inference.recording import Batch
from deepseek.tasks.base import Task

if TYPE_CHECKING:
    import torch

    from deepseek.inference.hardware.devices import Clock
    from deepseek.inference.profiling.work import Sizes

Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """The shapes that passes have.

    Attributes:
        batch, length: rows of a forward pass, one pass for each number, and tokens of each row.
        prefill: tokens of the prompt that is read.
        context, streams: tokens that are in the cache before the first decoding step, and sequences that are continued
            at once, one phase for each number.
    """

    batch: tuple[int, ...] = (1, 32)
    length: int = 128
    prefill: int = 512
    context: int = 128
    streams: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        for name in ("batch", "streams"):
            numbers = getattr(self, name)
            if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
                given = ", ".join(map(str, numbers)) or "none"
                raise ConfigError(f"expected different numbers of at least 1 as {name!r}, received {given}")
        for name in ("length", "prefill", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"expected {name!r} of at least 1, received {getattr(self, name)}")

    def fit(self, generates: bool, limit: int | None, steps: int) -> None:
        """Refuse more tokens than a model has positions for; ``steps``: that a decode may take."""
        names = {"prefill": self.prefill, "context": self.context + steps} if generates else {"length": self.length}
        for name, tokens in names.items():
            if limit is not None and tokens > limit:
                room = limit - steps if name == "context" else limit
                raise ConfigError(f"the model has positions for {limit} tokens; expected a {name!r} of at most {room}")


@dataclass(frozen=True)
class Pass:
    """One kind of pass before it is measured.

    Attributes:
        tokens: of each row; of a decode: in the cache before the first step, each step of which adds one.
        prepare: makes what the pass needs and returns what runs it once.
        batch: of a forward pass: its inputs.
    """

    kind: Kind
    rows: int
    tokens: int
    new_tokens: float
    prepare: Callable[[], Run]
    batch: Batch | None = None


class Subject(ABC):
    """A loaded model as a profile sees it.

    Attributes:
        device: as the runtime names it.
        dtype: the precision that it computes in.
        sizes: bytes of its numbers; ``None`` where the runtime does not say, so that there is no limit to tell.
        clock: waits for the device.
        note: what cannot be said of it, and why.
    """

    device: str
    dtype: str
    sizes: Sizes | None
    clock: Clock
    note: str = ""

    @abstractmethod
    def passes(self, shapes: Shapes) -> list[Pass]:
        """What is measured."""

    def peaks_device(self) -> str | None:
        """The device whose peaks bound it, as PyTorch names it; ``None``: it cannot be measured."""
        return None

    def peak_precision(self) -> str:
        """The precision whose peak bounds it, by its name in ``HardwarePeaks.products``."""
        return self.dtype

    def breakdowns(self, runs: Mapping[str, Run], trace: Path | None) -> dict[str, Breakdown]:
        """Where the time of each run goes; none where the runtime does not tell."""
        return {}


def token_ids(processor: Any, rows: int, tokens: int) -> torch.Tensor:
    """Random tokens of the vocabulary that are not special, (rows, tokens)."""
    import torch

    drawn = random.Random(0)  # noqa: S311 - no secret
    special = set(processor.all_special_ids)
    plain = [i for i in range(len(processor)) if i not in special]
    return torch.tensor([[drawn.choice(plain) for _ in range(tokens)] for _ in range(rows)])


def batch_of(task: Task, processor: Any, rows: int, tokens: int) -> dict[str, torch.Tensor]:
    """A batch as the task's own, of random tokens without padding, or of pictures of noise."""
    import torch

    if task.processor != "tokenizer":
        return task.collate(task.prepare([made_up(task, processor, 0)] * rows, processor), processor)
    ids = token_ids(processor, rows, tokens)
    known = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    return {name: known[name] for name in processor.model_input_names if name in known}


def forward_passes(
    task: Task, processor: Any, shapes: Shapes, prepare: Callable[[Batch], Callable[[], Run]]
) -> list[Pass]:
    """One pass for each number of rows; ``prepare`` says how a batch is run."""
    found = []
    for rows in shapes.batch:
        batch = batch_of(task, processor, rows, shapes.length)
        tokens = shapes.length if "input_ids" in batch else 0
        found.append(Pass("forward", rows, tokens, rows * tokens, prepare(batch), batch))
    return found


def generation_passes(
    shapes: Shapes, prefill: Callable[[int, int], Run], decode: Callable[[int, int], Run]
) -> list[Pass]:
    """Reading one prompt, and decoding each number of streams; both are called with (rows, tokens)."""
    reading = Pass("prefill", 1, shapes.prefill, shapes.prefill, partial(prefill, 1, shapes.prefill))
    return [
        reading,
        *(Pass("decode", n, shapes.context, n, partial(decode, n, shapes.context)) for n in shapes.streams),
    ]


def numbers(text: str, name: str) -> tuple[int, ...]:
    """``"1,8,32"`` as numbers.

    Raises:
        ConfigError: it is something else.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"expected whole numbers as {name}, such as 1,8,32; received {text!r}") from error


def kinds_of_modules(model: Any) -> dict[str, str]:
    """Each module's path to its kind: its class; a layer with a matrix: its parent's class and its name there."""
    modules = dict(model.named_modules())
    kinds = {}
    for path, module in modules.items():
        parent, _, name = path.rpartition(".")
        weight = getattr(module, "weight", None)
        matrix = path and not any(True for _ in module.children()) and getattr(weight, "ndim", 0) > 1
        kinds[path] = f"{type(modules[parent]).__name__}.{name}" if matrix else type(module).__name__
    return kinds


def listed(values: Sequence[int] | int) -> tuple[int, ...]:
    """One number or several as several."""
    return (values,) if isinstance(values, int) else tuple(values)
