"""oneDNN remembers few shapes, unless the user says otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deepseek.models.kernel_caches import SHAPES, VARIABLES

PRODUCTS = """
import ctypes, json, os, torch
from deepseek.models.kernel_caches import bound_kernel_caches

class Heap(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in "arena a b c mapped d e used free keep".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap
if BOUND:
    bound_kernel_caches()
weight = torch.zeros(256, 256, dtype=torch.bfloat16)
torch.zeros(3, 256, dtype=torch.bfloat16) @ weight
before = libc.mallinfo2().used
for rows in range(8, 8 + 3 * 300, 3):
    torch.zeros(rows, 256, dtype=torch.bfloat16) @ weight
print(json.dumps([libc.mallinfo2().used - before, os.environ.get("LRU_CACHE_CAPACITY")]))
"""


def products(*, bound: bool, **environment: str) -> tuple[int, str | None]:
    plain = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS.replace("BOUND", str(bound))], capture_output=True, text=True, check=True,
        timeout=120, env={**plain, **environment},
    )  # fmt: skip
    grown, capacity = json.loads(done.stdout)
    return grown, capacity


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads glibc's heap")
def test_products_of_many_shapes_do_not_fill_the_heap() -> None:
    unbound, _ = products(bound=False)
    if unbound < 30_000_000:
        pytest.skip(f"oneDNN keeps {unbound / 1e6:.0f} MB of 300 shapes on this processor: nothing to bound")
    bound, capacity = products(bound=True)
    assert bound < unbound / 2
    assert capacity == str(SHAPES)


def test_what_the_user_set_stays() -> None:
    _, capacity = products(bound=True, LRU_CACHE_CAPACITY="500")
    assert capacity == "500"


def test_loading_a_model_bounds_them(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek.models import from_pretrained

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert isinstance(from_pretrained("all-minilm-l6-v2"), torch.nn.Module)
    assert [os.environ[name] for name in VARIABLES] == [str(SHAPES)] * 2
