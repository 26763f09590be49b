"""A model in another tool's format, checked against PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of
from deepseek.plugins.registry import Registry

if TYPE_CHECKING:
    from deepseek.inference.exporting.exporting import export
    from deepseek.inference.exporting.format import ExportFormat, Source
    from deepseek.inference.exporting.report import ExportReport

EXPORT_FORMATS: Registry[type[ExportFormat]] = Registry(
    "export-format",
    shipped={
        "executorch": "deepseek.inference.exporting.formats.executorch:ExecuTorch",
        "gguf": "deepseek.inference.exporting.formats.gguf:Gguf",
        "onnx": "deepseek.inference.exporting.formats.onnx:Onnx",
        "openvino": "deepseek.inference.exporting.formats.openvino:OpenVino",
        "torch-export": "deepseek.inference.exporting.formats.torch_export:TorchExport",
    },
)
"""Formats by name. A new format is one new file and one line here."""

_PUBLIC = {
    "ExportFormat": "deepseek.inference.exporting.format",
    "ExportReport": "deepseek.inference.exporting.report",
    "Source": "deepseek.inference.exporting.format",
    "export": "deepseek.inference.exporting.exporting",
}

__all__ = ["EXPORT_FORMATS", "ExportFormat", "ExportReport", "Source", "export"]


__getattr__ = names_of(__name__, _PUBLIC)
