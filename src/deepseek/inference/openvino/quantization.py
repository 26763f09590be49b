"""int8 for weights and activations, with ranges from real batches (NNCF's post-training quantisation).

Sources: NNCF, "Post-Training Quantization" (``nncf.quantize`` with ``ModelType.TRANSFORMER``: symmetric weights,
asymmetric activations, SmoothQuant as in Xiao et al. 2023, bias correction).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from deepseek.errors import ConfigError, require
from deepseek.inference.conversion.feeding import arrays
from deepseek.inference.conversion.keeping import ABOUT, read_about
from deepseek.inference.openvino.conversion import MODEL
from deepseek.inference.openvino.library import openvino, openvino_core, reason
from deepseek.inference.recording import Batch


def quantized(source: Path, batches: Sequence[Batch], target: Path) -> None:
    """Write the int8 copy of a converted model into the folder ``target``.

    Raises:
        MissingExtraError: NNCF is not installed.
        ConfigError: NNCF cannot quantise the model.
    """
    library = openvino()
    nncf = require("nncf", "openvino")
    nncf.set_log_level(logging.ERROR)
    inputs = read_about(source)["inputs"]
    items = [arrays(batch, inputs) for batch in batches]
    model = openvino_core().read_model(source / MODEL)
    try:
        made = nncf.quantize(model, nncf.Dataset(items), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(items))
    except Exception as error:  # whatever NNCF raises, the user needs the same advice
        raise ConfigError(f"NNCF cannot quantise this model: {reason(error)}. It runs in bfloat16 as it is") from error
    library.save_model(made, target / MODEL, compress_to_fp16=False)
    shutil.copyfile(source / ABOUT, target / ABOUT)
