"""A checkpoint as an OpenVINO model on disk, converted once.

The model is traced by OpenVINO's own PyTorch front end, with every dimension of its inputs left open. The copy is found
again by the checkpoint's files (their sizes and times), the head, and the versions of what made it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek import progress
from deepseek.artifacts.cache import cache_dir, staged_directory
from deepseek.errors import ConfigError
from deepseek.inference.openvino.library import openvino, reason

if TYPE_CHECKING:
    from deepseek.models.checkpoint import Checkpoint

MODEL, ABOUT = "model.xml", "about.json"
ROWS, TOKENS = 2, 6
"""Shape of the batch that the model is traced with; it leaves no mark."""
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def converted(checkpoint: Checkpoint, head: str) -> Path:
    """The folder of the checkpoint with ``head`` as an OpenVINO model, converted unless it is there.

    Raises:
        ConfigError: OpenVINO cannot convert it; the message says what it stumbled over and which runtime can.
    """
    target = cache_dir() / "openvino" / _key(checkpoint, head)
    if (target / MODEL).is_file():
        return target
    with (
        progress.bar(f"convert {checkpoint.name} for OpenVINO", None, "model"),
        staged_directory(target, replace=True) as stage,
    ):
        _convert(checkpoint, head, stage)
    return target


def _key(checkpoint: Checkpoint, head: str) -> str:
    import transformers

    parts = [checkpoint.stamp(), head, openvino().__version__, transformers.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _convert(checkpoint: Checkpoint, head: str, folder: Path) -> None:
    import warnings

    import torch

    from deepseek.models.loading import from_pretrained, quiet_transformers

    library = openvino()
    model = from_pretrained(checkpoint, head=head).eval()
    example = _example(model)
    with torch.no_grad(), quiet_transformers(), warnings.catch_warnings():
        outputs = model(**example)
        names = [name for name, value in outputs.items() if isinstance(value, torch.Tensor)]

        class Traced(torch.nn.Module):  # type: ignore[misc]
            """Tensors in, a tuple of tensors out, as a trace needs it."""

            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
                found = self.model(**dict(zip(example, tensors, strict=True)))
                return tuple(found[name] for name in names)

        try:
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # what it warns of is compared in the tests
            made = library.convert_model(Traced(), example_input=tuple(example.values()))
        except Exception as error:  # whatever the front end raises, the user needs the same advice
            raise ConfigError(
                f"OpenVINO cannot convert {checkpoint.name!r} ({type(model).__name__}): {reason(error)}. "
                "The runtime 'torch' runs every transformers model"
            ) from error
    for port, name in zip(made.inputs, example, strict=True):
        port.get_tensor().set_names({name})
        fixed = list(example[name].shape[1:]) if name == "pixel_values" else [-1] * (example[name].ndim - 1)
        port.get_node().set_partial_shape(library.PartialShape([-1, *fixed]))
    for port, name in zip(made.outputs, names, strict=True):
        port.get_tensor().set_names({name})
    made.validate_nodes_and_infer_types()
    library.save_model(made, folder / MODEL, compress_to_fp16=False)
    about = {
        "inputs": list(example),
        "outputs": names,
        "context_length": getattr(model.config, "max_position_embeddings", None),
    }
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _example(model: Any) -> dict[str, Any]:
    """A batch with all inputs that the model can take."""
    import torch

    if getattr(model, "main_input_name", "input_ids") == "pixel_values":
        size = model.config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.zeros(ROWS, getattr(model.config, "num_channels", 3), height, width)}
    takes = inspect.signature(type(model).forward).parameters
    names = [name for name in TEXT_INPUTS if name in takes]
    if getattr(model.config, "type_vocab_size", 0) < 1 and "token_type_ids" in names:
        names.remove("token_type_ids")
    batch = {name: torch.ones(ROWS, TOKENS, dtype=torch.long) for name in names}
    if "token_type_ids" in batch:
        batch["token_type_ids"].zero_()
    if "attention_mask" in batch:
        batch["attention_mask"][0, TOKENS // 2 :] = 0  # a full mask would let transformers leave it out of the trace
    return batch
