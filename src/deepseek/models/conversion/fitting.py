"""Relative positions learned from absolute ones, by distillation (Hinton et al. 2015, arXiv:1503.02531) without labels.

Two stages. *Layer by layer*: the new rotary rows and distance steps of a layer are trained so that each token's
attention is the old model's (Kullback-Leibler divergence over keys, mean over heads), given what the layers below,
fitted already, give. *Jointly*: those weights of all layers, and biases, so that every layer's output has the old one's
direction, the last layer's most, and the mean over a text with it.

What the old model knows by a token's *absolute* place, other than the first, has no counterpart here: that part is not
learned, and shows in :mod:`.closeness`. Every matrix that was carried over keeps its bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from deepseek import progress
from deepseek.errors import ConfigError
from deepseek.models.attention.dense import far_term
from deepseek.models.conversion.mapping import rotary_rows
from deepseek.models.deepseek_base import DeepSeekBaseModel
from deepseek.models.deepseek_base.attention_layer import AttentionInputs, GatedAttention

LAST_LAYER = 3.0
"""Weight of the last layer's output among the layers'."""
BIAS_RATE = 0.3
"""Learning rate of biases, as a share of the positions'."""
WARM_UP = 5
PART = 4_096
"""Tokens that a layer gets at a time when nothing is learned."""


