"""Fill masked tokens in: what encoders are pre-trained on (Devlin et al. 2018, arXiv:1810.04805).

Longer texts are split, so that all of a corpus is used. Masks are drawn when a batch is collated, from torch's
generator, so that they are new in every epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field as ConfigField

from deepseek.errors import ConfigError, DataError
from deepseek.tasks.base import LABELS, Executable, Row, TextTask
from deepseek.tasks.language_modelling import packing, scores
from deepseek.tasks.language_modelling.masking import mask_tokens
from deepseek.tasks.language_modelling.packing import Packing
from deepseek.tasks.signature import Field, Signature

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

UNITS = "units"
DEFAULT_TOP_K = 5


class MaskedLanguageModelling(TextTask):
    """Masked language modelling: a text with mask tokens in, the most probable tokens out.

    Outputs per row: ``tokens`` and ``scores`` (their probabilities), both of shape (masks, top_k), and
    ``filled``, the text with the best token in each mask's place.
    """

    name: ClassVar[str] = "masked-language-modelling"
    head: ClassVar[str] = "masked-lm"
    main_metric: ClassVar[str] = "perplexity"

    text: str = ConfigField("text", description="Column with the text.")
    max_length: int = ConfigField(256, ge=8, le=1 << 20, description="Tokens of a sequence; longer texts are split.")
    mask_probability: float = ConfigField(0.15, gt=0, lt=1, description="Share of the tokens to predict.")
    whole_words: bool = ConfigField(
        False, description="Mask all pieces of a word together; words are those of the tokenizer's pre-tokenizer."
    )
    packing: Packing = ConfigField(
        True,
        description="Fill training sequences with several texts, which do not see each other; joined: which do.",
    )

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=(Field(name=self.text, dtype="string", description="a text with mask tokens, such as [MASK]"),),
            outputs=(
                Field(name="tokens", dtype="string", shape=(-1, -1), description="most probable tokens, each mask's"),
                Field(name="scores", dtype="float32", shape=(-1, -1), description="their probabilities"),
                Field(name="filled", dtype="string", description="the text with the best tokens in it"),
            ),
            parameters=(Field(name="top_k", dtype="int64", description="tokens a mask (default 5)", optional=True),),
        )

    @property
    def cacheable(self) -> bool:
        return False

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        super().check_parameters(parameters)
        value = parameters.get("top_k", DEFAULT_TOP_K)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
            raise DataError(f"expected a whole number from 1 to 1000 for 'top_k', received {value!r}")

    def prepare(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        mask = _mask_of(tokenizer)
        features = super().prepare(rows, tokenizer)
        for number, (row, feature) in enumerate(zip(rows, features, strict=True)):
            wanted, found = str(row[self.text]).count(str(tokenizer.mask_token)), feature["input_ids"].count(mask)
            if not wanted:
                raise DataError(
                    f"row {number}: {self.text!r} has no {tokenizer.mask_token}, so there is nothing to fill in: "
                    f"{row[self.text]!r:.80}"
                )
            if found < wanted:
                raise DataError(
                    f"row {number}: only {found} of {wanted} {tokenizer.mask_token} lie within {self.max_length} tokens"
                )
        return features

    def run(
        self,
        model: Executable,
        features: Sequence[Mapping[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        parameters: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        batch = self.collate(features, tokenizer)
        logits = model.forward(batch)["logits"]
        top_k = min(int(parameters.get("top_k", DEFAULT_TOP_K)), logits.shape[-1])
        answers = []
        for ids, row in zip(batch["input_ids"], logits, strict=True):
            at = (ids == _mask_of(tokenizer)).nonzero()[:, 0]
            best = row[at].softmax(-1).topk(top_k)
            filled = ids.clone()
            filled[at] = best.indices[:, 0]
            tokens = [[tokenizer.decode([i]).strip() for i in mask] for mask in best.indices.tolist()]
            text = tokenizer.decode(filled, skip_special_tokens=True)
            answers.append({"tokens": tokens, "scores": best.values.tolist(), "filled": text})
        return answers

    def decode(self, outputs: Any, count: int) -> list[dict[str, Any]]:
        raise NotImplementedError("masked language modelling decodes in run()")

    def sequences(self, rows: Sequence[Row], tokenizer: Any) -> list[list[dict[str, list[int]]]]:
        """Each row's sequences: ``input_ids``, and ``units``, which number what may be masked (-1 may not)."""
        _mask_of(tokenizer)
        if not tokenizer.is_fast:
            raise ConfigError(f"{type(tokenizer).__name__} cannot split texts; use a tokenizer with a tokenizer.json")
        found = []
        for number, text in enumerate(self.texts(rows)):
            encoded = tokenizer(
                text,
                truncation=True,
                max_length=self.max_length,
                return_overflowing_tokens=True,
                return_special_tokens_mask=True,
            )
            windows = []
            for i, ids in enumerate(encoded["input_ids"]):
                units = self._units(encoded.word_ids(i), encoded["special_tokens_mask"][i])
                if max(units) >= 0:
                    windows.append({"input_ids": list(ids), UNITS: units})
            if not windows:
                raise DataError(f"row {number}: the tokenizer finds nothing in {text!r:.80}")
            found.append(windows)
        return found

    def _units(self, words: Sequence[int | None], special: Sequence[int]) -> list[int]:
        units, last, count = [], None, -1
        for word, is_special in zip(words, special, strict=True):
            if is_special or word is None:
                units.append(-1)
                last = None
                continue
            count += not (self.whole_words and word == last)
            last = word
            units.append(count)
        return units

    def encode(self, rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
        features: list[dict[str, Any]] = [f for row in self.sequences(rows, tokenizer) for f in row]
        return packing.pack(features, self.max_length, packing=self.packing, numbered=(UNITS,))

    def collate_training(self, features: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
        """Features to a masked batch; ``labels`` are -100 where nothing was masked."""
        return self._masked(features, tokenizer, None)

    def _masked(
        self, features: Sequence[Mapping[str, Any]], tokenizer: Any, generator: torch.Generator | None
    ) -> dict[str, torch.Tensor]:
        batch = packing.pad_right(features, {"input_ids": tokenizer.pad_token_id or 0, UNITS: -1}, tokenizer=tokenizer)
        batch["input_ids"], batch[LABELS] = mask_tokens(
            batch["input_ids"],
            batch.pop(UNITS),
            _mask_of(tokenizer),
            vocabulary=len(tokenizer),
            probability=self.mask_probability,
            generator=generator,
        )
        return batch

    def check_model(self, model: Any) -> None:
        if self.packing is True:
            packing.check_isolation(model, causal=False)

    def loss(
        self,
        model: Any,
        batch: Mapping[str, torch.Tensor],
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[torch.Tensor, Any]:
        """Mean negative log-likelihood of the masked tokens, and the model's outputs."""
        self.refuse_class_options(class_weights, label_smoothing)
        inputs = dict(batch)
        if packing.POSITIONS in batch:
            self.check_model(model)
            inputs = packing.packed_inputs(model, batch["input_ids"], batch[packing.POSITIONS], causal=False)
            inputs[LABELS] = batch[LABELS]
        outputs = model(**inputs)
        return outputs.loss, outputs

    def score(
        self, model: Executable, rows: Sequence[Row], tokenizer: Any, *, batch_size: int = 32
    ) -> dict[str, float]:
        """``perplexity`` and ``accuracy`` of masked tokens, with 95% intervals over rows.

        A sequence's mask depends on its place among the rows alone, so scores of two models on the same rows compare.
        """
        import torch

        sequences = [(i, f) for i, row in enumerate(self.sequences(rows, tokenizer)) for f in row]
        losses, hits, counts = [0.0] * len(rows), [0] * len(rows), [0] * len(rows)
        lengths = [len(f["input_ids"]) for _, f in sequences]
        for chunk in scores.batches(lengths, len(tokenizer), batch_size):
            masked = []
            for i in chunk:
                one = self._masked([sequences[i][1]], tokenizer, torch.Generator().manual_seed(i))
                masked.append({name: one[name][0].tolist() for name in ("input_ids", LABELS)})
            batch = packing.pad_right(masked, {"input_ids": tokenizer.pad_token_id or 0, LABELS: packing.IGNORED})
            labels = batch.pop(LABELS)
            logits = model.forward(batch)["logits"]
            right = ((logits.argmax(-1) == labels).sum(1)).tolist()
            lost = scores.token_losses(logits, labels).sum(1).tolist()
            for i, loss, hit, count in zip(
                chunk, lost, right, (labels != packing.IGNORED).sum(1).tolist(), strict=True
            ):
                row = sequences[i][0]
                losses[row] += loss
                hits[row] += hit
                counts[row] += count
        return {**scores.perplexity(losses, counts), **scores.token_accuracy(hits, counts)}


def _mask_of(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.mask_token_id is None:
        raise ConfigError("the tokenizer has no mask token, which masked language modelling needs")
    return int(tokenizer.mask_token_id)
