"""Which precisions a device has units for."""

import pytest
import torch

from deepseek.arithmetic import native_precisions, trains_in_bfloat16


@pytest.mark.parametrize(
    ("units", "want"),
    [
        ({}, {"float32"}),
        ({"avx2": True, "avx512_bf16": False}, {"float32"}),
        ({"avx512_bf16": True, "avx512_vnni": True}, {"float32", "bfloat16", "int8"}),
        ({"amx_bf16": True, "amx_fp16": True, "amx_int8": True}, {"float32", "bfloat16", "float16", "int8"}),
        ({"bf16": True, "dot": True}, {"float32", "bfloat16", "int8"}),
    ],
)
def test_a_processor_has_what_its_units_multiply(monkeypatch, units, want):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert native_precisions("cpu") == want


@pytest.mark.parametrize(
    ("capability", "missing"),
    [
        ((5, 2), {"tf32", "bfloat16", "float16", "int8", "float8"}),
        ((7, 5), {"tf32", "bfloat16", "float8"}),
        ((9, 0), set()),
    ],
)
def test_an_nvidia_gpu_has_what_its_capability_says(monkeypatch, capability, missing):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    every = {"float32", "tf32", "bfloat16", "float16", "int8", "float8"}
    assert native_precisions("cuda") == every - missing


def test_training_takes_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert trains_in_bfloat16()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not trains_in_bfloat16()