@dataclass(frozen=True, kw_only=True)
class FittingConfig:
    """How much is spent on fitting.

    Attributes:
        layer_steps: optimiser steps for each layer by itself.
        joint_steps: steps for all layers together; each costs a pass of the old model and a training step of the new.
        step_tokens: tokens of a step, of texts of one length.
        read_tokens: tokens that are read of the texts, to cut windows from.
        learning_rate: of Adam, for positions.
        biases: whether biases may move in the joint stage; long texts need it.

    Raises:
        ConfigError: a number is out of its range.
    """

    layer_steps: int = 40
    joint_steps: int = 150
    step_tokens: int = 1_024
    read_tokens: int = 250_000
    learning_rate: float = 3e-3
    biases: bool = True

    def windows(self, steps: int, lengths: int, length: int) -> int:
        """How many windows of a length so many steps look at, each about once, if there are so many lengths."""
        return max(1, steps * self.step_tokens // (lengths * length))

    def __post_init__(self) -> None:
        least = {"layer_steps": 0, "joint_steps": 0, "step_tokens": 1, "read_tokens": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} of fitting: expected {low} or more, received {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(
                f"learning_rate of fitting: expected more than 0, less than 1, received {self.learning_rate}"
            )


class PositionFitting:
    """The positions of a converted model, fitted to the model that it was made from; deterministic by seed."""

    def __init__(
        self,
        old: PreTrainedModel,
        new: DeepSeekBaseModel,
        windows: dict[int, Tensor],
        config: FittingConfig,
        *,
        seed: int,
    ) -> None:
        """Prepare.

        Args:
            old: the backbone to learn from; left as it is.
            new: its weights in DeepSeek-Base, positions folded, rotary keys at 0; changed in place.
            windows: token numbers (W, T) by their length T.
        """
        self.old, self.new, self.windows, self.config = old, new, windows, config
        self.random = torch.Generator().manual_seed(seed)

    def run(self) -> None:
        """Fit; both models are in evaluation mode afterwards."""
        config = self.config
        lengths = sorted(self.windows)
        with _frozen(self.old), _frozen(self.new), _dense(self.new):
            if config.layer_steps:
                steps = config.layer_steps * len(self.new.layers)
                with progress.bar("fit positions, layer by layer", steps, "steps") as bar:
                    self._each_layer(lengths, bar)
            if config.joint_steps:
                with progress.bar("fit positions, jointly", config.joint_steps, "steps") as bar:
                    self._jointly(lengths, bar)

    def _each_layer(self, lengths: list[int], bar: progress.Bar) -> None:
        with torch.no_grad():
            count = {n: self.config.windows(self.config.layer_steps, len(lengths), n) for n in lengths}
            some = {n: self.windows[n][: count[n]] for n in lengths}  # their states are kept, so no more than needed
            old = {n: _batched(self.old.get_submodule("embeddings"), some[n]) for n in lengths}
            new = {n: _batched(lambda x: self.new.embeddings(x, None, None), some[n]) for n in lengths}
        inputs = {n: self._inputs(n) for n in lengths}
        for layer in self.new.layers:
            with torch.no_grad():  # with rotary keys of 0 it is the old layer still
                after = {n: self._through(layer, old[n], inputs[n]) for n in lengths}
            attention = layer.attention
            with self._trained(attention) as weights:
                optimiser = torch.optim.Adam(weights, lr=self.config.learning_rate, betas=(0.9, 0.98))
                for step in range(self.config.layer_steps):
                    length = lengths[step % len(lengths)]
                    drawn = self._drawn(len(old[length]), length)
                    with torch.no_grad():
                        wanted = content_logits(attention, old[length][drawn]).log_softmax(-1)
                    found = attention_logits(attention, new[length][drawn], inputs[length].tables).log_softmax(-1)
                    loss = (wanted.exp() * (wanted - found)).sum(-1).mean()
                    _take_step(optimiser, loss, self._rate(step, self.config.layer_steps))
                    bar.advance(note=f"divergence {loss.item():.2f}")
            with torch.no_grad():
                new = {n: self._through(layer, new[n], inputs[n]) for n in lengths}
            old = after

    def _jointly(self, lengths: list[int], bar: progress.Bar) -> None:
        biases = movable_biases(self.new) if self.config.biases else []
        with ExitStack() as stack:
            trained = [stack.enter_context(self._trained(layer.attention)) for layer in self.new.layers]
            positions = [weight for weights in trained for weight in weights]
            for bias in biases:
                bias.requires_grad_(True)
            rate = self.config.learning_rate
            groups = [{"params": positions, "lr": rate}, {"params": biases, "lr": BIAS_RATE * rate}]
            optimiser = torch.optim.Adam([g for g in groups if g["params"]], betas=(0.9, 0.98))
            for step in range(self.config.joint_steps):
                length = lengths[step % len(lengths)]
                ids = self.windows[length][self._drawn(len(self.windows[length]), length)]
                with torch.no_grad():
                    wanted = self.old(ids, output_hidden_states=True).hidden_states[1:]
                found = self.new(ids, output_hidden_states=True).hidden_states[1:]
                loss = distance(found, wanted)
                _take_step(optimiser, loss, self._rate(step, self.config.joint_steps))
                bar.advance(note=f"loss {loss.item():.3f}")

    @contextmanager
    def _trained(self, attention: GatedAttention) -> Iterator[list[nn.Parameter]]:
        """A layer's position weights; of the fused projection gradients reach the rotary rows only."""
        projection = attention.query_key_value
        rows = rotary_rows(attention).to(projection.weight)
        weights = [projection.weight, projection.bias, attention.relative_steps]
        for weight in weights:
            weight.requires_grad_(True)
        hooks = [
            projection.weight.register_hook(lambda gradient: gradient * rows[:, None]),
            projection.bias.register_hook(lambda gradient: gradient * rows),
        ]
        try:
            yield weights
        finally:
            for hook in hooks:
                hook.remove()
            for weight in weights:
                weight.requires_grad_(False)
                weight.grad = None

    def _through(self, layer: nn.Module, hidden_WTM: Tensor, inputs: AttentionInputs) -> Tensor:
        return _batched(lambda x: layer(x, inputs), hidden_WTM)

    def _drawn(self, windows: int, length: int) -> Tensor:
        return torch.randperm(windows, generator=self.random)[: max(1, self.config.step_tokens // length)]

    def _rate(self, step: int, steps: int) -> float:
        """Share of the learning rate: up at once, down by a cosine."""
        return min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))

    def _inputs(self, length: int) -> AttentionInputs:
        tables = self.new.rotary_tables(0, length, self.new.embeddings.tokens.weight)
        return AttentionInputs(tables=tables, mask_BL=None, dense_until=length, exporting=False)


def content_logits(attention: GatedAttention, hidden_BTM: Tensor) -> Tensor:
    """The logits (B, H, T, T) of the rows that were carried over: the old model's, given its hidden states."""
    mixed = attention.query_key_value(hidden_BTM).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    content, key = attention.content_dim, attention.key_dim
    q, k = mixed[..., :content], mixed[..., key : key + content]
    return attention.scale * (q @ k.transpose(-1, -2))


def attention_logits(attention: GatedAttention, hidden_BTM: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """The logits (B, H, T, T) with relative positions, all blocks attended to, the gate's own term left out."""
    q, k, _ = attention.project(hidden_BTM, tables)
    layout, tokens = attention.layout, hidden_BTM.shape[1]
    logits = q @ k.transpose(-1, -2)
    blocks = layout.blocks(tokens)
    if not layout.neighbourly(blocks):
        block_T = torch.arange(tokens, device=q.device) // layout.width
        nothing = q.new_zeros(1, q.shape[1], blocks, attention.content_dim)
        logits = logits + far_term(q, nothing, attention.relative(q.dtype), layout, block_T)[..., block_T]
    return attention.scale * logits


def movable_biases(model: DeepSeekBaseModel) -> list[nn.Parameter]:
    """Biases that the joint stage may move: of what layers add and of normalisations."""
    found = [model.embeddings.norm.bias]
    for layer in model.layers:
        found += [layer.attention.output.bias, layer.attention_norm.bias, layer.mlp.down_proj.bias, layer.mlp_norm.bias]
    return found


def distance(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> Tensor:
    """How far hidden states (B, T, M) of the layers point elsewhere, and the texts' means with them: 1 - cosine."""
    cosine = functional.cosine_similarity
    layers = torch.stack([(1 - cosine(a, b, dim=-1)).mean() for a, b in zip(found, wanted, strict=True)])
    weights = torch.ones_like(layers)
    weights[-1] = LAST_LAYER
    text = (1 - cosine(found[-1].mean(1), wanted[-1].mean(1), dim=-1)).mean()
    return (weights * layers).sum() / weights.sum() + text


def _take_step(optimiser: torch.optim.Optimizer, loss: Tensor, share: float) -> None:
    for group in optimiser.param_groups:
        group.setdefault("full_rate", group["lr"])
        group["lr"] = share * group["full_rate"]
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _batched(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of windows (W, T, ...), some at a time."""
    return torch.cat([function(part) for part in x.split(max(1, PART // x.shape[1]))])


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, gradients where asked for; afterwards every parameter is as it was, without a gradient."""
    before = [(weight, weight.requires_grad) for weight in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for weight, needed in before:
            weight.requires_grad_(needed)
            weight.grad = None


@contextmanager
def _dense(model: DeepSeekBaseModel) -> Iterator[None]:
    """Attention to all blocks, whatever the config says of when the gate begins to choose."""
    mode = model.config.attention_mode
    model.config.attention_mode = "dense"
    try:
        yield
    finally:
        model.config.attention_mode = mode
