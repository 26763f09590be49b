"""A checkpoint as an OpenVINO model on disk, converted once.

The model is traced by OpenVINO's own PyTorch front end, with every dimension of its inputs left open.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.conversion.keeping import ABOUT, kept, write_about
from deepseek.inference.conversion.locating import traced_place
from deepseek.inference.conversion.traced import Traced, traced
from deepseek.inference.openvino.library import openvino, reason

if TYPE_CHECKING:
    from deepseek.models.checkpoint import Checkpoint

__all__ = ["ABOUT", "MODEL", "converted", "model_of"]

MODEL = "model.xml"


def converted(checkpoint: Checkpoint, head: str) -> Path:
    """The folder of the checkpoint with ``head`` as an OpenVINO model, converted unless it is there.

    Raises:
        ConfigError: OpenVINO cannot convert it; the message says what it stumbled over and which runtime can.
    """
    openvino()
    return kept("openvino", checkpoint, head, libraries=("openvino", "transformers"), convert=_convert)


def _convert(checkpoint: Checkpoint, head: str, folder: Path) -> None:
    model = traced(checkpoint, head)
    openvino().save_model(model_of(model, checkpoint.name), folder / MODEL, compress_to_fp16=False)
    write_about(model, folder)


def model_of(model: Traced, name: str) -> Any:
    """A traced model as an ``openvino.Model`` whose inputs and outputs have the names of the torch model's.

    Args:
        name: what errors call it.

    Raises:
        ConfigError: as :func:`converted`.
    """
    import warnings

    import torch

    from deepseek.models.loading import quiet_transformers

    library = openvino()
    example = model.example
    module = model.module(named=False)
    with torch.no_grad(), quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # what it warns of is compared in the tests
        warnings.simplefilter("ignore", FutureWarning)  # of attributes of the model that the front end looks at
        try:
            made = library.convert_model(module, example_input=tuple(example.values()))
        except Exception as error:  # whatever the front end raises, the user needs the same advice
            place = traced_place(module, tuple(example.values()), str(error))
            raise ConfigError(
                f"OpenVINO cannot convert {name!r} ({type(model.model).__name__}): {place or reason(error)}. "
                "The runtime 'torch' runs every transformers model"
            ) from error
    for port, each in zip(made.inputs, example, strict=True):
        port.get_tensor().set_names({each})
        open_here = model.open_dimensions(each)
        sizes = [-1 if number in open_here else size for number, size in enumerate(example[each].shape)]
        port.get_node().set_partial_shape(library.PartialShape(sizes))
    for port, each in zip(made.outputs, model.outputs, strict=True):
        port.get_tensor().set_names({each})
    made.validate_nodes_and_infer_types()
    return made
