"""The kernels of gated block attention against the reference: on the CPU in Triton's interpreter, on a GPU as they are.
Without a GPU they are also compiled for NVIDIA's and AMD's, as far as the assemblers' results.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from attention_kernel_cases import LARGE, SMALL, Case, allowed, every_far_block
from hypothesis import given, settings
from hypothesis import strategies as st
from triton_scripts import SOURCES, said_by

from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.kernels import available
from deepseek.models.attention.kernels.lists import Entries, Picks, Segments, Slots, bucket_of
from deepseek.models.attention.kernels.tiling import ranges
from deepseek.models.attention.sparse import sparse_attention

HERE = Path(__file__).parent
TRITON = pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    pytest.importorskip("triton")
    said = said_by(HERE / "attention_kernel_cases.py", folder=tmp_path_factory.mktemp("triton"), TRITON_INTERPRET="1")
    return dict(json.loads(said))


@TRITON
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_outputs_and_gradients_are_those_of_the_reference(interpreted: dict[str, dict[str, float]], case: Case) -> None:
    errors = interpreted[str(case)]
    assert set(errors) == {"out", "q", "k", "v", "s", "r"}
    assert max(errors.values()) <= allowed(case), errors


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", [*SMALL, *LARGE], ids=str)
def test_outputs_and_gradients_are_those_of_the_reference_on_a_gpu(case: Case) -> None:
    errors = case.errors("cuda")
    assert max(errors.values()) <= allowed(case), errors


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits_twice() -> None:
    layout = BlockLayout(width=64)
    draw = torch.Generator("cuda").manual_seed(5)
    q, k, v = (torch.randn(1, 2, 4096, 64, device="cuda", dtype=torch.bfloat16, generator=draw) for _ in "qkv")
    s = torch.randn(1, 2, 64, 48, device="cuda", dtype=torch.bfloat16, generator=draw)
    r = torch.randn(2, 40, 48, device="cuda", dtype=torch.bfloat16, generator=draw)
    runs = []
    for _ in range(2):
        inputs = [x.clone().requires_grad_() for x in (q, k, v, s, r)]
        out = sparse_attention(*inputs, layout, scale=0.125)
        runs.append([out, *torch.autograd.grad(out.sum(), inputs)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


TARGETS = {
    "NVIDIA sm_90": (("cuda", "90", "32"), "ptx", "cubin"),
    "AMD gfx90a": (("hip", "gfx90a", "64"), "amdgcn", "hsaco"),
    "AMD gfx942": (("hip", "gfx942", "64"), "amdgcn", "hsaco"),
}
MOST_STACK = 48
"""Bytes of a thread: what is spilled, a dozen numbers at the most."""
MOST_SHARED = {"cuda": 227 << 10, "hip": 64 << 10}
"""Bytes: of an H100, and of an MI200."""


def check_compiled(target: str, words: tuple[str, ...], folder: Path) -> set[str]:
    """Compile the kernels with these words in their names, and hold them against the device's limits."""
    pytest.importorskip("triton")
    arguments, assembly, binary = TARGETS[target]
    found = [
        json.loads(line)
        for line in said_by(HERE / "attention_ahead.py", *arguments, *words, folder=folder).splitlines()
    ]
    for each in found:
        print(target, each)  # registers and spills, with pytest -rP
        assert assembly in each["results"]
        if binary not in each["results"]:
            continue  # the assembler is not here
        assert each.get("vgpr_spill_count", 0) <= MOST_STACK // 4, each["name"]
        assert each.get("stack", 0) <= MOST_STACK, each["name"]
        assert each["shared_bytes"] <= MOST_SHARED[arguments[0]], each["name"]
    return {each["name"].split()[0] for each in found}


OF_TOKENS = {"forward", "picks", "queries", "keys"}
"""Kernels with all their parts: these have what query blocks that choose together need, and more."""


@TRITON
@pytest.mark.parametrize(("target", "width"), [("NVIDIA sm_90", "64"), ("AMD gfx90a", "32"), ("AMD gfx942", "32")])
def test_kernels_compile_for_gpus_that_are_not_here(target: str, width: str, tmp_path: Path) -> None:
    assert check_compiled(target, ("tokens", "bf16", width, "64-48-64"), tmp_path) == OF_TOKENS


