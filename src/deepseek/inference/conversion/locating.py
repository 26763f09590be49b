"""Which operator of which layer a converter stumbled over, read from what it said and from the model's graph."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TRACED = re.compile(r"\b(?:aten|prim|quantized|torchvision)::\w+")
_EXPORTED = re.compile(
    r"OpOverload\(op='([\w.]+)'|target=torch\.ops\.([\w.]+?)(?:\.default)?\]"
    r"|Operator torch\._ops\.([\w.]+?)(?:\.default)? is"
)
_ROOT = "model."
"""How the paths of layers begin in a wrapped model."""


def traced_place(module: torch.nn.Module, example: tuple[Any, ...], said: str) -> str:
    """The operators that a converter of traces named, with the first layer that uses each; empty if it named none.

    Args:
        module: what it traced.
        example: positional inputs of ``module``.
        said: its error.
    """
    import torch

    names = sorted(set(_TRACED.findall(said)))
    if not names:
        return ""
    try:
        graph = torch.jit.trace(module, example, strict=False, check_trace=False).graph
    except RuntimeError:  # what cannot be traced has no layers to look in
        return f"it has no {', '.join(names)}"
    torch._C._jit_pass_inline(graph)
    places: dict[str, str] = {}
    for node in graph.nodes():
        places.setdefault(node.kind(), node.scopeName().rpartition("/")[2].removeprefix("__module."))
    return "; ".join(_words(name, places.get(name, "")) for name in names)


def exported_place(program: torch.export.ExportedProgram, error: BaseException) -> str:
    """The operator that a converter of exported programs named, with the first layer that uses it; empty if none.

    Args:
        program: what it converted.
        error: its error; the causes are read too.
    """
    said = ""
    cause: BaseException | None = error
    while cause is not None:
        said += f"{cause}\n"
        cause = cause.__cause__
    found = _EXPORTED.search(said)
    if found is None:
        return ""
    return operator_place(program, found[found.lastindex or 0])


def operator_place(program: torch.export.ExportedProgram, name: str) -> str:
    """An operator, e.g. ``"aten.sort"``, with the first layer of an exported program that uses it."""
    for node in program.graph.nodes:
        if node.op == "call_function" and f"{node.target}.".startswith(f"{name}."):
            layers = list(node.meta.get("nn_module_stack", {}).values())
            return _words(name, layers[-1][0] if layers else "")
    return _words(name, "")


def _words(operator: str, layer: str) -> str:
    return f"it has no {operator}" + (f", which the layer {layer.removeprefix(_ROOT)} uses" if layer else "")
