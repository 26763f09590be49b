"""The frozen part of a model, made cheap to run.

A frozen weight gets no gradient, so it needs neither float32's precision (that is for sums of small updates) nor
dropout (that regularises the weights it sits between). What is done here:

- Dropout in the trunk is off. Its masks are kept for the backward pass, and its random numbers take time. Adapters and
  heads keep their own dropout.
- Under bfloat16, frozen weights are bfloat16 in memory. Autocast alone keeps float32 weights and converts each of them
  in each step. Embeddings are narrowed too, so that states between layers are bfloat16 and are kept as such. Layer
  norms stay float32: their kernels take bfloat16 states as they are, at no cost in time. Error of the last states,
  relative to float32: all-MiniLM-L6 0.61% under autocast alone, 0.92% so, 1.12% with narrow norms; SmolLM2-135M, 15
  layers, 0.66% and 1.40% (its norms' kernel takes one dtype, so they are narrow).
- Adapters and heads stay float32: their updates are smaller than bfloat16 resolves. PEFT would convert each adapted
  layer's input to float32 to match; under autocast it is converted back at once, so that conversion is off.
- On a CPU, attention in bfloat16 is :mod:`deepseek.training.frozen.attention` where the model used PyTorch's own.

Narrowing is undone exactly by :meth:`Trunk.restore`, so that a merged model is made from the weights that the
checkpoint has: weights that are pages of the checkpoint's file stay there, and their pages are given up; others that
lose bits wait in an unlinked file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from deepseek import progress
from deepseek.artifacts.cache import cache_dir
from deepseek.errors import ConfigError
from deepseek.models.mapped_weights import mappings, release

if TYPE_CHECKING:
    import torch
    from torch import nn

_OF_ADAPTERS = (".lora_", ".modules_to_save", ".original_module")
_OF_PATHS = ("layerdrop", "drop_path", "drop_prob")


class Trunk:
    """What :func:`prepare_trunk` changed, and the way back. As a context manager it restores at the end.

    Attributes:
        narrowed: frozen weights that are bfloat16 now.
        spilled_bytes: what the exact values of those that lost bits take on the disk.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._attributes: list[tuple[Any, str, Any]] = []
        self._exact: list[tuple[nn.Parameter, int]] = []
        self._mapped: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._undo: list[Callable[[], None]] = []
        self._file: Any = None
        self._bfloat16 = False
        self.narrowed = 0
        self.spilled_bytes = 0

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the model must be run: bfloat16 autocast if its trunk is narrow, else nothing."""
        import torch

        device = next(self._model.parameters()).device.type
        context: AbstractContextManager[Any] = torch.autocast(device, torch.bfloat16, enabled=self._bfloat16)
        return context

    def restore(self) -> None:
        """Give the model back its exact float32 weights and its dropout; what was trained is left as it is."""
        for owner, name, value in reversed(self._attributes):
            setattr(owner, name, value)
        self._attributes.clear()
        while self._undo:
            self._undo.pop()()
        for weight, offset in self._exact:
            weight.data = self._read(weight, offset)
        self._exact.clear()
        for weight, original in self._mapped:
            weight.data = original.to(weight.device)  # training may have moved the model to a GPU
        self._mapped.clear()
        self._bfloat16 = False
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Change an attribute of a module until :meth:`restore`."""
        self._attributes.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def replace_attention(self, device: str) -> None:
        """Use the attention that is fast on a CPU there, if the model takes one and uses PyTorch's own."""
        model: Any = self._model
        if device == "cpu" and replaceable_attention(model):
            from deepseek.training.frozen.attention import register

            model.set_attn_implementation(register())
            self._undo.append(lambda: model.set_attn_implementation("sdpa"))

    def narrow(self, folder: Path) -> None:
        """Make the frozen float32 weights bfloat16.

        Raises:
            ConfigError: the exact values of weights that lose bits do not fit on the disk.
        """
        import torch

        self._bfloat16 = True
        weights = narrowable(self._model)
        files = [file for file in mappings() if file.clean]
        release([weight.data for weight in weights], files)
        need, free = sum(w.numel() * 4 for w in weights), _free_bytes(folder)
        with progress.bar("narrow", need, "bytes") as bar:
            for weight in weights:
                narrow = weight.data.to(torch.bfloat16)
                self.narrowed += weight.numel()
                bar.advance(weight.numel() * 4)
                if any(file.holds(weight.data) for file in files):
                    self._mapped.append((weight, weight.data))
                    release([weight.data], files)
                    weight.data = narrow
                    continue
                offset = -1
                if not torch.equal(narrow.to(torch.float32), weight.data):
                    if need > free:
                        raise ConfigError(
                            f"bfloat16 training sets aside up to {need / 1e9:.1f} GB of exact weights in {folder}, "
                            f"where {free / 1e9:.1f} GB are free; free some, point DEEPSEEK_CACHE to a larger disk, or "
                            "train in float32"
                        )
                    offset = self._write(weight.data, folder)
                weight.data = narrow
                self._exact.append((weight, offset))

    def set_aside(self, modules: Iterable[nn.Module]) -> int:
        """Take the narrow copies of weights that lie in the checkpoint's file away, where they will seldom be read.

        Frozen layers whose states are kept run only when other rows are scored; autocast then rounds the file's weights
        to the same numbers. Call it again after such a pass, to give the file's pages up again.

        Returns:
            Bytes that are no longer needed.
        """
        aside = self._mapped_of(modules)
        saved = 0
        for weight, original in aside:
            if weight.dtype != original.dtype:
                saved += weight.numel() * weight.element_size()
                weight.data = original
        release([original for _, original in aside], [file for file in mappings() if file.clean])
        return saved

    def take_back(self, modules: Iterable[nn.Module]) -> None:
        """Make the narrow copies of weights that were set aside again."""
        import torch

        files = [file for file in mappings() if file.clean]
        for weight, original in self._mapped_of(modules):
            if weight.dtype == original.dtype:
                weight.data = original.to(torch.bfloat16)
                release([original], files)

    def _mapped_of(self, modules: Iterable[nn.Module]) -> list[tuple[nn.Parameter, torch.Tensor]]:
        wanted = {id(weight) for module in modules for weight in module.parameters()}
        return [
            (weight, original)
            for weight, original in self._mapped
            if id(weight) in wanted and weight.device == original.device
        ]

    def _write(self, values: torch.Tensor, folder: Path) -> int:
        if self._file is None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open until restore; it has no name to leave behind
        offset = int(self._file.seek(0, 2))
        self._file.write(memoryview(values.cpu().contiguous().reshape(-1).numpy()).cast("B"))
        self.spilled_bytes += values.numel() * 4
        return offset

    def _read(self, weight: nn.Parameter, offset: int) -> torch.Tensor:
        import torch

        if offset < 0:
            return weight.data.to(torch.float32)
        values = torch.empty(weight.shape, dtype=torch.float32)
        self._file.seek(offset)
        if self._file.readinto(memoryview(values.reshape(-1).numpy()).cast("B")) != values.numel() * 4:
            raise OSError("the file with the trunk's exact weights was cut short")
        return values.to(weight.device)


