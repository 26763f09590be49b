"""Compiles the kernels for GPUs that are not here, and says what the assemblers said of them.

    python ahead.py cuda 90 32          for one target: backend, architecture, threads that run together

A process of its own, because Triton's interpreter, once chosen, is for a whole process. Prints JSON, one object a kernel.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # when it is run by hand

from triton_scripts import taken_by, target_of

from deepseek.inference.kernels import triton_attention, triton_weight_only

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def cases() -> list[tuple[str, Any, dict[str, str], dict[str, Any], dict[str, int]]]:
    """(name, kernel, types of pointers and numbers, constants, options): what a model of 7 billion has, and others."""
    found = []
    for kind in TYPES:
        for group, width in ((4, 128), (1, 64), (8, 256)):
            types = {"q": kind, "k_cache": kind, "v_cache": kind, "block_tables": "i32", "lengths": "i32"}
            for whole in (True, False):
                out = {"out": kind if whole else "fp32", "weight": "fp32"}
                constants = triton_attention.constants_for(group, width, whole=whole, exact=kind == "fp32")
                name = f"attention {kind} group {group} width {width}{' whole' if whole else ''}"
                found.append(
                    (name, triton_attention.partial_kernel, types | out, constants, dict(triton_attention.OPTIONS))
                )
        types = {"partial": "fp32", "weight": "fp32", "out": kind}
        constants = {"DIM": 128, "MOST": triton_attention.MOST_SPLITS}
        found.append((f"reduction {kind}", triton_attention.reduction_kernel, types, constants, {"num_warps": 4}))
        types = {"partial": "fp32", "out": kind}
        found.append((f"sum {kind}", triton_weight_only.sum_kernel, types, {"REDUCED": 256}, {"num_warps": 4}))
        if kind == "fp32":
            continue
        tiling = triton_weight_only.Tiling()
        options = {"num_warps": tiling.warps, "num_stages": tiling.stages}
        for rows in (1, 64):
            shared = {"ROWS": triton_weight_only.padded_rows(rows), "OUTPUTS": tiling.outputs}
            for half in (16, 32, 64):
                types = {"x": kind, "quants": "u8", "scales": "fp16", "zeros": "fp16", "out": "fp32"}
                constants = {**shared, "HALF": half, **triton_weight_only.base_of(TYPES[kind])}
                name = f"int4 {kind} rows {rows} group {2 * half}"
                found.append((name, triton_weight_only.int4_kernel, types, constants, options))
            types = {"x": kind, "quants": "i8", "scales": "fp32", "out": "fp32"}
            constants = {**shared, "INPUTS": triton_weight_only.INT8_INPUTS}
            found.append((f"int8 {kind} rows {rows}", triton_weight_only.int8_kernel, types, constants, options))
    return found


def compiled(
    target: GPUTarget, case: tuple[str, Any, dict[str, str], dict[str, Any], dict[str, int]]
) -> dict[str, Any]:
    """One kernel for one target: which results came out, and what they take."""
    name, kernel, types, constants, options = case
    signature = {}
    for parameter in kernel.params:
        kind = (
            "constexpr" if parameter.is_constexpr else f"*{types[parameter.name]}" if parameter.name in types else "i32"
        )
        signature[parameter.name] = "fp32" if parameter.name == "scale" else kind
    # as at a launch: arrays begin, and rows are, at multiples of 16
    counted = {"splits", "rows", "groups", "tiles"}
    even = [i for i, (key, kind) in enumerate(signature.items()) if kind[0] in "*i" and key not in counted]
    attributes = {(i,): [["tt.divisibility", 16]] for i in even}
    result = triton.compile(ASTSource(kernel, signature, constants, attributes), target=target, options=options)
    return taken_by(name, result)


def main() -> None:
    target = target_of(sys.argv[1:4])
    wanted = sys.argv[4:]
    for case in cases():
        if not wanted or case[0] in wanted:
            print(json.dumps(compiled(target, case)), flush=True)


if __name__ == "__main__":
    main()
