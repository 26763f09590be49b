"""Continue a prompt, or answer a chat.

Lengths have transformers' meaning: ``max_length`` counts the prompt and the new tokens together, ``max_new_tokens`` the
new ones alone; give one of them. The answer is the new text; ``return_full_text`` puts the prompt in front.

Training rows have a prompt and a completion (the loss is on the completion and the end-of-text token), chat messages
(on every assistant turn and the token that ends it), or a text (on all of it, which longer ones are split for).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field as ConfigField

from deepseek.errors import DataError
from deepseek.tasks.base import LABELS, Executable, Generated, Row, TextTask
from deepseek.tasks.language_modelling import packing, scores
from deepseek.tasks.language_modelling.chat import check_messages, prompt_of_chat
from deepseek.tasks.language_modelling.examples import Columns, Example
from deepseek.tasks.language_modelling.packing import Packing
from deepseek.tasks.signature import Field, Signature

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

DEFAULT_MAX_NEW_TOKENS = 128

PARAMETERS = (
    Field(name="max_length", dtype="int64", description="prompt and new tokens together", optional=True),
    Field(name="max_new_tokens", dtype="int64", description="new tokens alone (default 128)", optional=True),
    Field(name="do_sample", dtype="bool", description="sample instead of greedy decoding", optional=True),
    Field(name="temperature", dtype="float64", description="softmax temperature; setting it samples", optional=True),
    Field(name="top_k", dtype="int64", description="sample from the k most probable tokens", optional=True),
    Field(name="top_p", dtype="float64", description="sample from the smallest set of this probability", optional=True),
    Field(name="repetition_penalty", dtype="float64", description="1.0 is none", optional=True),
    Field(name="seed", dtype="int64", description="makes sampling repeatable", optional=True),
    Field(name="return_full_text", dtype="bool", description="put the prompt in front of the answer", optional=True),
)

_BOUNDS: dict[str, tuple[float, float]] = {
    "max_length": (1, 1 << 20),
    "max_new_tokens": (1, 1 << 20),
    "temperature": (0, 100),
    "top_k": (1, 1 << 20),
    "top_p": (0, 1),
    "repetition_penalty": (0.01, 100),
    "seed": (0, (1 << 63) - 1),
}


class Decoding(NamedTuple):
    """What the parameters of a call ask for."""

    options: dict[str, Any]
    """transformers' generation options, without lengths."""
    max_length: int | None
    max_new_tokens: int
    full_text: bool

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Decoding:
        """From parameters that were checked; a sampling option samples, a temperature of 0 does not."""
        options = dict(parameters)
        full_text = options.pop("return_full_text", False)
        limit = options.pop("max_length", None)
        new_tokens = options.pop("max_new_tokens", DEFAULT_MAX_NEW_TOKENS)
        if options.get("temperature") == 0:
            options.update(temperature=1.0, do_sample=False)
        elif {"temperature", "top_k", "top_p"} & set(options):
            options.setdefault("do_sample", True)
        return cls(options, limit, new_tokens, full_text)

    def budget(self, prompt_tokens: int, context: int) -> int:
        """How many tokens a prompt's answer may have in a context of ``context`` tokens.

        Raises:
            DataError: ``max_length`` leaves none.
        """
        if self.max_length is None:
            return min(self.max_new_tokens, context - prompt_tokens)
        if prompt_tokens >= self.max_length:
            raise DataError(
                f"the prompt has {prompt_tokens} tokens, which leaves nothing to generate within "
                f"max_length={self.max_length}; raise max_length, or give max_new_tokens"
            )
        return min(self.max_length, context) - prompt_tokens


