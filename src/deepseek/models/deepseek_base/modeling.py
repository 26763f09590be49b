"""DeepSeek-Base: an encoder or decoder with dynamic positional encoding and the sparse activation gate.

Choices: normalisation before each layer (Xiong et al. 2020, arXiv:2002.04745), gated feed-forward networks, one matrix
for queries, keys and values, no positions in the embeddings. ``norm_placement="post"`` and ``gated_mlp=False`` give
BERT's layers.

Text of T tokens costs O(T log T) beyond ``dense_until`` tokens (see :mod:`deepseek.models.attention.gate` for the
parts) and O(T^2), with a small constant, below. Attention probabilities are not at hand; ``output_attentions`` makes
them beside, T x T numbers a head, by the formula. :mod:`deepseek.models.attention.diagnostics` says what the gate does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.import_utils import is_fake_tensor
from transformers.utils.output_capturing import capture_outputs

from deepseek.errors import ConfigError
from deepseek.models.attention.positions import Turns, rotary_tables
from deepseek.models.deepseek_base.attention_layer import AttentionInputs, GatedAttention
from deepseek.models.deepseek_base.cache import GatedCacheLayer, gated_cache
from deepseek.models.deepseek_base.config import DeepSeekBaseConfig
from deepseek.models.deepseek_base.layers import DeepSeekBaseLayer, Embeddings


def _only_behind(mask_BL: Tensor) -> bool:
    """Whether all padding stands behind the texts."""
    return not is_fake_tensor(mask_BL) and bool((mask_BL[:, 1:] <= mask_BL[:, :-1]).all())


def _starts(mask_BL: Tensor) -> tuple[int, ...] | None:
    """Each text's first token, if padding stands before one; that of a text without tokens is its length."""
    if is_fake_tensor(mask_BL) or bool(mask_BL[:, 0].all()):
        return None
    firsts = torch.where(mask_BL.any(-1), mask_BL.int().argmax(-1), mask_BL.shape[1])
    return tuple(firsts.tolist())


@dataclass
class DeepSeekBaseOutput(BaseModelOutputWithPast):
    """Hidden states, cache, and in training the mean loss of the layers' gates, if the text is long enough for one."""

    gate_loss: Tensor | None = None


class DeepSeekBasePreTrainedModel(PreTrainedModel):
    """What all DeepSeek-Base models share."""

    config: DeepSeekBaseConfig
    config_class = DeepSeekBaseConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["DeepSeekBaseLayer"]
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values"]
    _supports_sdpa = True
    _can_record_outputs: ClassVar[dict[str, Any]] = {"hidden_states": DeepSeekBaseLayer}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GatedAttention):
            for weight in (module.saliency, module.sharpness, module.gate_weight):
                init.zeros_(weight)
            bias, steps = module.first_positions(self.config)
            init.copy_(module.query_key_value.bias, bias)
            init.copy_(module.relative_steps, steps)
        if self.config.norm_placement == "pre" and getattr(module, "ends_a_branch", False):
            # what layers add grows with their number otherwise (GPT-2)
            init.normal_(
                module.weight, std=self.config.initializer_range / math.sqrt(2 * self.config.num_hidden_layers)
            )

    def with_gate_loss(self, loss: Tensor, outputs: DeepSeekBaseOutput) -> Tensor:
        """A head's loss with the gates' share."""
        if outputs.gate_loss is None:
            return loss
        return loss + self.config.gate_loss_weight * outputs.gate_loss


