"""OpenVINO IR: ``openvino_model.xml`` and ``.bin``, the names that Optimum Intel and sentence-transformers look for."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import ClassVar

from deepseek.errors import require
from deepseek.inference.conversion.traced import refuse_untrained, traced
from deepseek.inference.exporting.format import ExportFormat, Source
from deepseek.inference.openvino.conversion import model_of
from deepseek.inference.openvino.library import openvino, openvino_core
from deepseek.inference.openvino.runtime import OpenVinoModel

MODEL = "openvino_model.xml"


class OpenVino(ExportFormat):
    """Weights in float32, float16, or int8 by channel (NNCF's weight compression; activations stay as they are)."""

    name: ClassVar[str] = "openvino"
    heads: ClassVar[tuple[str, ...]] = (
        "none", "sequence-classification", "token-classification", "masked-lm", "image-classification",
    )  # fmt: skip
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "int8")

    def check(self, source: Source, dtype: str) -> None:
        openvino()
        if dtype == "int8":
            require("nncf", "openvino")

    def write(self, source: Source, dtype: str, folder: Path) -> None:
        model = traced(source.checkpoint, source.head)
        refuse_untrained(source.checkpoint, model.model)
        made = model_of(model, source.name)
        if dtype == "int8":
            nncf = require("nncf", "openvino")
            nncf.set_log_level(logging.ERROR)
            # its bar and its table go to standard output, which is for results
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
                made = nncf.compress_weights(made, mode=nncf.CompressWeightsMode.INT8_ASYM)
        openvino().save_model(made, folder / MODEL, compress_to_fp16=dtype == "float16")

    def open(self, folder: Path) -> OpenVinoModel:
        import torch

        model = openvino_core().read_model(folder / MODEL)
        about = {
            "inputs": [port.any_name for port in model.inputs],
            "outputs": [port.any_name for port in model.outputs],
            "context_length": None,
        }
        # what the weights are, and not what this processor would round activations to, is compared
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        return OpenVinoModel(openvino_core().compile_model(model, "CPU", settings), about)
