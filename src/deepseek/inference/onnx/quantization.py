"""int8 weights, by channel, and activations in ranges that are found anew in each pass (dynamic quantisation).

Nothing is calibrated. Weights keep seven of eight bits: products of two full bytes overflow the 16-bit sums of
processors without VNNI (``reduce_range`` in ONNX Runtime, "Quantize ONNX models"), and a copy may run on any.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from deepseek.errors import ConfigError
from deepseek.inference.conversion.keeping import ABOUT
from deepseek.inference.onnx.conversion import INSIDE_UP_TO_BYTES, MODEL
from deepseek.inference.onnx.library import onnxruntime


def quantized(source: Path, target: Path) -> None:
    """Write the int8 copy of a converted model, both folders.

    Raises:
        ConfigError: ONNX Runtime cannot quantise the model.
        MissingExtraError: it is not installed.
    """
    quantize_file(source / MODEL, target / MODEL)
    shutil.copyfile(source / ABOUT, target / ABOUT)


def quantize_file(source: Path, target: Path) -> None:
    """As :func:`quantized`, of one ONNX file to another."""
    onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kept = _products_with_stacks(source)
    large = sum(file.stat().st_size for file in source.parent.glob(f"{source.name}*")) > INSIDE_UP_TO_BYTES
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a step before, which the exporter has done
    try:
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            use_external_data_format=large,
            nodes_to_exclude=kept,
        )
    except Exception as error:  # whatever it raises, the user needs the same advice
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"ONNX Runtime cannot quantise this model: {first}. It runs in float32 as it is") from error
    finally:
        root.setLevel(level)


def _products_with_stacks(source: Path) -> list[str]:
    """Nodes that multiply with several constant matrices at once, such as a table of relative positions for each head.

    ONNX Runtime quantises them by channel and cannot run the result: its kernel wants one matrix. They are small.
    """
    import onnx

    graph = onnx.load(source, load_external_data=False).graph
    stacks = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 2}
    return [node.name for node in graph.node if node.op_type == "MatMul" and stacks.intersection(node.input)]
