"""An exported program of PyTorch as ExecuTorch's.

XNNPACK takes what it can. The rest (layer norms, embeddings, masks) runs in ExecuTorch's portable kernels; a program
that needs what neither has is refused here, because ExecuTorch itself finds out when a device loads it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.conversion.locating import exported_place, operator_place

if TYPE_CHECKING:
    import torch


def lowered(program: torch.export.ExportedProgram, name: str) -> Any:
    """An exported program as ExecuTorch's, with XNNPACK where it can.

    Raises:
        ConfigError: an operator has no kernel; the message names it, with its layer where the program still has both.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own code
        try:
            made = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        except Exception as error:  # its passes raise what they like; the user needs the same advice
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise _unable(name, exported_place(program, error) or said) from error
    (plan,) = made.executorch_program.execution_plan
    needed = {f"{each.name}.{each.overload}".removesuffix("."): each.name for each in plan.operators}
    if lacking := needed.keys() - Runtime.get().operator_registry.operator_names:
        names = sorted({needed[each].replace("::", ".") for each in lacking})
        raise _unable(name, "; ".join(operator_place(program, each) for each in names))
    return made


def _unable(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"ExecuTorch cannot express {name}: {why}. The format torch-export and the runtime 'torch' take every operator"
    )
