"""The configuration of a LoRA adapter (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from peft import LoraConfig


class LoRAConfig(BaseModel):
    """Which layers get a low-rank update, and of what rank.

    An adapted layer computes ``W x + (alpha / r) B A x`` with ``A`` of shape (r, in) and ``B`` of shape (out, r).

    ``target_modules`` takes layer names of the model at hand, or one of the names that mean the same on every
    architecture: ``query_key_value``, ``query``, ``key``, ``value``, ``attention_output``, ``mlp``, ``all-linear``
    (:func:`deepseek.models.resolve_targets`).

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
    layers: list[int] | None = Field(
        None, description="Adapt only these layers (indices from 0); null adapts all. Upper layers alone train faster."
    )
    modules_to_save: list[str] | None = Field(
        None,
        description="Modules trained in full and stored with the adapter. null: those that the checkpoint did not "
        "bring, such as a fresh classification head.",
    )
    rslora: bool = Field(False, description="Scale by alpha / sqrt(r) instead (rsLoRA, arXiv:2312.03732).")
    dora: bool = Field(False, description="Decompose into magnitude and direction (DoRA, arXiv:2402.09353).")
    rank_pattern: dict[str, int] = Field(default_factory=dict, description="Rank per layer-name pattern.")

    def to_peft(self, target_modules: list[str], modules_to_save: list[str]) -> LoraConfig:
        """The same configuration as PEFT's ``LoraConfig``, with the names already resolved."""
        from peft import LoraConfig

        options: dict[str, Any] = {}
        if self.layers is not None:
            options["layers_to_transform"] = self.layers
        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=target_modules,
            modules_to_save=(self.modules_to_save if self.modules_to_save is not None else modules_to_save) or None,
            use_rslora=self.rslora,
            use_dora=self.dora,
            rank_pattern=dict(self.rank_pattern),
            **options,
        )
