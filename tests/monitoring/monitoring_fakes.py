"""Stand-ins for what monitoring is told by a server, and for the GPU makers' libraries (their public API)."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any


class QueueFullError(Exception):
    """Named as serving's is."""


def status_of(error: BaseException) -> int:
    return {QueueFullError: 429, ValueError: 400}.get(type(error), 500)


def nvml(gpus: list[dict[str, Any]]) -> ModuleType:
    """``pynvml`` with these GPUs; a value that is an exception's name is raised."""
    module = ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818
        pass

    class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818
        pass

    class NVMLError_GpuIsLost(NVMLError):  # noqa: N801, N818
        pass

    errors = {e.__name__: e for e in (NVMLError_NotSupported, NVMLError_LibraryNotFound, NVMLError_GpuIsLost)}
    calls: list[str] = []

    def answer(gpu: dict[str, Any], name: str) -> Any:
        value = gpu[name]
        if isinstance(value, str) and value in errors:
            raise errors[value](value)
        return value

    def init() -> None:
        calls.append("init")
        if not gpus:
            raise NVMLError_LibraryNotFound("NVML Shared Library Not Found")

    def temperature(gpu: dict[str, Any], sensor: int) -> int:
        assert sensor == 0
        return int(answer(gpu, "temperature"))

    for name, member in {
        **errors,
        "NVMLError": NVMLError,
        "NVML_TEMPERATURE_GPU": 0,
        "calls": calls,
        "nvmlInit": init,
        "nvmlShutdown": lambda: calls.append("shutdown"),
        "nvmlDeviceGetCount": lambda: len(gpus),
        "nvmlDeviceGetHandleByIndex": lambda index: gpus[index],
        "nvmlDeviceGetName": lambda gpu: answer(gpu, "name"),
        "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=answer(gpu, "percent"), memory=0),
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=answer(gpu, "used"), total=gpu["total"], free=0),
        "nvmlDeviceGetTemperature": temperature,
        "nvmlDeviceGetPowerUsage": lambda gpu: answer(gpu, "milliwatts"),
    }.items():
        setattr(module, name, member)
    return module


def amdsmi(gpus: list[dict[str, Any]]) -> ModuleType:
    """``amdsmi`` with these GPUs; a value that is a status is raised as the library does."""
    module = ModuleType("amdsmi")

    class AmdSmiException(Exception):  # noqa: N818
        pass

    class AmdSmiLibraryException(AmdSmiException):
        def __init__(self, status: str) -> None:
            super().__init__(status)
            self.status = status

        def __str__(self) -> str:
            return f"Error code:\n\t2 | {self.status} - Feature not supported"

    calls: list[str] = []

    def answer(gpu: dict[str, Any], name: str) -> Any:
        value = gpu[name]
        if isinstance(value, str) and value.startswith("AMDSMI_STATUS"):
            raise AmdSmiLibraryException(value)
        return value

    def temperature(gpu: dict[str, Any], kind: str, metric: str) -> int:
        assert (kind, metric) == ("hotspot", "current")
        return int(answer(gpu, "temperature"))

    for name, member in {
        "AmdSmiException": AmdSmiException,
        "AmdSmiLibraryException": AmdSmiLibraryException,
        "AmdSmiTemperatureType": SimpleNamespace(HOTSPOT="hotspot"),
        "AmdSmiTemperatureMetric": SimpleNamespace(CURRENT="current"),
        "calls": calls,
        "amdsmi_init": lambda: calls.append("init"),
        "amdsmi_shut_down": lambda: calls.append("shutdown"),
        "amdsmi_get_processor_handles": lambda: gpus,
        "amdsmi_get_gpu_asic_info": lambda gpu: {"market_name": gpu["name"], "vendor_id": 0x1002},
        "amdsmi_get_gpu_activity": lambda gpu: {"gfx_activity": answer(gpu, "percent"), "umc_activity": 1},
        "amdsmi_get_gpu_vram_usage": lambda gpu: {"vram_used": answer(gpu, "used_mib"), "vram_total": gpu["total_mib"]},
        "amdsmi_get_power_info": lambda gpu: answer(gpu, "power"),
        "amdsmi_get_temp_metric": temperature,
    }.items():
        setattr(module, name, member)
    return module
