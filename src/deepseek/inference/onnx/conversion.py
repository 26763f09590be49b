"""A checkpoint as an ONNX model on disk, converted once.

PyTorch's exporter of exported programs is used: the older one, of traces, gives other outputs than the model for BERT
and its relatives once the mask has gaps. Batch and sequence dimensions are open; weights lie inside the file, or beside
it where they would exceed what a protobuf file can hold.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deepseek.errors import ConfigError, require
from deepseek.inference.conversion.keeping import kept, write_about
from deepseek.inference.conversion.locating import exported_place
from deepseek.inference.conversion.program import program_of
from deepseek.inference.conversion.traced import Traced, traced

if TYPE_CHECKING:
    from deepseek.models.checkpoint import Checkpoint

MODEL = "model.onnx"
INSIDE_UP_TO_BYTES = 1_800_000_000
"""Weights that still go into the file itself; protobuf stops at 2 GiB."""


def converted(checkpoint: Checkpoint, head: str) -> Path:
    """The folder of the checkpoint with ``head`` as an ONNX model, converted unless it is there.

    Raises:
        ConfigError: it cannot be converted; the message has the operator and its layer, and which runtime can.
        MissingExtraError: what converts is not installed.
    """
    return kept("onnxruntime", checkpoint, head, libraries=("torch", "transformers", "onnxscript"), convert=_convert)


def _convert(checkpoint: Checkpoint, head: str, folder: Path) -> None:
    model = traced(checkpoint, head)
    write_model(model, checkpoint.name, folder / MODEL)
    write_about(model, folder)


def write_model(model: Traced, name: str, path: Path) -> None:
    """Write a model as an ONNX file.

    Args:
        name: what errors call it.

    Raises:
        ConfigError, MissingExtraError: as :func:`converted`.
    """
    import torch

    require("onnx", "onnx")
    require("onnxscript", "onnx")
    program = program_of(model, name, "ONNX")
    size = sum(p.numel() * p.element_size() for p in model.model.parameters())
    with _quiet():
        try:
            torch.onnx.export(
                program,
                (),
                path,
                dynamo=True,
                input_names=list(model.example),
                output_names=list(model.outputs),
                external_data=size > INSIDE_UP_TO_BYTES,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            place = exported_place(program, error) or str(error).splitlines()[0]
            raise ConfigError(
                f"ONNX cannot express {name!r} ({type(model.model).__name__}): {place}. "
                "The runtime 'torch' runs every transformers model"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes: of torchvision, which no model here needs, and of steps on standard output."""
    import warnings

    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
