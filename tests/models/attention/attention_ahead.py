"""Compiles the kernels of gated block attention for GPUs that are not here, and says what the assemblers said of them.

    python attention_ahead.py cuda 90 32              for one target: backend, architecture, threads that run together
    python attention_ahead.py hip gfx90a 64 bf16      only those with these words in their names

A process of its own, because Triton's interpreter, once chosen, is for a whole process. Prints JSON, one object a kernel.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # when it is run by hand

from triton_scripts import taken_by, target_of

from deepseek.models.attention.kernels import tiling
from deepseek.models.attention.kernels.forward import forward_kernel, picks_kernel
from deepseek.models.attention.kernels.key_gradients import key_gradients_kernel, segments_kernel
from deepseek.models.attention.kernels.query_gradients import delta_kernel, query_gradients_kernel

KERNELS = {
    "forward": (forward_kernel, tiling.forward),
    "picks": (picks_kernel, tiling.picks),
    "delta": (delta_kernel, tiling.delta),
    "queries": (query_gradients_kernel, tiling.query_gradients),
    "keys": (key_gradients_kernel, tiling.key_gradients),
    "segments": (segments_kernel, tiling.segments),
}
OF_TOKENS = ("forward", "picks", "queries", "keys")
OF_ONE_KIND = (
    "q", "k", "v", "pooled", "distances", "out", "grad", "grad_q", "grad_k", "grad_v", "by_distance", "pick_out",
    "pick_grad",
)  # fmt: skip
FLOATS = ("mass", "delta", "pick_mass", "pick_sum", "grad_pooled", "spilled")
INTEGERS = (
    "slots", "counts", "bucket_of", "order", "starts", "owner", "first", "spill", "entries", "entry_starts", "number",
)  # fmt: skip
OF_PICKS = ("picks", "order", "starts", "pick_out", "pick_mass", "pick_grad", "pick_sum")
SHAPES = (
    (64, 64, 48, 64),
    (64, 80, 64, 64),
    (128, 128, 128, 128),
    (32, 64, 48, 64),
    (128, 64, 48, 64),
    (32, 128, 96, 128),
)
"""Width, and features of queries, of their content and of values."""


def cases(rocm: bool) -> Iterator[tuple[str, str, str, tiling.Shape]]:
    """(name, kernel, kind, shape): without anything to mask, and with all of it where tokens pick blocks."""
    for width, features, content, values in SHAPES:
        for kind in ("bf16", "fp16", "fp32"):
            plain = tiling.Shape(
                width=width, features=features, content=content, values=values, distances=40, causal=False, bound=False,
                masked=False, picks=False, exact=kind == "fp32", rocm=rocm,
            )  # fmt: skip
            if plain.exact and not tiling.fits_exactly(width, features, values, rocm=rocm):
                continue
            tokens = dataclasses.replace(plain, distances=20, causal=True, bound=True, masked=True, picks=True)
            where = f"{kind} {width} {features}-{content}-{values}"
            for name in KERNELS:
                if name != "picks":
                    yield f"{name} blocks {where}", name, kind, plain
                if name in OF_TOKENS:
                    yield f"{name} tokens {where}", name, kind, tokens


def compiled(target: GPUTarget, name: str, which: str, kind: str, shape: tiling.Shape) -> dict[str, Any]:
    """One kernel for one target: which results came out, and what they take."""
    kernel, tiles = KERNELS[which]
    constants, options = tiles(shape)
    types = dict.fromkeys(OF_ONE_KIND, f"*{kind}") | dict.fromkeys(FLOATS, "*fp32") | dict.fromkeys(INTEGERS, "*i32")
    types |= {"mask": "*u8", "picks": "*i16", "slope": "fp32", "scale": "fp32"}
    absent = [*([] if shape.masked else ["mask"]), *([] if shape.picks else OF_PICKS)]
    signature, constants = {}, dict(constants)
    for parameter in kernel.params:
        at = parameter.name
        signature[at] = "constexpr" if parameter.is_constexpr or at in absent else types.get(at, "i32")
        if at in absent:
            constants[at] = None
    # as at a launch: tensors begin, and rows are, at multiples of 16 bytes
    stride = re.compile("(q|k|v|grad)_(batch|head|token)")
    even = [i for i, (at, type_) in enumerate(signature.items()) if type_[0] == "*" or stride.fullmatch(at)]
    attributes = {(i,): [["tt.divisibility", 16]] for i in even}
    begin = time.monotonic()
    result = triton.compile(ASTSource(kernel, signature, constants, attributes), target=target, options=options)
    return taken_by(name, result) | {"seconds": round(time.monotonic() - begin, 1)}


def main() -> None:
    target = target_of(sys.argv[1:4])
    for case in cases(target.backend == "hip"):
        if all(f" {word} " in f" {case[0]} " for word in sys.argv[4:]):
            print(json.dumps(compiled(target, *case)), flush=True)


if __name__ == "__main__":
    main()
