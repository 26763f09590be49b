"""Options that several commands have alike."""

from __future__ import annotations

from typing import Annotated

import typer

Runtime = Annotated[
    str,
    typer.Option(
        help="torch, torch-compile, openvino, onnxruntime, a plugin's, or auto: the fastest (see deepseek explain)."
    ),
]
"""``--runtime``: a name of :data:`deepseek.inference.RUNTIMES`."""