@TRITON
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_of_all_shapes_compile_for_gpus_that_are_not_here(target: str, kind: str, tmp_path: Path) -> None:
    assert check_compiled(target, (kind,), tmp_path) == OF_TOKENS | {"delta", "segments"}


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.integers(1, 300), causal=st.booleans(), local=st.integers(0, 2), sinks=st.integers(0, 3),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_lists_by_key_have_what_lists_by_query_have(
    tokens: int, causal: bool, local: int, sinks: int, seed: int
) -> None:
    layout = BlockLayout(width=16, causal=causal, local=local, sinks=sinks)
    blocks, groups = layout.blocks(tokens), 3
    draw = torch.Generator().manual_seed(seed)
    chosen = every_far_block(layout, blocks).expand(groups, -1, -1)
    chosen = torch.where(torch.rand(chosen.shape, generator=draw) < 0.5, chosen, -1)
    slots = Slots.of(layout, blocks, groups, chosen, CPU)
    buckets = bucket_of(layout, blocks, CPU)
    entries = Entries.of(slots, buckets)
    expected = set()
    for group in range(groups):
        for own in range(blocks):
            near = [own + d for d in range(-local, (0 if causal else local) + 1) if 0 <= own + d < blocks]
            far_sinks = [b for b in range(min(sinks, blocks)) if b not in near and (b < own or not causal)]
            keys = [*near, *far_sinks, *(b for b in chosen[group, own].tolist() if b >= 0)]
            assert sorted(slots.slots[group, own, : slots.counts[group, own]].tolist()) == sorted(keys)
            expected |= {(group, own, key, key in near) for key in keys}
    found = []
    for line in range(groups * blocks):
        for near in (False, True):
            begin, end = entries.starts[2 * line + near : 2 * line + near + 2].tolist()
            found += [(line // blocks, own, line % blocks, near) for own in entries.entries[begin:end].tolist()]
    assert len(found) == len(expected)
    assert set(found) == expected


@settings(deadline=None, max_examples=60)
@given(tokens=st.integers(1, 60), picks=st.integers(1, 4), blocks=st.integers(1, 9), seed=st.integers(0, 99))
def test_picks_are_sorted_by_block(tokens: int, picks: int, blocks: int, seed: int) -> None:
    chosen = torch.randint(-1, blocks, (2, tokens, picks), generator=torch.Generator().manual_seed(seed))
    found = Picks.of(chosen, blocks)
    for group in range(2):
        for block in range(blocks):
            begin, end = found.starts[group, block : block + 2].tolist()
            pairs = (chosen[group].flatten() == block).nonzero().flatten().tolist()
            assert found.order[group, begin:end].tolist() == pairs
            assert found.counts()[group, block] == len(pairs)


@settings(deadline=None, max_examples=100)
@given(
    tiles=st.lists(st.integers(0, 40), min_size=1, max_size=30), longest=st.integers(1, 12), slack=st.integers(0, 50)
)
def test_segments_cover_each_list_once(tiles: list[int], longest: int, slack: int) -> None:
    found = Segments.of(torch.tensor(tiles), longest, sum(tiles) + slack)
    covered = [0] * len(tiles)
    for program, owner in enumerate(found.owner.tolist()):
        if owner < len(tiles):
            segment = program - int(found.first[owner])
            assert 0 <= segment < found.number[owner]
            covered[owner] += min(tiles[owner] - segment * longest, longest)
    assert covered == tiles
    spilled = [
        int(found.spill[line]) + n
        for line in range(len(tiles))
        if found.number[line] > 1
        for n in range(found.number[line])
    ]
    assert spilled == list(range(len(spilled)))
    assert len(spilled) <= found.rows


@given(features=st.integers(1, 128))
def test_ranges_of_features_are_powers_of_two_that_hold_them(features: int) -> None:
    first, rest = ranges(features)
    assert features <= first + rest <= max(16, 1 << (features - 1).bit_length())
    assert first >= 16
    assert rest == 0 or rest >= 16
    assert first & (first - 1) == rest & (rest - 1) == 0


def inputs(width: int = 32, features: int = 32, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    layout = BlockLayout(width=width)
    q, k, v = (torch.zeros(1, 2, 64, features, dtype=dtype) for _ in "qkv")
    return [q, k, v, torch.zeros(2, layout.sides * layout.buckets, features, dtype=dtype)]


@pytest.mark.parametrize(
    ("width", "features", "dtype", "scale", "said"),
    [
        (48, 32, torch.float32, 0.1, "16, 32, 64 or 128 tokens"),
        (256, 32, torch.float32, 0.1, "16, 32, 64 or 128 tokens"),
        (64, 160, torch.bfloat16, 0.1, "128 features"),
        (64, 32, torch.float64, 0.1, "float16, bfloat16 or float32"),
        (128, 128, torch.float32, 0.1, "in float32"),
        (64, 32, torch.bfloat16, -0.1, "scale above 0"),
    ],
)
def test_what_the_kernels_do_not_take_is_said(
    width: int, features: int, dtype: torch.dtype, scale: float, said: str
) -> None:
    pytest.importorskip("triton")
    found = available.why_not(*inputs(width, features, dtype), BlockLayout(width=width), scale)
    assert found is not None
    assert said in found


def test_what_the_kernels_take_has_nothing_in_its_way() -> None:
    pytest.importorskip("triton")
    assert available.why_not(*inputs(64, 80, torch.bfloat16), BlockLayout(width=64), 0.1) is None
    assert available.why_not(*inputs(128, 128, torch.float16), BlockLayout(width=128), 0.1) is None


def test_a_gpu_without_triton_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class OnGpu(torch.Tensor):
        is_cuda = True

    monkeypatch.setattr(available, "find_spec", lambda name: None)
    available._say.cache_clear()
    q, *others = inputs()
    layout = BlockLayout(width=32)
    with caplog.at_level(logging.WARNING, logger="deepseek.models"):
        assert not available.kernels_take(q, *others, layout, 0.1)
        assert not caplog.records
        for _ in range(2):
            assert not available.kernels_take(q.as_subclass(OnGpu), *others, layout, 0.1)
    assert len(caplog.records) == 1
    assert "pip install triton" in caplog.text


def test_attention_off_a_gpu_imports_no_triton() -> None:
    code = (
        "import sys, torch; from deepseek.models.attention.blocks import BlockLayout;"
        "from deepseek.models.attention.sparse import sparse_attention;"
        "x = torch.ones(1, 1, 40, 8); s = torch.ones(1, 1, 3, 4); r = torch.ones(1, 40, 4);"
        "sparse_attention(x, x, x, s, r, BlockLayout(width=16), scale=1.0); assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(SOURCES)}, check=True)