class DeepSeekBaseModel(DeepSeekBasePreTrainedModel):
    """The model without a head: hidden states of all tokens."""

    def __init__(self, config: DeepSeekBaseConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList([DeepSeekBaseLayer(config, i) for i in range(config.num_hidden_layers)])
        pre = config.norm_placement == "pre"
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if pre else nn.Identity()
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.tokens = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        gate_loss_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> DeepSeekBaseOutput:
        """Hidden states of (B, T) tokens.

        Args:
            attention_mask: (B, T), or (B, past + T) with a cache; 0 for padding. ``None``: no padding.
            past_key_values: a cache of the tokens before, for causal models.
            gate_loss_mask: (B, T), from which tokens the gates learn in training: those that have something to look
                for, as what follows them is scored. ``None``: all.
            output_attentions: also give each layer's shares of keys, (B, H, T, past + T), 0 where the gate looks away.

        Raises:
            ConfigError: both or neither of ``input_ids`` and ``inputs_embeds``, a mask of another shape, or a cache
                with a bidirectional model.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ConfigError("expected one of input_ids and inputs_embeds, received both or neither")
        x = self.embeddings(input_ids, token_type_ids, inputs_embeds)
        cache = self._cache(past_key_values, bool(use_cache))
        past = 0 if cache is None else cache.get_seq_length()
        wanted = kwargs.get("output_attentions")
        asked = self.config.output_attentions if wanted is None else wanted
        if gate_loss_mask is not None and gate_loss_mask.shape != x.shape[:2]:
            raise ConfigError(
                f"gate_loss_mask: expected shape {tuple(x.shape[:2])}, received {tuple(gate_loss_mask.shape)}"
            )
        inputs = self._inputs(x, attention_mask, past, shares=[] if asked else None, scored=gate_loss_mask)
        for index, layer in enumerate(self.layers):
            kept = None if cache is None else cache.layers[index]
            assert kept is None or isinstance(kept, GatedCacheLayer)
            x = layer(x, inputs, kept)
        losses = inputs.gate_losses
        return DeepSeekBaseOutput(
            last_hidden_state=self.final_norm(x),
            past_key_values=cache,
            attentions=None if inputs.shares is None else tuple(inputs.shares),
            gate_loss=torch.stack(losses).mean() if losses else None,
        )

    def _cache(self, given: Cache | None, wanted: bool) -> Cache | None:
        if not self.config.causal:
            if given is not None:
                raise ConfigError("a bidirectional model has no cache; set causal=True in its config for a decoder")
            return None
        training = self.gradient_checkpointing and self.training
        return gated_cache(given, len(self.layers)) if given is not None or (wanted and not training) else None

    def _inputs(
        self,
        x: Tensor,
        attention_mask: Tensor | None,
        past: int,
        *,
        shares: list[Tensor] | None = None,
        scored: Tensor | None = None,
    ) -> AttentionInputs:
        batch, tokens, _ = x.shape
        exporting = torch.compiler.is_exporting() or torch.jit.is_tracing()
        mask = attention_mask
        if mask is not None:
            if mask.dim() != 2 or (not exporting and tuple(mask.shape) != (batch, past + tokens)):
                raise ConfigError(
                    f"attention_mask: expected shape {(batch, past + tokens)}, received {tuple(mask.shape)}"
                )
            mask = mask.bool()
            if not exporting and not is_fake_tensor(mask) and bool(mask.all()):
                mask = None
        tables = self.rotary_tables(past, past + tokens, x)
        padded = mask is not None and not exporting and self.config.causal
        in_place = (
            not (torch.is_grad_enabled() or exporting or torch.compiler.is_compiling()) and x.device.type == "cpu"
        )
        return AttentionInputs(
            tables=tables,
            turns=Turns(tables) if in_place else None,
            mask_BL=mask,
            starts=_starts(mask) if padded else None,
            only_behind=padded and _only_behind(mask),
            dense_until=self._dense_until(past + tokens),
            exporting=exporting,
            shares=shares,
            gate_losses=[] if self.training and self.config.gate_loss_weight and torch.is_grad_enabled() else None,
            scored_BT=scored,
        )

    def rotary_tables(self, start: int, end: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary features at positions from ``start`` to before ``end``, in a tensor's precision
        and on its device."""
        config = self.config
        return rotary_tables(
            torch.arange(start, end, device=like.device), config.rotary_dim,
            shortest=config.rotary_shortest, longest=config.rotary_longest, dtype=like.dtype,
        )  # fmt: skip

    def _dense_until(self, tokens: int) -> int:
        mode, layout = self.config.attention_mode, self.config.layout()
        if mode != "auto":
            return tokens if mode == "dense" else 0
        if not self.config.causal and layout.complete(layout.blocks(tokens)):
            return tokens
        return self.config.dense_until // layout.width * layout.width
