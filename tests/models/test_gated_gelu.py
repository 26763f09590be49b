"""``gelu(gate) * up`` in C: what PyTorch computes, to the digits of the precision."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from deepseek.models.deepseek_base.gated_gelu import SOURCES, gated_gelu, native_gates

MISSING = SOURCES[torch.float32].missing()


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "runs here")
@pytest.mark.parametrize("count", [1, 31, 40_000, 100_003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_pytorchs_to_the_digits_of_the_precision(count, dtype):
    torch.manual_seed(0)
    gate = torch.cat([torch.linspace(-12, 12, count), torch.tensor([0.0, -0.0, 1e4, -1e4])]).to(dtype)
    up = torch.randn(count + 4).to(dtype)
    want = functional.gelu(gate.double()) * up.double()
    with torch.inference_mode():
        assert native_gates(gate, up)
        have = gated_gelu(gate, up)
    assert have.dtype == dtype
    near = {"atol": 2e-6, "rtol": 1e-6} if dtype == torch.float32 else {"atol": 1e-6, "rtol": 2**-8}
    torch.testing.assert_close(have.double(), want, **near)


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "runs here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_so(dtype):
    gate = torch.tensor([float("nan"), float("inf"), *[0.5] * 20], dtype=dtype)
    with torch.no_grad():
        found = gated_gelu(gate, torch.ones_like(gate))
    assert found.isnan().tolist() == gate.isnan().tolist()
    assert found[1] == torch.inf  # PyTorch's own vectors give nan there, and infinity one by one


def test_gradients_graphs_and_other_numbers_are_pytorchs(monkeypatch):
    gate, up = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    assert not native_gates(gate, up)
    gated_gelu(gate, up).sum().backward()
    assert gate.grad is not None
    with torch.no_grad():
        assert not native_gates(gate.double(), up.double())
        assert not native_gates(gate, up.bfloat16())
        assert not native_gates(gate.T, up.T)
        torch.testing.assert_close(gated_gelu(gate.T, up.T), functional.gelu(gate.T) * up.T)
        with FakeTensorMode() as fakes:
            fake = fakes.from_tensor(up)
            assert not native_gates(fake, fake)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not native_gates(gate.detach(), up)
