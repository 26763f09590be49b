"""A decoder-only language model as an OpenVINO graph, built operation by operation from its weights.

Built rather than traced: it takes seconds, needs no example and no torch, leaves every weight a constant that can be
packed in 8 or 4 bits, and has the form of a stateful decoder that OpenVINO's paged-attention pass recognises. It covers
what the Llama, Mistral, Qwen2 and Qwen3 families share (and DeepSeek's dense models, which are Llamas): RMSNorm, rotary
positions, grouped-query attention, a gated feed-forward layer.

Shapes: B sequences, T new tokens, L tokens with the cache, H heads, K key-value heads, D a head's size, E hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deepseek.errors import ConfigError
from deepseek.inference.openvino.library import openvino

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""``model_type`` of configs that this file can build."""

QKV = "qkv_proj"
"""The matrices (or biases) of ``q_proj``, ``k_proj`` and ``v_proj``, one below the other."""

Weights = Callable[[str], Any]
"""A weight's name to the node that yields it in float32."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What of a transformers config the graph needs."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    epsilon: float
    activation: str
    tied: bool
    qk_norm: bool

    @classmethod
    def of(cls, config: Any) -> Shape:
        """Read a config.

        Raises:
            ConfigError: the model has a part that this file cannot build.
        """
        advice = "; the generation core 'torch' runs it"
        if config.model_type not in FAMILIES:
            raise ConfigError(
                f"no OpenVINO graph for models of type {config.model_type!r} (known: {', '.join(FAMILIES)}){advice}"
            )
        windowed = getattr(config, "use_sliding_window", config.model_type == "mistral")
        if windowed and getattr(config, "sliding_window", None):
            raise ConfigError(f"no OpenVINO graph for attention in windows of {config.sliding_window} tokens{advice}")
        if config.hidden_act not in ("silu", "gelu"):
            raise ConfigError(f"no OpenVINO graph for the activation {config.hidden_act!r}{advice}")
        return cls(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            epsilon=config.rms_norm_eps,
            activation=config.hidden_act,
            tied=bool(config.tie_word_embeddings),
            qk_norm=config.model_type == "qwen3",
        )


def build(shape: Shape, weight: Weights, has: Callable[[str], bool], rotary: Any, attention_scaling: float) -> Any:
    """The model: ``input_ids``, ``attention_mask``, ``position_ids`` (B, T), ``beam_idx`` (B) to ``logits``.

    Args:
        weight: yields a weight by its name in transformers' checkpoint, or with :data:`QKV` for a name of the three.
        has: whether there is such a weight.
        rotary: inverse frequencies of the rotary positions, float32 (D / 2).
        attention_scaling: what cosines and sines are multiplied by (1 unless a long-context method says otherwise).
    """
    return _Builder(shape, weight, has).model(rotary, attention_scaling)


class _Builder:
    def __init__(self, shape: Shape, weight: Weights, has: Callable[[str], bool]) -> None:
        import openvino.opset13 as ops

        self.ov, self.op, self.shape, self.weight, self.has = openvino(), ops, shape, weight, has
        self.sinks: list[Any] = []

    def model(self, rotary: Any, attention_scaling: float) -> Any:
        op, ov = self.op, self.ov
        inputs = {
            "input_ids": op.parameter([-1, -1], ov.Type.i64, name="input_ids"),
            "attention_mask": op.parameter([-1, -1], ov.Type.i64, name="attention_mask"),
            "position_ids": op.parameter([-1, -1], ov.Type.i64, name="position_ids"),
            "beam_idx": op.parameter([-1], ov.Type.i32, name="beam_idx"),
        }
        for name, node in inputs.items():
            node.output(0).get_tensor().set_names({name})
        self.beam, self.mask_input = inputs["beam_idx"], inputs["attention_mask"]
        self.batch = op.gather(op.shape_of(inputs["input_ids"], "i64"), self._ints([0]), self._int(0))
        embeddings = self.weight("model.embed_tokens.weight")
        hidden = op.gather(embeddings, op.convert(inputs["input_ids"], "i32"), self._int(0, "i32"))
        self._positions(inputs["position_ids"], rotary, attention_scaling)
        self.mask: Any = None
        for layer in range(self.shape.layers):
            prefix = f"model.layers.{layer}."
            normed = self._norm(hidden, prefix + "input_layernorm.weight")
            hidden = op.add(hidden, self._attention(normed, prefix + "self_attn.", layer))
            normed = self._norm(hidden, prefix + "post_attention_layernorm.weight")
            hidden = op.add(hidden, self._feed_forward(normed, prefix + "mlp."))
        hidden = self._norm(hidden, "model.norm.weight")
        head = embeddings if self.shape.tied else self.weight("lm_head.weight")
        logits = op.matmul(hidden, head, False, True, name="lm_head")
        result = op.result(logits, name="logits")
        logits.output(0).get_tensor().set_names({"logits"})
        return ov.Model([result], self.sinks, list(inputs.values()), "decoder")

    def _attention(self, x_BTE: Any, prefix: str, layer: int) -> Any:  # noqa: N803
        op, shape = self.op, self.shape
        sizes = [heads * shape.head_size for heads in (shape.heads, shape.kv_heads, shape.kv_heads)]
        # one product for the three: the small ones of keys and values leave processors idle
        parts = op.variadic_split(self._linear(x_BTE, prefix + QKV), self._int(-1), self._ints(sizes))
        q, k, v = parts.outputs()
        q = self._heads(q, shape.heads, prefix + "q_norm.weight")
        k = self._heads(k, shape.kv_heads, prefix + "k_norm.weight")
        v = self._heads(v, shape.kv_heads, "")
        q, k = self._rotated(q, shape.heads), self._rotated(k, shape.kv_heads)
        keys, past = self._cached(k, f"past_key_values.{layer}.key")
        values, _ = self._cached(v, f"past_key_values.{layer}.value")
        if self.mask is None:
            self.mask = self._causal_mask(x_BTE, past)
        mixed = op.scaled_dot_product_attention(q, self._repeated(keys), self._repeated(values), self.mask, None, False)
        merged = op.reshape(op.transpose(mixed, self._ints([0, 2, 1, 3])), self._ints([0, 0, -1]), True)
        return self._linear(merged, prefix + "o_proj")

    def _heads(self, x_BTE: Any, heads: int, norm: str) -> Any:  # noqa: N803
        op = self.op
        split = op.reshape(x_BTE, self._ints([0, 0, heads, self.shape.head_size]), True)
        if norm and self.shape.qk_norm:
            split = self._norm(split, norm)
        return op.transpose(split, self._ints([0, 2, 1, 3]))

    def _cached(self, fresh: Any, name: str) -> tuple[Any, Any]:
        """What the cache has and what is new, (B, K, L, D); and what the cache had."""
        op, ov, shape = self.op, self.ov, self.shape
        from openvino.op.util import Variable, VariableInfo

        info = VariableInfo()
        info.data_shape = ov.PartialShape([-1, shape.kv_heads, -1, shape.head_size])
        info.data_type = ov.Type.f32
        info.variable_id = f"{name}.present"
        variable = Variable(info)
        empty = op.concat([self.batch, self._ints([shape.kv_heads]), self._ints([0]), self._ints([shape.head_size])], 0)
        start = op.broadcast(self._float(0.0), empty)
        past = op.gather(_read_value(start, variable), self.beam, self._int(0))
        whole = op.concat([past, fresh], 2)
        self.sinks.append(_assign(whole, variable))
        return whole, past

    def _repeated(self, x_BKLD: Any) -> Any:  # noqa: N803
        """Each key-value head once for every head that asks it."""
        op, shape = self.op, self.shape
        times = shape.heads // shape.kv_heads
        if times == 1:
            return x_BKLD
        wide = op.unsqueeze(x_BKLD, self._int(2))
        target = op.concat([self.batch, self._ints([1]), self._ints([times]), self._ints([1]), self._ints([1])], 0)
        wide = op.broadcast(wide, target, broadcast_spec="BIDIRECTIONAL")
        return op.reshape(wide, self._ints([0, shape.heads, -1, shape.head_size]), True)

    def _causal_mask(self, x_BTE: Any, past: Any) -> Any:  # noqa: N803
        """(B, 1, T, L), true where a token may look; paged attention replaces it."""
        op = self.op
        new = op.gather(op.shape_of(x_BTE, "i64"), self._int(1), self._int(0))
        before = op.gather(op.shape_of(past, "i64"), self._int(2), self._int(0))
        total = op.gather(op.shape_of(self.mask_input, "i64"), self._int(1), self._int(0))
        columns = op.unsqueeze(op.range(self._int(0), total, self._int(1), "i64"), self._int(0))
        rows = op.unsqueeze(op.range(before, op.add(before, new), self._int(1), "i64"), self._int(1))
        causal = op.unsqueeze(op.less_equal(columns, rows), self._ints([0, 1]))
        real = op.unsqueeze(op.convert(self.mask_input, "boolean"), self._ints([1, 2]))
        return op.logical_and(causal, real)

    def _positions(self, positions_BT: Any, rotary: Any, scaling: float) -> None:  # noqa: N803
        op = self.op
        frequencies = op.constant(rotary.reshape(1, -1, 1))
        frequencies = op.broadcast(
            frequencies, op.concat([self.batch, self._ints([1]), self._ints([1])], 0), broadcast_spec="BIDIRECTIONAL"
        )
        positions = op.convert(op.unsqueeze(positions_BT, self._int(1)), "f32")
        angles = op.transpose(op.matmul(frequencies, positions, False, False), self._ints([0, 2, 1]))
        angles = op.concat([angles, angles], -1)
        cos, sin = op.cos(angles), op.sin(angles)
        if scaling != 1.0:
            cos, sin = op.multiply(cos, self._float(scaling)), op.multiply(sin, self._float(scaling))
        self.cos, self.sin = op.unsqueeze(cos, self._int(1)), op.unsqueeze(sin, self._int(1))

    def _rotated(self, x: Any, heads: int) -> Any:
        op, half = self.op, self.shape.head_size // 2
        axis, step = self._ints([3]), self._ints([1])
        second = op.slice(x, self._ints([half]), self._ints([2 * half]), step, axis)
        first = op.slice(x, self._ints([0]), self._ints([half]), step, axis)
        turned = op.concat([op.multiply(second, self._float(-1.0)), first], -1)
        return op.add(op.multiply(x, self.cos), op.multiply(turned, self.sin))

    def _feed_forward(self, x_BTE: Any, prefix: str) -> Any:  # noqa: N803
        op = self.op
        gate = self._linear(x_BTE, prefix + "gate_proj")
        gate = op.swish(gate) if self.shape.activation == "silu" else op.gelu(gate, "erf")
        return self._linear(op.multiply(gate, self._linear(x_BTE, prefix + "up_proj")), prefix + "down_proj")

    def _linear(self, x: Any, name: str) -> Any:
        op = self.op
        made = op.matmul(x, self.weight(name + ".weight"), False, True, name=name)
        return op.add(made, self.weight(name + ".bias")) if self.has(name + ".bias") else made

    def _norm(self, x: Any, name: str) -> Any:
        """RMSNorm (arXiv 1910.07467) in the form that OpenVINO fuses."""
        op = self.op
        mean = op.reduce_mean(op.power(x, self._float(2.0)), self._ints([-1]), True)
        root = op.sqrt(op.add(mean, self._float(self.shape.epsilon)))
        return op.multiply(op.multiply(op.divide(self._float(1.0), root), x), self.weight(name))

    def _int(self, value: int, kind: str = "i64") -> Any:
        import numpy as np

        return self.op.constant(np.array(value, np.int64 if kind == "i64" else np.int32))

    def _ints(self, values: list[int]) -> Any:
        import numpy as np

        return self.op.constant(np.array(values, np.int64))

    def _float(self, value: float) -> Any:
        import numpy as np

        return self.op.constant(np.array(value, np.float32))


def _read_value(start: Any, variable: Any) -> Any:
    from openvino import opset6

    return opset6.read_value(start, variable)


def _assign(value: Any, variable: Any) -> Any:
    from openvino import opset6

    return opset6.assign(value, variable)


def rotary_of(config: Any) -> tuple[Any, float]:
    """Inverse frequencies (D / 2) in float32, and the scaling of cosines and sines, as transformers has them.

    Raises:
        ConfigError: they change with the length of the text, which a graph cannot follow.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    kind = parameters.get("rope_type", "default")
    if kind in ("dynamic", "longrope"):
        raise ConfigError(
            f"no OpenVINO graph for rotary positions of type {kind!r}, which change with the length; the generation "
            "core 'torch' runs it"
        )
    if kind == "default":
        import numpy as np

        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
        return (1.0 / np.float32(parameters.get("rope_theta", 10_000.0)) ** exponents).astype(np.float32), 1.0
    frequencies, scaling = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    return frequencies.float().numpy(), float(scaling)
