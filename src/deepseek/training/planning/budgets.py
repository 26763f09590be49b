"""What may be spent: memory and time as people write them."""

from __future__ import annotations

import re

from deepseek.errors import ConfigError

_MEMORY = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
           "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
           "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}  # fmt: skip
_TIME = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_memory(text: str | int | float) -> int:
    """Bytes of ``"2GB"`` (10^9), ``"1.5 GiB"`` (2^30), ``"800M"`` or a plain number.

    Raises:
        ConfigError: it is not a positive amount of memory.
    """
    match = _NUMBER.fullmatch(str(text))
    unit = match[2].upper() if match else "?"
    if match is None or unit not in _MEMORY or float(match[1]) <= 0:
        raise ConfigError(f"expected an amount of memory such as '2GB' or '800MiB', received {text!r}")
    return int(float(match[1]) * _MEMORY[unit])


def parse_time(text: str | int | float) -> float:
    """Seconds of ``"90s"``, ``"10m"``, ``"1h30m"``, ``"2d"`` or a plain number.

    Raises:
        ConfigError: it is not a positive time.
    """
    value, rest, total = str(text).strip(), str(text).strip(), 0.0
    while rest:
        match = _NUMBER.match(rest)
        if match is None or match[2].lower() not in _TIME or (not match[2] and match[0].strip() != value):
            raise ConfigError(f"expected a time such as '90s', '10m' or '1h30m', received {text!r}")
        total += float(match[1]) * _TIME[match[2].lower()]
        rest = rest[match.end() :]
    if total <= 0:
        raise ConfigError(f"expected a time such as '90s', '10m' or '1h30m', received {text!r}")
    return total


def write_memory(count: float) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def write_time(seconds: float) -> str:
    """Seconds for a person."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
