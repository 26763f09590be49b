"""What some adapters change in the base while they are on it, kept so that the plain model can come back to the bit.

PiSSA and OLoRA take the adapter's first product out of the base weights; ``bias`` other than ``none`` trains the base's
biases. The originals are kept beside the model (a copy of the adapted weights, or of the biases).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from torch import nn

CHANGING = ("pissa", "olora")
_FACTORS = ("lora_A", "lora_B")


def starts_from_weights(config: PeftConfig) -> bool:
    """Whether PEFT changes the base weights when it adds an adapter of this configuration."""
    init = getattr(config, "init_lora_weights", True)
    return isinstance(init, str) and init.lower().startswith(CHANGING)


def changes_base(config: PeftConfig) -> bool:
    """Whether the base differs from the checkpoint while an adapter of this configuration is on it."""
    return starts_from_weights(config) or getattr(config, "bias", "none") != "none"


def refuse_company(model: Any, adapter_name: str, config: PeftConfig) -> None:
    """A base that an adapter changes is no base for another adapter.

    Raises:
        ConfigError: this adapter or one on the model changes the base.
    """
    present: dict[str, PeftConfig] = getattr(model, "peft_config", {})
    changing = [name for name, other in present.items() if changes_base(other)]
    if changing or (present and changes_base(config)):
        raise ConfigError(
            f"adapter {(changing or [adapter_name])[0]!r} changes the base (its initialisation or its biases), so the "
            f"model takes no other beside it; it has {', '.join(present)}. Save it, unload it, and load it again: the "
            "saved form of pissa and olora leaves the base as it is"
        )


def capture(model: nn.Module, config: PeftConfig) -> dict[str, torch.Tensor]:
    """Copies of the weights that adding an adapter of this configuration may change, by name."""
    from deepseek.models.adapters.targets import adaptable_layers

    kept: dict[str, torch.Tensor] = {}
    if starts_from_weights(config):
        kept = {f"{path}.weight": layer.weight.detach().clone() for path, layer in adaptable_layers(model).items()}
    if getattr(config, "bias", "none") != "none":
        kept |= {n: p.detach().clone() for n, p in model.named_parameters() if n.rpartition(".")[2] == "bias"}
    return kept


def changed_only(model: nn.Module, kept: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop the copies of weights that are still as they were and cannot train."""
    import torch

    now = base_parameters(model)
    return {n: t for n, t in kept.items() if now[n].requires_grad or not torch.equal(now[n], t)}


def base_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The base's own weights under all adapters, by the names of the plain model."""
    from deepseek.models.adapters.targets import own_path

    return {
        own_path(name): weight
        for name, weight in model.named_parameters()
        if ".lora_" not in name and ".modules_to_save" not in name
    }


def swap(model: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    """Exchange the base's weights with the kept ones, in place."""
    now = base_parameters(model)
    for name, saved in kept.items():
        weight = now[name]
        kept[name], weight.data = weight.data, saved.to(weight.device, weight.dtype)


def first_factors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of an adapter's two factors as they are at the start."""
    return {key: value.detach().clone() for key, value in state.items() if any(f in key for f in _FACTORS)}


def as_plain_lora(state: dict[str, torch.Tensor], first: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same update for the unchanged base: ``B A - B0 A0`` as one product of twice the rank."""
    import torch

    converted = dict(state)
    for key, start in first.items():
        now = state[key].detach()
        down = "lora_A" in key
        start = start.to(now.device, now.dtype)
        converted[key] = torch.cat([now, start], dim=0) if down else torch.cat([now, -start], dim=1)
    return converted


def double_rank(config: Any) -> None:
    """Change a PEFT configuration in place to twice the rank at the same scale (see :func:`as_plain_lora`)."""
    by = math.sqrt(2) if config.use_rslora else 2
    config.r *= 2
    config.lora_alpha *= by
    config.rank_pattern = {key: 2 * value for key, value in config.rank_pattern.items()}
    config.alpha_pattern = {key: by * value for key, value in config.alpha_pattern.items()}
    config.init_lora_weights = True
