"""GPUs through their makers' management libraries: NVML for NVIDIA, AMD SMI for AMD.

Both are optional (``pip install 'deepseek[gpu]'``), need no CUDA or ROCm context, and see all processes' use. What one
GPU does not tell (a laptop's power draw, a virtual GPU's temperature) is left out of its readings; the rest is kept.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from deepseek.errors import require

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class GpuReading:
    """One GPU now; ``None`` is what it does not tell."""

    name: str
    vendor: str
    utilization: float | None = None
    """Share of the last sampling period in which a kernel ran, 0 to 1."""
    memory_used: int | None = None
    """Bytes, by any process."""
    memory_size: int | None = None
    """Bytes."""
    temperature: float | None = None
    """Degrees Celsius."""
    power: float | None = None
    """Watts."""


class GpuReader(Protocol):
    """A maker's library with its GPUs."""

    def read(self) -> list[GpuReading]:
        """All GPUs now; raises ``OSError`` when the library stopped answering."""

    def close(self) -> None:
        """Release the library."""


class NvidiaReader:
    """NVML, by the official bindings ``nvidia-ml-py`` (module ``pynvml``).

    Raises:
        MissingExtraError: the bindings are not installed.
        OSError: there is no driver, or no GPU.
    """

    def __init__(self) -> None:
        self._nvml: Any = require("pynvml", "gpu")
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._gpus = [self._nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
            self._names = [_text(self._nvml.nvmlDeviceGetName(gpu)) for gpu in self._gpus]
        except self._nvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error
        if not self._gpus:
            self.close()
            raise OSError("NVML: no GPU")

    def read(self) -> list[GpuReading]:
        """All GPUs now."""
        nvml = self._nvml

        def ask(question: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return question(*arguments)
            except nvml.NVMLError_NotSupported:
                return None
            except nvml.NVMLError as error:
                raise OSError(f"NVML: {error}") from error

        readings = []
        for gpu, name in zip(self._gpus, self._names, strict=True):
            rates = ask(nvml.nvmlDeviceGetUtilizationRates, gpu)
            memory = ask(nvml.nvmlDeviceGetMemoryInfo, gpu)
            temperature = ask(nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU)
            milliwatts = ask(nvml.nvmlDeviceGetPowerUsage, gpu)
            readings.append(
                GpuReading(
                    name=name,
                    vendor="NVIDIA",
                    utilization=None if rates is None else rates.gpu / 100,
                    memory_used=None if memory is None else int(memory.used),
                    memory_size=None if memory is None else int(memory.total),
                    temperature=None if temperature is None else float(temperature),
                    power=None if milliwatts is None else milliwatts / 1000,
                )
            )
        return readings

    def close(self) -> None:
        """Release NVML."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()


class AmdReader:
    """AMD SMI, by the official bindings ``amdsmi``, which come with ROCm and need its ``libamd_smi.so``.

    Raises:
        MissingExtraError: the bindings are not installed.
        OSError: there is no library, no driver, or no GPU.
    """

    def __init__(self) -> None:
        self._smi: Any = _import_amdsmi()
        try:
            self._smi.amdsmi_init()
            self._gpus = self._smi.amdsmi_get_processor_handles()
            self._names = [str(self._smi.amdsmi_get_gpu_asic_info(gpu)["market_name"]) for gpu in self._gpus]
        except self._smi.AmdSmiException as error:
            raise OSError(f"AMD SMI: {_line(error)}") from error
        if not self._gpus:
            self.close()
            raise OSError("AMD SMI: no GPU")

    def read(self) -> list[GpuReading]:
        """All GPUs now."""
        smi = self._smi
        kind, metric = smi.AmdSmiTemperatureType, smi.AmdSmiTemperatureMetric
        readings = []
        for gpu, name in zip(self._gpus, self._names, strict=True):
            activity = self._ask(smi.amdsmi_get_gpu_activity, gpu)
            memory = self._ask(smi.amdsmi_get_gpu_vram_usage, gpu)  # MiB
            power = self._ask(smi.amdsmi_get_power_info, gpu)
            temperature = self._ask(smi.amdsmi_get_temp_metric, gpu, kind.HOTSPOT, metric.CURRENT)
            percent = _number(activity, "gfx_activity")
            used, size = _number(memory, "vram_used"), _number(memory, "vram_total")
            # Which of the two a GPU tells differs by generation.
            watts = _number(power, "current_socket_power")
            watts = _number(power, "average_socket_power") if watts is None else watts
            readings.append(
                GpuReading(
                    name=name,
                    vendor="AMD",
                    utilization=None if percent is None else percent / 100,
                    memory_used=None if used is None else int(used) * _MIB,
                    memory_size=None if size is None else int(size) * _MIB,
                    temperature=None if temperature is None else float(temperature),
                    power=watts,
                )
            )
        return readings

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return question(*arguments)
        except self._smi.AmdSmiLibraryException as error:
            if "NOT_SUPPORTED" in str(error) or "NOT_YET_IMPLEMENTED" in str(error):
                return None
            raise OSError(f"AMD SMI: {_line(error)}") from error

    def close(self) -> None:
        """Release AMD SMI."""
        with contextlib.suppress(self._smi.AmdSmiException):
            self._smi.amdsmi_shut_down()


def _import_amdsmi() -> ModuleType:
    """The bindings; without ``libamd_smi.so`` they print on standard output and raise ``KeyError`` on import."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return import_module("amdsmi")
    except KeyError as error:
        raise OSError("AMD SMI: libamd_smi.so is not here; it comes with ROCm") from error
    except ModuleNotFoundError:
        return require("amdsmi", "gpu-amd")


def _number(answer: Any, name: str) -> float | None:
    """A field that is a number; AMD SMI says ``"N/A"`` where it has none."""
    value = None if answer is None else answer.get(name)
    return float(value) if isinstance(value, int | float) else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


READERS: tuple[type[NvidiaReader] | type[AmdReader], ...] = (NvidiaReader, AmdReader)
"""All makers' readers."""
