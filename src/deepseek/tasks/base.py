"""The contract of a task: how rows become tensors, how a model's outputs become rows, and how answers are scored.

Data flows one way: rows -> ``prepare`` -> ``collate`` -> ``run`` (the model) -> ``decode`` -> rows; in training
rows -> ``encode`` -> ``collate_training`` -> ``loss``, and ``score`` measures. A task knows nothing of files, servers
or training loops; those know tasks. Everything that a task learned from data (its labels) is
in its fields, so that a task is written to and read from a bundle as JSON.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict

from deepseek.errors import DataError
from deepseek.tasks.signature import Signature

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Row = Mapping[str, Any]
LABELS = "labels"
"""The key of a training feature's answer, as transformers' models name it."""
CHARS_PER_TOKEN = 32
"""No tokenizer merges more characters into one token on average; what lies further beyond a cut cannot matter."""


@dataclass(frozen=True)
class Generated:
    """Token ids that a model produced for one prompt, and why it stopped (``"stop"`` or ``"length"``)."""

    token_ids: list[int]
    finish_reason: str


class Executable(Protocol):
    """A loaded model as a runtime offers it."""

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass: named input tensors to named output tensors (float32, on the CPU)."""
        ...

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        """Continue each prompt of the batch; ``options`` are transformers' generation options."""
        ...