class TextGeneration(TextTask):
    """Causal language modelling: a prompt, or a list of chat messages, in; text out."""

    name: ClassVar[str] = "text-generation"
    head: ClassVar[str] = "causal-lm"
    main_metric: ClassVar[str] = "perplexity"

    text: str = ConfigField("prompt", description="Column with the prompt, a text or chat messages.")
    completion: str = ConfigField("completion", description="Column with the answer to a prompt, for training.")
    messages: str = ConfigField("messages", description="Column with a whole chat, for training.")
    document: str = ConfigField("text", description="Column with a text of which every token is learned.")
    training_length: int = ConfigField(
        1024,
        ge=8,
        le=1 << 20,
        description="Tokens of a training sequence, at most max_length: answers beyond it are cut, texts are split.",
    )
    packing: Packing = ConfigField(
        False,
        description="Fill training sequences with several examples, which do not see each other; joined: which do.",
    )
    max_length: int = ConfigField(
        8192, ge=4, le=1 << 20, description="Context length: prompt and new tokens never exceed it."
    )

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=(Field(name=self.text, dtype="string", description="the text to continue"),),
            outputs=(
                Field(name="text", dtype="string", description="the generated text"),
                Field(name="prompt_tokens", dtype="int64", description="tokens of the prompt"),
                Field(name="completion_tokens", dtype="int64", description="tokens generated"),
                Field(name="finish_reason", dtype="string", description="'stop' or 'length'"),
            ),
            parameters=PARAMETERS,
        )

    @property
    def corpus_columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.text, self.completion, self.messages, self.document)))

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Names, types and ranges.

        Raises:
            DataError: what is wrong with which parameter.
        """
        super().check_parameters(parameters)
        kinds = {p.name: p.dtype for p in PARAMETERS}
        for name, value in parameters.items():
            if kinds[name] == "bool":
                if not isinstance(value, bool):
                    raise DataError(f"expected true or false for {name!r}, received {value!r}")
                continue
            whole = kinds[name] == "int64"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise DataError(
                    f"expected {'a whole number' if whole else 'a number'} for {name!r}, received {value!r}"
                )
            low, high = _BOUNDS[name]
            if not low <= value <= high:
                raise DataError(f"expected {name!r} between {low:g} and {high:g}, received {value!r}")
        if "max_length" in parameters and "max_new_tokens" in parameters:
            raise DataError("give 'max_length' (prompt and new tokens) or 'max_new_tokens' (new tokens), not both")

    def prepare(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        features = []
        for number, row in enumerate(rows):
            prompt = row.get(self.text)
            if isinstance(prompt, list):
                ids = self._chat(number, prompt, tokenizer)
            else:
                ids = list(tokenizer(self.text_at(number, row))["input_ids"])
            if len(ids) >= self.max_length:
                raise DataError(f"row {number}: the prompt has {len(ids)} tokens; the context has {self.max_length}")
            features.append({"input_ids": ids})
        return features

    @staticmethod
    def _chat(number: int, messages: list[Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        if not tokenizer.chat_template:
            raise DataError(f"row {number}: received chat messages, but this model's tokenizer has no chat template")
        return prompt_of_chat(number, check_messages(number, messages), tokenizer)

    def collate(
        self, features: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, torch.Tensor]:
        # generation continues at the right end, so the padding goes to the left
        import torch

        longest = max(len(f["input_ids"]) for f in features)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)
        ids = torch.full((len(features), longest), pad, dtype=torch.long)
        mask = torch.zeros((len(features), longest), dtype=torch.long)
        for i, feature in enumerate(features):
            own = feature["input_ids"]
            ids[i, longest - len(own) :] = torch.tensor(own)
            mask[i, longest - len(own) :] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def run(
        self,
        model: Executable,
        features: Sequence[Mapping[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        parameters: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        call = Decoding.of(parameters)
        # a batch of unequal prompts has one budget each: generate to the largest, then cut
        budgets = [call.budget(len(f["input_ids"]), self.max_length) for f in features]
        generated = model.generate(self.collate(features, tokenizer), {**call.options, "max_new_tokens": max(budgets)})
        answers = []
        for feature, budget, result in zip(features, budgets, generated, strict=True):
            cut = result if len(result.token_ids) <= budget else Generated(result.token_ids[:budget], "length")
            text = tokenizer.decode(cut.token_ids, skip_special_tokens=True)
            if call.full_text:
                text = tokenizer.decode(feature["input_ids"], skip_special_tokens=True) + text
            answers.append(
                {
                    "text": text,
                    "prompt_tokens": len(feature["input_ids"]),
                    "completion_tokens": len(cut.token_ids),
                    "finish_reason": cut.finish_reason,
                }
            )
        return answers

    def decode(self, outputs: Any, count: int) -> list[dict[str, Any]]:
        raise NotImplementedError("text generation decodes in run()")

    def examples(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[list[Example]]:
        """Each row's training examples: ``input_ids``, and ``labels`` that are -100 where nothing is learned."""
        columns = Columns(prompt=self.text, completion=self.completion, messages=self.messages, document=self.document)
        length = min(self.training_length, self.max_length)
        return [columns.examples(number, row, tokenizer, length) for number, row in enumerate(rows)]

    def encode(self, rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
        features: list[dict[str, Any]] = [f for row in self.examples(rows, tokenizer) for f in row]
        return packing.pack(features, min(self.training_length, self.max_length), packing=self.packing)

    def collate_training(self, features: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
        # the model reads from the left here, so the padding goes to the right
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)
        return packing.pad_right(features, {"input_ids": pad, LABELS: packing.IGNORED}, tokenizer=tokenizer)

    def check_model(self, model: Any) -> None:
        if self.packing is True:
            packing.check_isolation(model, causal=True)

    def loss(
        self,
        model: Any,
        batch: Mapping[str, torch.Tensor],
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[torch.Tensor, Any]:
        """Mean negative log-likelihood of the labelled tokens, and the model's outputs."""
        self.refuse_class_options(class_weights, label_smoothing)
        if packing.POSITIONS in batch:
            self.check_model(model)
            inputs = packing.packed_inputs(model, batch["input_ids"], batch[packing.POSITIONS], causal=True)
            outputs = model(**inputs, labels=batch[LABELS])
        else:
            outputs = model(**batch, use_cache=False)
        return outputs.loss, outputs

    def score(
        self, model: Executable, rows: Sequence[Row], tokenizer: Any, *, batch_size: int = 32
    ) -> dict[str, float]:
        """``perplexity`` of what training would learn from the rows, with its 95% interval over rows."""
        examples = [(i, f) for i, row in enumerate(self.examples(rows, tokenizer)) for f in row]
        losses, counts = [0.0] * len(rows), [0] * len(rows)
        lengths = [len(f["input_ids"]) for _, f in examples]
        for chunk in scores.batches(lengths, len(tokenizer), batch_size):
            batch = self.collate_training([examples[i][1] for i in chunk], tokenizer)
            labels = batch.pop(LABELS)[:, 1:]
            found = scores.token_losses(model.forward(batch)["logits"][:, :-1], labels).sum(1).tolist()
            for i, loss, count in zip(chunk, found, (labels != packing.IGNORED).sum(1).tolist(), strict=True):
                losses[examples[i][0]] += loss
                counts[examples[i][0]] += count
        return scores.perplexity(losses, counts)
