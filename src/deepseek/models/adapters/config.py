"""The configuration of a LoRA adapter (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from peft import LoraConfig


class LoRAConfig(BaseModel):
    """Which layers get a low-rank update, and of what rank.

    An adapted layer computes ``W x + (alpha / r) B A x`` with ``A`` of shape (r, in) and ``B`` of shape (out, r).

    ``target_modules`` takes layer names of the model at hand, or one of the names that mean the same on every
    architecture: ``query_key_value``, ``query``, ``key``, ``value``, ``attention_output``, ``mlp``, ``all-linear``
    (:func:`deepseek.models.resolve_targets`). The keys of ``rank_pattern`` and ``alpha_pattern`` take the same names.

    Raises:
        pydantic.ValidationError: (a ``ValueError``) a field is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    r: int = Field(16, ge=1, le=4096, description="Rank of the update.")
    alpha: float = Field(32, gt=0, description="Scale: the update is multiplied by alpha / r.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout on the adapter's input. Costs time and memory; often not needed."
    )
    target_modules: list[str] = Field(
        default_factory=lambda: ["query_key_value"],
        min_length=1,
        description="Layers to adapt: the model's own layer names, or names that mean the same on every architecture: "
        "query_key_value, query, key, value, attention_output, mlp, all-linear.",
    )
    target_parameters: list[str] | None = Field(
        None,
        description="Weights to adapt that are not layers, by the ends of their names: the fused experts of a mixture "
        "(mlp.experts.gate_up_proj). Takes no dropout and no dora.",
    )
    layers: list[int] | None = Field(
        None,
        min_length=1,
        description="Adapt only these layers (indices from 0, negative ones count from the last); null adapts all. "
        "Upper layers alone train faster.",
    )
    modules_to_save: list[str] | None = Field(
        None,
        description="Modules trained in full and stored with the adapter. null: those that the checkpoint did not "
        "bring, such as a fresh classification head.",
    )
    bias: Literal["none", "all", "lora_only"] = Field(
        "none",
        description="Biases of the model that train too: none, all, or those of adapted layers. With another value "
        "than none the model takes one adapter only.",
    )
    rslora: bool = Field(False, description="Scale by alpha / sqrt(r) instead (rsLoRA, arXiv:2312.03732).")
    dora: bool = Field(False, description="Decompose into magnitude and direction (DoRA, arXiv:2402.09353).")
    rank_pattern: dict[str, int] = Field(
        default_factory=dict, description="Rank of layers that have another one: name or regular expression to rank."
    )
    alpha_pattern: dict[str, float] = Field(
        default_factory=dict, description="Alpha of layers that have another one: name or regular expression to alpha."
    )
    init: str = Field(
        "default",
        pattern=r"^(default|gaussian|orthogonal|olora|pissa|pissa_niter_[1-9][0-9]*)$",
        description="First values: default (A random, B zero), gaussian, orthogonal (A and B random and orthogonal to "
        "each other), or from the weights: pissa (arXiv:2404.02948; pissa_niter_16 is a faster approximation), olora "
        "(arXiv:2406.01775). The last two change the base while the adapter is on it, so the model takes one only.",
    )

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _positive(cls, values: dict[str, Any]) -> dict[str, Any]:
        wrong = {key: value for key, value in values.items() if value <= 0}
        if wrong:
            raise ValueError(f"expected numbers above 0, received {wrong}")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> LoRAConfig:
        if self.from_weights and self.dora:
            raise ValueError(f"init {self.init!r} starts from the layer's weights and does not go with dora")
        if self.from_weights and self.bias != "none":
            raise ValueError(f"init {self.init!r} does not go with trained biases; use bias: none")
        if self.target_parameters and (self.dora or self.dropout or self.from_weights):
            raise ValueError("target_parameters go with dropout 0, without dora, and with an init that leaves the base")
        return self

    @property
    def from_weights(self) -> bool:
        """Whether the adapter starts from the base weights and changes them (PiSSA, OLoRA)."""
        return self.init.startswith(("pissa", "olora"))

    def to_peft(
        self,
        target_modules: list[str],
        modules_to_save: list[str],
        *,
        layers: tuple[list[int], list[str]] | None = None,
        rank_pattern: dict[str, int] | None = None,
        alpha_pattern: dict[str, float] | None = None,
        fan_in_fan_out: bool = False,
    ) -> LoraConfig:
        """The same configuration as PEFT's ``LoraConfig``, with the names already resolved.

        Args:
            target_modules: layer names as PEFT matches them.
            modules_to_save: what ``modules_to_save: null`` stands for.
            layers: indices from 0, and the names of the module lists that they count in.
            rank_pattern, alpha_pattern: the patterns with resolved names; ``None`` takes them as they are.
            fan_in_fan_out: whether the adapted layers keep their weights transposed, as GPT-2 does.
        """
        from peft import LoraConfig

        options: dict[str, Any] = {}
        if layers is not None:
            options["layers_to_transform"], options["layers_pattern"] = layers
        elif self.layers is not None:
            options["layers_to_transform"] = self.layers
        if self.target_parameters:
            options["target_parameters"] = list(self.target_parameters)
        if self.init != "default":
            options["init_lora_weights"] = self.init
        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=target_modules,
            modules_to_save=(self.modules_to_save if self.modules_to_save is not None else modules_to_save) or None,
            bias=self.bias,
            use_rslora=self.rslora,
            use_dora=self.dora,
            rank_pattern=dict(self.rank_pattern) if rank_pattern is None else rank_pattern,
            alpha_pattern=dict(self.alpha_pattern) if alpha_pattern is None else alpha_pattern,
            fan_in_fan_out=fan_in_fan_out,
            **options,
        )