class Task(BaseModel):
    """What a model is for. Subclasses are pydantic models: their fields are the task's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    head: ClassVar[str]
    """The head that the model needs, a name of :data:`deepseek.models.loading.HEADS`."""
    processor: ClassVar[Literal["tokenizer", "image-processor"]] = "tokenizer"
    """What turns raw values into tensors, as transformers names it; :func:`deepseek.models.processor_for` loads it."""
    main_metric: ClassVar[str] = "accuracy"
    """The metric that picks the best checkpoint, stops early and is searched over, unless a recipe names another."""
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"loss", "perplexity", "mae", "rmse"})
    """Metrics of which less is better."""
    float_labels: ClassVar[bool] = False
    """Whether training labels are numbers (or lists of them) rather than ids."""

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """Inputs and outputs of one row."""

    @abstractmethod
    def prepare(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Rows to features (unpadded lists of ids).

        Raises:
            DataError: a row lacks an input or has a value of another type; the message has the row's number.
        """

    @abstractmethod
    def collate(
        self, features: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, torch.Tensor]:
        """Features to a padded batch of tensors, (batch, longest)."""

    @abstractmethod
    def decode(self, outputs: Any, count: int) -> list[dict[str, Any]]:
        """A model's outputs for ``count`` rows to answers, one dict a row, as the signature says."""

    def run(
        self,
        model: Executable,
        features: Sequence[Mapping[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        parameters: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """One batch through the model: collate, forward, decode."""
        return self.decode(model.forward(self.collate(features, tokenizer)), len(features))

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Refuse parameters that the signature does not name.

        Raises:
            DataError: an unknown parameter; the message has the known ones.
        """
        known = [p.name for p in self.signature.parameters]
        for name in parameters:
            if name not in known:
                raise DataError(
                    f"{self.name} takes no parameter {name!r}; expected one of: {', '.join(known) or 'none'}"
                )

    def fitted(self, rows: Sequence[Row]) -> Self:
        """The task with everything filled in that it learns from training rows (labels, say)."""
        return self

    def model_options(self) -> dict[str, Any]:
        """Overrides of the transformers config (``num_labels``, ``id2label``, ...)."""
        return {}

    def references(self, rows: Sequence[Row]) -> list[Any]:
        """The true answers of rows that have them, as :meth:`metrics` takes them."""
        raise DataError(f"{self.name} has no reference answers to score against")

    @property
    def answer_column(self) -> str | None:
        """The column with the answers that training and scoring need; ``None`` where the inputs are all there is."""
        return getattr(self, "label", None)

    @property
    def class_column(self) -> str | None:
        """The column whose values are classes, one a row, so that a split can keep their shares; ``None`` if none."""
        return self.answer_column

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The columns that training rows have their inputs in; what repeats in all of them is a duplicate."""
        return self.text_columns

    @property
    def corpus_columns(self) -> tuple[str, ...]:
        """The columns whose text a tokenizer of this task's own is trained on, as far as a table has them."""
        return self.input_columns

    def length(self, feature: Mapping[str, Any]) -> int:
        """Tokens of one feature: what batches are sorted by and what its cost grows with."""
        return len(feature["input_ids"]) if "input_ids" in feature else 1

    @property
    def cacheable(self) -> bool:
        """Whether a training feature is one row of the model's batch, the same in every epoch.

        Only then may the states of frozen layers be computed once. False for random masks, augmentation, and several
        texts a row.
        """
        return True

    def check_model(self, model: Any) -> None:
        """Refuse a loaded model that cannot do what the task asks of it, before training starts.

        Raises:
            ConfigError: what the model cannot do, and what to set instead.
        """

    def extra_files(self, config: Any) -> dict[str, str]:
        """Text files, by path inside a bundle, that other tools expect beside the model; ``config`` is the model's."""
        return {}

    def training_labels(self, rows: Sequence[Row]) -> list[Any]:
        """What the loss compares with, one value a row (an id, a number or a list of numbers)."""
        raise DataError(f"{self.name} cannot be trained")

    def encode(self, rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
        """Training rows to training features: :meth:`prepare` with ``labels``.

        A feature is numbers, strings or lists of numbers of any depth, so that it can be stored in an Arrow file. A
        task that packs or splits may return more or fewer features than rows.

        Raises:
            DataError: a row lacks an input or its answer; the message has the row's number.
        """
        labels = self.training_labels(rows)
        features = self.prepare(rows, tokenizer)
        return [{**f, LABELS: label} for f, label in zip(features, labels, strict=True)]

    def collate_training(self, features: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
        """Training features to one padded batch with ``labels``, as :meth:`loss` takes it."""
        import torch

        batch = self.collate([{k: v for k, v in f.items() if k != LABELS} for f in features], tokenizer)
        kind = torch.float32 if self.float_labels else None
        return {**batch, LABELS: torch.tensor([f[LABELS] for f in features], dtype=kind)}

    def loss(
        self,
        model: Any,
        batch: Mapping[str, torch.Tensor],
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[torch.Tensor, Any]:
        """One training forward pass: ``(mean loss of the batch, the model's outputs)``.

        Args:
            model: the transformers model, or a wrapper of it (DDP, FSDP) that is called the same way.
            class_weights: one weight a class, shape (classes,), for tasks that have classes.
            label_smoothing: share of the target spread over all classes, for tasks that have classes.

        Raises:
            DataError: the task has no classes to weigh or to smooth.
        """
        self.refuse_class_options(class_weights, label_smoothing)
        outputs = model(**batch)
        return outputs.loss, outputs

    def refuse_class_options(self, class_weights: torch.Tensor | None, label_smoothing: float) -> None:
        """Raise :class:`DataError` if a task without classes is given weights for them, or smoothing over them."""
        if class_weights is not None or label_smoothing:
            raise DataError(f"{self.name} has no classes; leave out class_weights and label_smoothing")

    def class_counts(self, features: Sequence[Mapping[str, Any]]) -> list[int]:
        """How often each class occurs in training features, in id order; balanced class weights come from it.

        Raises:
            DataError: the task has no classes.
        """
        raise DataError(f"{self.name} has no classes to balance")

    def score(
        self, model: Executable, rows: Sequence[Row], tokenizer: Any, *, batch_size: int = 32
    ) -> dict[str, float]:
        """Answer rows and measure: each metric ``m`` with the bounds ``m_low`` and ``m_high`` of its 95% interval.

        Raises:
            DataError: there are no rows, or a row lacks an input or its answer.
        """
        references = self.references(rows)
        features = self.prepare(rows, tokenizer)
        order = sorted(range(len(features)), key=lambda i: self.length(features[i]), reverse=True)
        answers: list[dict[str, Any]] = [{}] * len(features)
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            for i, answer in zip(chunk, self.run(model, [features[i] for i in chunk], tokenizer, {}), strict=True):
                answers[i] = answer
        return self.metrics(answers, references)

    def metrics(self, answers: Sequence[Row], references: Sequence[Any]) -> dict[str, float]:
        """Scores of answers against references, higher is better unless the name says otherwise."""
        raise DataError(f"{self.name} has no metrics")

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns that hold the input text (cleaning looks at the first)."""
        return tuple(f.name for f in self.signature.inputs if f.dtype == "string")


class TextTask(Task):
    """A task over one text: checks, tokenises and pads it."""

    text: str = "text"
    max_length: int = 256

    def texts(self, rows: Sequence[Row], column: str | None = None) -> list[str]:
        """The text of each row, checked."""
        return [self.text_at(number, row, column) for number, row in enumerate(rows)]

    def text_at(self, number: int, row: Row, column: str | None = None) -> str:
        """The text of row ``number``, checked."""
        name = column or self.text
        value = row.get(name)
        if not isinstance(value, str):
            came = f"the columns {', '.join(map(str, row)) or 'none'}" if name not in row else type(value).__name__
            raise DataError(f"row {number}: expected a string in {name!r}, received {came}")
        if not value.strip():
            raise DataError(f"row {number}: {name!r} is empty; expected some text")
        return value

    def prepare(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        # A tokenizer is linear in the text but not free: so a megabyte of text costs what a page does.
        texts = [t[: self.max_length * CHARS_PER_TOKEN] for t in self.texts(rows)]
        encoded = tokenizer(texts, truncation=True, max_length=self.max_length, add_special_tokens=True)
        return [{key: encoded[key][i] for key in encoded} for i in range(len(texts))]

    def collate(
        self, features: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, torch.Tensor]:
        names = set(tokenizer.model_input_names)
        kept = [{k: v for k, v in f.items() if k in names} for f in features]
        return dict(tokenizer.pad(kept, padding=True, return_tensors="pt"))
