"""A checkpoint as an exported program of PyTorch (``torch.export``), with open batch and sequence dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from deepseek.inference.conversion.traced import Traced


def program_of(
    model: Traced, name: str, what: str, longest: Sequence[int] | None = None
) -> torch.export.ExportedProgram:
    """Export a model. The program takes its inputs by name and returns a mapping of its outputs.

    Args:
        name: what errors call the model.
        what: what it is exported for, in errors.
        longest: most rows and tokens that it has to take, for tools that plan memory ahead; ``None``: any number.

    Raises:
        ConfigError: its code cannot be exported, or only for one batch or sequence length; the message says where.
    """
    import warnings

    import torch

    from deepseek.models.loading import quiet_transformers

    size = torch.export.Dim.DYNAMIC  # refused if the model's code would hold for one size only
    shapes = {
        each: {place: size(min=1, max=longest[place]) if longest else size for place in model.open_dimensions(each)}
        for each in model.example
    }
    with torch.no_grad(), quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers' own code; outputs are compared
        try:
            return torch.export.export(
                model.module(named=True), (), kwargs=dict(model.example), dynamic_shapes=shapes, strict=False
            )
        except Exception as error:  # torch.export raises what the model's code and the tracer raise
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ConfigError(
                f"{name!r} ({type(model.model).__name__}) cannot be exported for {what}: {first}. "
                "The runtime 'torch' runs every transformers model"
            ) from error
