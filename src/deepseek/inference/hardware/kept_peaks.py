"""Measured peaks in the user's cache folder, one file for each device, number of threads and PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from deepseek.artifacts.cache import cache_dir
from deepseek.artifacts.keeping import keep_text
from deepseek.inference.hardware.devices import describe, find_device
from deepseek.inference.hardware.hardware_peaks import Hardware, HardwarePeaks
from deepseek.inference.hardware.measurement import SECONDS, measure


def peaks(device: str = "cpu", *, refresh: bool = False, seconds: float = SECONDS) -> HardwarePeaks:
    """What a device does at most: as it was measured before, else measured now and kept.

    Args:
        device: as :func:`measure` takes it.
        refresh: measure now even if it was measured before.
        seconds: about how long measuring may take; what was kept is taken however long it took.

    Raises:
        ConfigError: as :func:`measure`.
    """
    found = None if refresh else kept(device)
    return found if found is not None else keep(measure(device, seconds=seconds))


def kept(device: str = "cpu") -> HardwarePeaks | None:
    """What was measured before on this device, with as many threads and this PyTorch; never measures.

    A file that is damaged, or that another machine wrote into a folder that both share, is as good as none.

    Raises:
        ConfigError: the device is not here.
    """
    hardware = describe(find_device(device))
    try:
        found = HardwarePeaks.model_validate_json(_file(hardware).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.belongs_to(hardware) else None


def keep(measured: HardwarePeaks) -> HardwarePeaks:
    """Keep a measurement for :func:`peaks`, in place of an earlier one; returns it.

    A folder that cannot be written to costs only the keeping: a line on standard error says so.
    """
    target = _file(Hardware(**measured.model_dump(include=set(Hardware.model_fields))))
    keep_text(target, measured.model_dump_json(indent=2) + "\n", "the measurement")
    return measured


def _file(hardware: Hardware) -> Path:
    key = hashlib.sha256(hardware.model_dump_json().encode()).hexdigest()[:16]
    return cache_dir() / "hardware" / f"{hardware.device.replace(':', '-')}-{key}.json"
