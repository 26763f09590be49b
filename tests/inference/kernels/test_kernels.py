"""The kernels against their references, and the references against PyTorch: on the CPU in Triton's interpreter, on a
GPU as they are. Without a GPU they are also compiled for NVIDIA's and AMD's, as far as the assemblers' results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_cases import ATTENTION, BLOCK, MATMULS, ON_GPU, AttentionCase, MatmulCase, allowed
from triton_scripts import SOURCES, said_by

from deepseek.errors import ConfigError, MissingExtraError
from deepseek.inference.kernels import PackedInt4, decode_attention, pack_int4, pack_int8, weight_only_matmul

HERE = Path(__file__).parent
TRITON = pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    pytest.importorskip("triton")
    said = said_by(HERE / "kernel_cases.py", folder=tmp_path_factory.mktemp("triton"), TRITON_INTERPRET="1")
    return dict(json.loads(said))


@TRITON
@pytest.mark.parametrize("case", [*ATTENTION, *MATMULS], ids=str)
def test_a_kernel_answers_as_its_reference(interpreted: dict[str, float], case: AttentionCase | MatmulCase) -> None:
    assert interpreted[str(case)] <= allowed(case)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", [*ATTENTION, *MATMULS, *ON_GPU], ids=str)
def test_a_kernel_answers_as_its_reference_on_a_gpu(case: AttentionCase | MatmulCase) -> None:
    if isinstance(case, AttentionCase) and case.splits == 0:
        inputs = case.inputs("cuda")
        assert torch.isfinite(decode_attention(*inputs, case.width**-0.5)).all()
    assert case.error("cuda") <= allowed(case)


CASES_AHEAD = (
    "attention fp16 group 4 width 128", "attention bf16 group 4 width 128 whole", "attention fp32 group 1 width 64",
    "reduction bf16", "int4 fp16 rows 1 group 128", "int4 bf16 rows 64 group 32", "int8 bf16 rows 1", "sum bf16",
)  # fmt: skip


@TRITON
@pytest.mark.parametrize(
    ("target", "assembly", "binary"),
    [(("cuda", "90", "32"), "ptx", "cubin"), (("hip", "gfx90a", "64"), "amdgcn", "hsaco")],
    ids=["NVIDIA sm_90", "AMD gfx90a"],
)
def test_kernels_compile_for_gpus_that_are_not_here(
    target: tuple[str, str, str], assembly: str, binary: str, tmp_path: Path
) -> None:
    pytest.importorskip("triton")
    found = [
        json.loads(line) for line in said_by(HERE / "ahead.py", *target, *CASES_AHEAD, folder=tmp_path).splitlines()
    ]
    assert {each["name"] for each in found} == set(CASES_AHEAD)
    for each in found:
        print(each)  # registers and spills, with pytest -rP
        assert assembly in each["results"]
        if binary not in each["results"]:
            continue  # the assembler is not here
        assert each.get("vgpr_spill_count", 0) == each.get("sgpr_spill_count", 0) == 0
        assert each.get("stack", 0) <= 16, each["name"]
        assert each["shared_bytes"] <= 64 << 10, each["name"]  # all that an MI200 has


def dense(case: AttentionCase) -> torch.Tensor:
    """PyTorch's own attention, one sequence at a time, in float64."""
    q, k_cache, v_cache, tables, lengths = case.inputs()
    rows = []
    for row, length in enumerate(lengths.tolist()):
        at = [(int(tables[row, t // BLOCK]), t % BLOCK) for t in range(length)]
        keys, values = (
            torch.stack([cache[block, within] for block, within in at]).double().movedim(0, 1)[None]
            for cache in (k_cache, v_cache)
        )
        rows.append(
            torch.nn.functional.scaled_dot_product_attention(
                q[row][None, :, None].double(), keys, values, enable_gqa=True
            )[0, :, 0]
        )
    return torch.stack(rows)


@pytest.mark.parametrize("case", [case for case in ATTENTION if 0 not in case.lengths][3:12:2], ids=str)
def test_the_reference_attends_as_pytorch(case: AttentionCase) -> None:
    found = decode_attention(*case.inputs(), case.width**-0.5)
    torch.testing.assert_close(found.double(), dense(case), atol=1e-6, rtol=1e-5)


def test_an_empty_place_of_the_batch_is_answered_with_zeros() -> None:
    q, *others, lengths = AttentionCase(heads=4, kv_heads=2, width=64, lengths=(0, 9), splits=1).inputs()
    found = decode_attention(q, *others, lengths, 0.125)
    assert not found[0].any()
    assert found[1].any()


def change(inputs: list[Any], at: int, to: torch.Tensor) -> list[Any]:
    return [to if i == at else tensor for i, tensor in enumerate(inputs)]


def test_what_does_not_fit_together_is_refused() -> None:
    good = list(AttentionCase(heads=4, kv_heads=2, width=64, lengths=(20, 5), splits=1).inputs())
    q, keys, values, tables, lengths = good
    wrong = [
        (change(good, 0, q[:, :3]), "multiple of K"),
        (change(good, 0, q[0]), "queries"),
        (change(good, 1, keys[:-1]), "two caches"),
        (change(change(good, 1, keys[:, :8]), 2, values[:, :8]), str(BLOCK)),
        (change(good, 3, tables[:1]), "block tables"),
        (change(good, 4, lengths.long()), "int32"),
        (change(good, 0, q.half()), "one precision"),
    ]
    for inputs, said in wrong:
        with pytest.raises(ConfigError, match=said):
            decode_attention(*inputs, 0.125)
    odd = AttentionCase(heads=4, kv_heads=2, width=80, lengths=(20,), splits=1).inputs()
    with pytest.raises(ConfigError, match="head dimension"):
        decode_attention(*odd, 0.125)


@pytest.mark.parametrize("group", [32, 64, 128])
def test_four_bits_are_off_by_half_a_step_at_the_most(group: int) -> None:
    weight = torch.randn(48, 256, generator=torch.Generator().manual_seed(1)) * 0.02
    packed = pack_int4(weight, group)
    grouped = weight.view(48, -1, group)
    step = (grouped.amax(-1) - grouped.amin(-1)) / 15
    off = (packed.unpacked() - weight).view(48, -1, group).abs().amax(-1)
    assert (off <= 0.51 * step + 1e-5).all()  # scale and zero are rounded too
    assert (packed.inputs, packed.outputs, packed.group) == (256, 48, group)
    assert packed.bytes == 48 * 256 // 2 + 4 * 48 * 256 // group


def test_fewer_inputs_a_scale_are_more_exact_and_eight_bits_most() -> None:
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(2))
    errors = [float((pack_int4(weight, g).unpacked() - weight).square().mean()) for g in (128, 64, 32)]
    errors.append(float((pack_int8(weight).unpacked() - weight).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 2 * errors[-1]


@pytest.mark.parametrize(
    "row",
    [
        [0.0] * 32,
        [0.75] * 32,
        [-3e-6] * 32,
        [1.0] * 31 + [1.0001],
        [60000.0] * 16 + [-60000.0] * 16,
        [0.0] * 31 + [1e-9],
    ],
    ids=["zeros", "constant", "tiny", "nearly constant", "large", "below float16"],
)
def test_weights_of_odd_groups_stay_near(row: list[float]) -> None:
    weight = torch.tensor([row])
    for found in (pack_int4(weight, 32).unpacked(), pack_int8(weight).unpacked()):
        assert torch.isfinite(found).all()
        spread = float(weight.max() - weight.min())
        assert float((found - weight).abs().max()) <= spread / 29 + float(weight.abs().max()) / 250 + 1e-7


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ConfigError, match="32, 64, 128"):
        pack_int4(torch.ones(2, 128), 100)
    with pytest.raises(ConfigError, match="groups of 128"):
        pack_int4(torch.ones(2, 192), 128)
    with pytest.raises(ConfigError, match="finite"):
        pack_int8(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ConfigError, match="finite"):
        pack_int4(torch.full((1, 32), 1e6), 32)
    with pytest.raises(ConfigError, match=r"\[outputs, inputs\]"):
        pack_int8(torch.ones(2, 2, dtype=torch.int32))
    with pytest.raises(ConfigError, match=r"\[M, 64\]"):
        weight_only_matmul(torch.ones(1, 32), pack_int8(torch.ones(4, 64)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_off_a_gpu_are_those_of_the_unpacked_weights(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(3)
    weight, x = torch.randn(24, 96, generator=draw), torch.randn(3, 96, generator=draw).to(dtype)
    for packed in (pack_int4(weight, 32), pack_int8(weight)):
        found = weight_only_matmul(x, packed)
        assert found.dtype == dtype
        expected = x.float() @ packed.unpacked().T
        torch.testing.assert_close(found.float(), expected, atol=2e-2 * float(expected.abs().max()), rtol=0)


def test_a_gpu_without_triton_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek.inference.kernels import needs

    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install triton"):
        needs.need_triton()


def test_packing_imports_no_triton() -> None:
    code = (
        "import sys; from deepseek.inference.kernels import pack_int4, decode_attention; import torch;"
        "pack_int4(torch.ones(2, 32), 32); assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(SOURCES)}, check=True)


def test_four_bits_move_to_another_device_whole() -> None:
    packed = pack_int4(torch.ones(2, 32), 32).to("meta")
    assert isinstance(packed, PackedInt4)
    assert {t.device.type for t in (packed.quants_GNH, packed.scales_GN, packed.zeros_GN)} == {"meta"}
