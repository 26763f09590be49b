"""What this machine offers: what is here, and how fast its processor, its GPUs and their memory can be at most.

>>> from deepseek.inference.hardware import peaks
>>> most = peaks("cpu")
>>> most.products["float32"].tflops, most.bandwidth["read"].gb_per_second
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.inference.hardware.examination import Finding, examine
    from deepseek.inference.hardware.hardware_peaks import Bandwidth, Hardware, HardwarePeaks, ProductPeak
    from deepseek.inference.hardware.kept_peaks import keep, kept, peaks
    from deepseek.inference.hardware.measurement import measure

_PUBLIC = {
    "Bandwidth": "deepseek.inference.hardware.hardware_peaks",
    "Finding": "deepseek.inference.hardware.examination",
    "Hardware": "deepseek.inference.hardware.hardware_peaks",
    "HardwarePeaks": "deepseek.inference.hardware.hardware_peaks",
    "ProductPeak": "deepseek.inference.hardware.hardware_peaks",
    "examine": "deepseek.inference.hardware.examination",
    "keep": "deepseek.inference.hardware.kept_peaks",
    "kept": "deepseek.inference.hardware.kept_peaks",
    "measure": "deepseek.inference.hardware.measurement",
    "peaks": "deepseek.inference.hardware.kept_peaks",
}

__all__ = [
    "Bandwidth",
    "Finding",
    "Hardware",
    "HardwarePeaks",
    "ProductPeak",
    "examine",
    "keep",
    "kept",
    "measure",
    "peaks",
]


__getattr__ = names_of(__name__, _PUBLIC)
