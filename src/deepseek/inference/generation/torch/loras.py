"""Several LoRA adapters in one batch: each token is answered with the adapter of its sequence.

PEFT reads the folders and puts the adapters on (with all the checks of :mod:`deepseek.models.adapters`); then lighter
layers take the place of its own, which add ``scale * B(A(x))`` for the rows of each adapter (as S-LoRA, arXiv
2311.03285, and Punica, arXiv 2310.18547, do, with plain products).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deepseek.errors import ConfigError
from deepseek.inference.generation.torch.attention import current_batch
from deepseek.models.adapters.switching import parent_of, wrappers


class AdaptedLinear(nn.Module):  # type: ignore[misc]
    """A linear layer and what adapters add to it.

    Args:
        base: the plain layer.

    Attributes:
        updates: adapter's index -> (A, B, scale), of shapes (rank, in) and (out, rank).
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.updates: dict[int, tuple[torch.Tensor, torch.Tensor, float]] = {}

    @property
    def weight(self) -> Any:
        """Of the plain layer: some models look at its type."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` is (1, T, in), the tokens of the running batch."""
        y: torch.Tensor = self.base(x)
        batch = current_batch()
        if batch is None:
            return y
        for adapter, rows in batch.adapters.items():
            update = self.updates.get(adapter)
            if update is None:
                continue
            low, high, scale = update
            if rows is None:
                y = y + (x @ low.T @ high.T) * scale
            else:
                assert x.shape[-2] == batch.ids_1T.shape[1], "an adapter is on a layer that does not see every token"
                y.index_add_(-2, rows, ((x.index_select(-2, rows) @ low.T) @ high.T) * scale)
        return y


def put_on(model: Any, adapters: Mapping[str, Path]) -> list[str]:
    """Read adapters and make ``model`` answer with the one that a batch names; their names, in index order.

    Raises:
        ConfigError: a folder is no adapter's, is for another base, or has more than LoRA on linear layers.
    """
    from peft.tuners.lora.layer import Linear as LoraLinear

    names = list(adapters)
    for name in names:
        model.load_adapter(Path(adapters[name]), name)
        if model.peft_config[name].bias != "none":
            raise _unfit(name, "changes biases of its base")
    found: dict[str, AdaptedLinear] = {}
    for path, module in list(wrappers(model)):
        if not isinstance(module, LoraLinear):
            raise _unfit(path, f"changes {type(getattr(module, 'base_layer', module)).__name__} as a whole")
        if module.base_layer is model.get_output_embeddings() or module.lora_variant or any(module.lora_bias.values()):
            raise _unfit(path, "is DoRA, has biases, or changes the output layer")
        layer = AdaptedLinear(module.base_layer)
        for index, name in enumerate(names):
            if name in module.lora_A:
                dtype, device = module.base_layer.weight.dtype, module.base_layer.weight.device
                low, high = (part[name].weight.detach().to(device, dtype) for part in (module.lora_A, module.lora_B))
                layer.updates[index] = (low, high, float(module.scaling[name]))
        found[path] = layer
    for path, layer in found.items():
        setattr(parent_of(model, path), path.rpartition(".")[2], layer)
    return names


def _unfit(path: str, why: str) -> ConfigError:
    return ConfigError(
        f"an adapter {why} ({path}); the generation core 'torch' runs plain LoRA on linear layers beside other "
        "adapters: merge it into its base (merge_adapter) and load that"
    )
