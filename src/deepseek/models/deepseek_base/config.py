"""Configuration of DeepSeek-Base."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig

from deepseek.errors import ConfigError
from deepseek.models.attention.blocks import BlockLayout


class DeepSeekBaseConfig(PreTrainedConfig):
    """Size, attention and heads of a DeepSeek-Base model; defaults are the size of BERT-base.

    Args:
        vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, hidden_act, layer_norm_eps,
            type_vocab_size, initializer_range, tie_word_embeddings: as in transformers' BERT.
        intermediate_size: of the gated feed-forward network (GEGLU), which has three matrices: 2/3 of a plain one's
            width for equal weights.
        gated_mlp: gate the feed-forward network (Shazeer 2020, arXiv:2002.05202).
        norm_placement: ``"pre"`` normalises what enters a layer, ``"post"`` what leaves it, as BERT does.
        hidden_dropout: of embeddings and of what layers add.
        head_dim: features of a value; default ``hidden_size / num_attention_heads``.
        rotary_dim: features of queries and keys that turn with the position, even.
        content_dim: their other features; default ``head_dim - rotary_dim``.
        rotary_shortest, rotary_longest: periods of the rotary features, in tokens.
        rotary_start: what positions add to logits, in half of the heads, at the distance that each looks at when
            training starts, some tokens before or after, and take from those of far blocks; from the ninth head on half
            of that, and so on. The other half begins to look everywhere; with 0 all do.
        causal: a decoder; set by the head for causal language modelling.
        attention_mode: ``"auto"`` (dense up to ``dense_until`` tokens, sparse beyond), ``"dense"`` or ``"sparse"``.
        dense_until: tokens.
        block_width, local_blocks, sink_blocks, gate_rate, gate_least, distance_buckets, gate_branching, gate_beam,
            gate_roots: see :class:`deepseek.models.attention.blocks.BlockLayout`.
        gate_loss_weight: of the loss that teaches the gate where attention goes
            (:mod:`deepseek.models.attention.alignment`), added to any head's loss in training; 0 leaves it out.
        gate_loss_queries: tokens of a text that it looks at.
        gate_multiplier: of the gate's own weights where they are used. An optimiser such as Adam moves all weights
            alike, and these begin at 0 and have further to go.
        classifier_pooling: ``"mean"`` of the tokens or the ``"first"``; causal models take the last token.
        max_position_embeddings: longest text that tokenizers should make, in tokens; the model knows no limit.

    Raises:
        ConfigError: sizes that do not fit together.
    """

    model_type = "deepseek-base"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    def __init__(
        self,
        vocab_size: int = 30_522,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 2_048,
        hidden_act: str = "gelu",
        gated_mlp: bool = True,
        norm_placement: str = "pre",
        hidden_dropout: float = 0.0,
        layer_norm_eps: float = 1e-6,
        head_dim: int | None = None,
        rotary_dim: int = 16,
        content_dim: int | None = None,
        rotary_shortest: float = 4.0,
        rotary_longest: float = 512.0,
        rotary_start: float = 8.0,
        causal: bool = False,
        attention_mode: str = "auto",
        dense_until: int = 1_024,
        block_width: int = 64,
        local_blocks: int = 1,
        sink_blocks: int = 1,
        gate_rate: float = 1.0,
        gate_least: int = 8,
        distance_buckets: int = 20,
        gate_branching: int = 4,
        gate_beam: int = 8,
        gate_roots: int | None = None,
        gate_loss_weight: float = 0.1,
        gate_loss_queries: int = 32,
        gate_multiplier: float = 5.0,
        type_vocab_size: int = 0,
        classifier_pooling: str = "mean",
        classifier_dropout: float = 0.0,
        initializer_range: float = 0.02,
        max_position_embeddings: int = 131_072,
        use_cache: bool = True,
        pad_token_id: int | None = 0,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.gated_mlp = gated_mlp
        self.norm_placement = norm_placement
        self.hidden_dropout = hidden_dropout
        self.layer_norm_eps = layer_norm_eps
        if head_dim is None and hidden_size % num_attention_heads:
            raise ConfigError(
                f"hidden_size {hidden_size} is no multiple of num_attention_heads {num_attention_heads}; give head_dim"
            )
        self.head_dim = hidden_size // num_attention_heads if head_dim is None else head_dim
        self.rotary_dim = rotary_dim
        self.content_dim = self.head_dim - rotary_dim if content_dim is None else content_dim
        self.rotary_shortest = rotary_shortest
        self.rotary_longest = rotary_longest
        self.rotary_start = rotary_start
        self.causal = causal
        self.attention_mode = attention_mode
        self.dense_until = dense_until
        self.block_width = block_width
        self.local_blocks = local_blocks
        self.sink_blocks = sink_blocks
        self.gate_rate = gate_rate
        self.gate_least = gate_least
        self.distance_buckets = distance_buckets
        self.gate_branching = gate_branching
        self.gate_beam = gate_beam
        self.gate_roots = gate_roots
        self.gate_loss_weight = gate_loss_weight
        self.gate_loss_queries = gate_loss_queries
        self.gate_multiplier = gate_multiplier
        self.type_vocab_size = type_vocab_size
        self.classifier_pooling = classifier_pooling
        self.classifier_dropout = classifier_dropout
        self.initializer_range = initializer_range
        self.max_position_embeddings = max_position_embeddings
        self.use_cache = use_cache
        self.pad_token_id = pad_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.tie_word_embeddings = tie_word_embeddings
        super().__init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Refuse what does not fit together.

        Raises:
            ConfigError: with the field, what was expected and what was received.
        """
        choices = {
            "norm_placement": ("pre", "post"),
            "attention_mode": ("auto", "dense", "sparse"),
            "classifier_pooling": ("mean", "first"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}: expected one of {', '.join(allowed)}, received {getattr(self, name)!r}")
        if self.rotary_dim % 2 or self.rotary_dim < 0:
            raise ConfigError(f"rotary_dim: expected an even number of features, received {self.rotary_dim}")
        if self.content_dim < 1:
            raise ConfigError(
                f"content_dim: expected at least 1 feature beside {self.rotary_dim} rotary ones, "
                f"received {self.content_dim}"
            )
        if not 0 < self.rotary_shortest <= self.rotary_longest:
            raise ConfigError(
                f"rotary periods: expected 0 < shortest <= longest, received {self.rotary_shortest} and "
                f"{self.rotary_longest}"
            )
        if self.rotary_start < 0:
            raise ConfigError(f"rotary_start: expected 0 or more, received {self.rotary_start}")
        self.layout()

    def layout(self) -> BlockLayout:
        """How attention is cut into blocks."""
        return BlockLayout(
            width=self.block_width,
            local=self.local_blocks,
            sinks=self.sink_blocks,
            rate=self.gate_rate,
            least=self.gate_least,
            buckets=self.distance_buckets,
            branching=self.gate_branching,
            beam=self.gate_beam,
            roots=self.gate_roots,
            causal=self.causal,
        )