def prepare_trunk(
    model: nn.Module,
    *,
    dropout: float | None,
    precision: Literal["float32", "bfloat16"],
    folder: Path | None = None,
    device: str | None = None,
) -> Trunk:
    """Make the frozen part of a model cheap to run while the rest trains. A model without frozen weights is left alone.

    Args:
        model: a transformers model in which what trains has ``requires_grad``.
        dropout: dropout inside the pre-trained model; ``None`` keeps the checkpoint's. An adapter's and a head's own
            dropout are not touched.
        precision: ``"bfloat16"`` narrows the frozen weights; the model then has to run under :meth:`Trunk.autocast`
            (transformers' Trainer with ``bf16=True`` does that).
        folder: where exact weights wait meanwhile; ``None``: the user's cache folder.
        device: the kind of device on which the model will train, if it is moved there later; ``None``: where it is.

    Raises:
        ConfigError: there is no room on the disk for the exact weights; the model is as before.
    """
    trunk = Trunk(model)
    if all(weight.requires_grad for weight in model.parameters()):
        return trunk
    try:
        if dropout is not None:
            for module, name, _ in dropout_rates(getattr(model, "base_model", model)):
                if dropout == 0 or not any(part in name for part in _OF_PATHS):
                    trunk.set(module, name, dropout)
        if precision == "bfloat16":
            trunk.narrow(folder or cache_dir() / "trunks")
            trunk.replace_attention(device or next(model.parameters()).device.type)
            for module in model.modules():
                # DoRA's norms are computed in the input's dtype, so there the conversion stays
                if hasattr(module, "cast_input_dtype_enabled") and not getattr(module, "lora_variant", None):
                    trunk.set(module, "cast_input_dtype_enabled", False)
    except BaseException:
        trunk.restore()
        raise
    return trunk


def narrowable(model: nn.Module) -> list[nn.Parameter]:
    """The weights that bfloat16 training keeps in bfloat16: frozen, float32, not of norms, adapters or heads."""
    import torch
    from torch.nn.modules import batchnorm

    mixed = (torch.nn.LayerNorm, torch.nn.GroupNorm, batchnorm._NormBase)
    kept = {id(w) for m in model.modules() if isinstance(m, mixed) for w in m.parameters(recurse=False)}
    return [
        weight
        for name, weight in model.named_parameters()
        if not (weight.requires_grad or id(weight) in kept or any(part in name for part in _OF_ADAPTERS))
        and weight.dtype == torch.float32
    ]


def replaceable_attention(model: Any) -> bool:
    """Whether a model takes an attention function, uses PyTorch's own, and is on a CPU."""
    takes = getattr(model, "_can_set_attn_implementation", lambda: False)()
    on_cpu = all(weight.device.type == "cpu" for weight in model.parameters())
    return bool(takes and on_cpu and model.config._attn_implementation == "sdpa")


def dropout_rates(trunk: nn.Module) -> Iterator[tuple[nn.Module, str, float]]:
    """Each dropout rate in a model, as (module, attribute, rate), those of adapters left out.

    Rates are those of dropout modules, and the numbers that modules pass to functions: ``self.attention_dropout`` in
    Llama, ViT and ModernBERT, ``self.layerdrop`` in BART.
    """
    from torch.nn.modules.dropout import _DropoutNd

    for path, module in trunk.named_modules():
        if any(part in f".{path}" for part in _OF_ADAPTERS):
            continue
        if isinstance(module, _DropoutNd):
            yield module, "p", module.p
        else:
            for name, value in list(vars(module).items()):
                if isinstance(value, float) and "drop" in name.lower() and 0 <= value <= 1:
                    yield module, name, value


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
