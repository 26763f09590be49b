"""OpenVINO itself, imported without its telemetry.

``openvino`` reports to its makers that it is imported and what it converts, wherever the package
``openvino_telemetry``, which it installs, can be imported. Nothing that runs here tells anyone, so that package is
hidden before OpenVINO looks for it. A process that imported OpenVINO's converter before keeps what it has.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

from deepseek.errors import require

_opening = threading.Lock()
_cores: list[Any] = []


def reason(error: Exception) -> str:
    """The first line of what a library said; its kind where it said nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def openvino() -> ModuleType:
    """The module ``openvino``.

    Raises:
        MissingExtraError: it is not installed.
    """
    # an import of a module that is None here fails as if it were not installed
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return require("openvino", "openvino")


def openvino_core() -> Any:
    """The process's ``openvino.Core``, which is never freed.

    Each ``Core`` that has used the CPU puts the thread's signal handlers on a stack of its own and, when it goes, gives
    back the stack that it found (OpenVINO 2026.4, ``SigAltStackSetup``). If two of them do not go in the reverse of the
    order in which they came, the handlers are left on a stack that was freed: the next signal, be it Ctrl-C, SIGTERM
    or the end of a child process, then ends the process without a word. With a single one that stays there is no order.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    with _opening:
        if not _cores:
            _cores.append(openvino().Core())
        return _cores[0]


def native_precision(device: str) -> str:
    """OpenVINO's name of the narrowest float that a device computes in natively: ``"bf16"`` or ``"f32"``."""
    return "bf16" if "BF16" in openvino_core().get_property(device, "OPTIMIZATION_CAPABILITIES") else "f32"
