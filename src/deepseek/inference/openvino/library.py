"""OpenVINO itself, imported without its telemetry.

``openvino`` reports to its makers that it is imported and what it converts, wherever the package
``openvino_telemetry``, which it installs, can be imported. Nothing that runs here tells anyone, so that package is
hidden before OpenVINO looks for it. A process that imported OpenVINO's converter before keeps what it has.
"""

from __future__ import annotations

import sys
from types import ModuleType

from deepseek.errors import require


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
