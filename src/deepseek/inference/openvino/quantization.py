"""int8 for weights and activations with ranges from real batches, or int4 for weights alone, by NNCF.

Sources: NNCF, "Post-Training Quantization" (``nncf.quantize`` with ``ModelType.TRANSFORMER``: symmetric weights,
asymmetric activations, SmoothQuant as in Xiao et al. 2023, bias correction).

Products of activations with activations, which is attention, stay in floating point. In 8 bits they are slower on CPUs
with AMX, move answers more, and OpenVINO 2026.4 computes them wrongly in bfloat16 models where a row has as many tokens
as a head has numbers, and these are 16 or 32.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from deepseek.errors import ConfigError, require
from deepseek.inference.conversion.feeding import arrays
from deepseek.inference.conversion.keeping import ABOUT, read_about
from deepseek.inference.openvino.conversion import MODEL
from deepseek.inference.openvino.library import openvino, openvino_core, reason
from deepseek.inference.recording import Batch

GROUP = 32
"""Columns of a 4-bit matrix that share a scale; models' widths are multiples of it."""


def quantized(source: Path, batches: Sequence[Batch], target: Path) -> None:
    """Write the int8 copy of a converted model into the folder ``target``.

    Raises:
        MissingExtraError: NNCF is not installed.
        ConfigError: NNCF cannot quantise the model.
    """
    nncf = _nncf()
    inputs = read_about(source)["inputs"]
    items = [arrays(batch, inputs) for batch in batches]
    model = openvino_core().read_model(source / MODEL)
    try:
        with redirect_stdout(sys.stderr):  # where it draws bars; a command's output is for what it found
            made = nncf.quantize(
                model, nncf.Dataset(items), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(items),
                ignored_scope=nncf.IgnoredScope(names=_products_of_activations(model)),
            )  # fmt: skip
    except Exception as error:  # whatever NNCF raises, the user needs the same advice
        raise ConfigError(f"NNCF cannot quantise this model: {reason(error)}. It runs in bfloat16 as it is") from error
    _save(made, source, target)


def compressed(source: Path, target: Path) -> None:
    """Write a copy of a converted model whose matrices are in 4 bits, with a scale for each :data:`GROUP` columns.

    Embeddings and the last layer are in 8. It computes in floating point, so it is small rather than fast.

    Raises:
        MissingExtraError: NNCF is not installed.
        ConfigError: NNCF cannot compress the model.
    """
    nncf = _nncf()
    model = openvino_core().read_model(source / MODEL)
    try:
        with redirect_stdout(sys.stderr):
            made = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=GROUP, ratio=1.0)
    except Exception as error:  # as above
        raise ConfigError(f"NNCF cannot compress this model: {reason(error)}. It runs in bfloat16 as it is") from error
    _save(made, source, target)


def _nncf() -> Any:
    openvino()  # first, so that it is imported without its telemetry
    nncf = require("nncf", "openvino")
    nncf.set_log_level(logging.ERROR)
    return nncf


def _save(model: Any, source: Path, target: Path) -> None:
    openvino().save_model(model, target / MODEL, compress_to_fp16=False)
    shutil.copyfile(source / ABOUT, target / ABOUT)


def _products_of_activations(model: Any) -> list[str]:
    """Names of the operations that multiply what depends on the inputs with what does too."""
    computed: set[str] = set()
    found = []
    for node in model.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        from_inputs = [i for i in node.input_values() if i.get_node().get_friendly_name() in computed]
        if kind == "Parameter" or (from_inputs and kind != "ShapeOf"):
            computed.add(name)
        if kind == "ScaledDotProductAttention" or (kind == "MatMul" and len(from_inputs) > 1):
            found.append(name)
    return found
