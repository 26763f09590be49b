"""What a device does at most: measured in a moment, kept, and found again by the hardware that it belongs to only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from deepseek.errors import ConfigError
from deepseek.inference.hardware import HardwarePeaks, kept, measure, peaks
from deepseek.inference.hardware import kept_peaks as keeping

MOMENT = 0.2


@pytest.fixture(scope="module", autouse=True)
def _modest(one_thread: None) -> Iterator[None]:
    """The cores are others' as well, and so is the memory: three arrays of four caches may be gigabytes."""
    from deepseek.inference.hardware import bandwidth

    patch = pytest.MonkeyPatch()
    patch.setattr(bandwidth, "CACHES", 2)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def measured() -> HardwarePeaks:
    return measure("cpu", seconds=MOMENT)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path))
    return tmp_path / "hardware"


@pytest.fixture
def counted(measured: HardwarePeaks, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The budgets of the measurements that were begun; each answers at once with one made before."""
    begun: list[float] = []

    def at_once(device: str, *, seconds: float) -> HardwarePeaks:
        begun.append(seconds)
        return measured

    monkeypatch.setattr(keeping, "measure", at_once)
    return begun


def test_a_cpu_is_measured_in_every_precision_and_through_its_memory(measured: HardwarePeaks) -> None:
    assert measured.device == "cpu"
    assert measured.name
    assert measured.threads == 1
    assert measured.torch == str(torch.__version__)
    assert {"float32", "bfloat16"} <= set(measured.products)
    assert {*measured.products, *measured.missing} == {"float32", "bfloat16", "float16", "int8"}
    for peak in measured.products.values():
        assert 0 < peak.tflops < math.inf
        assert all(side >= 256 for side in peak.shape)
    assert set(measured.bandwidth) == {"read", "copy", "triad"}
    for speed in measured.bandwidth.values():
        assert 0 < speed.gb_per_second < math.inf
        assert speed.array_bytes > measured.cache_bytes


def test_only_a_precision_that_is_slower_than_float32_is_called_emulated(measured: HardwarePeaks) -> None:
    float32 = measured.products["float32"]
    assert not float32.emulated
    assert all(peak.tflops < float32.tflops for peak in measured.products.values() if peak.emulated)


def test_measuring_leaves_the_callers_settings_and_random_numbers_alone() -> None:
    before = [torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision]
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    measure("cpu", seconds=0.01)
    assert torch.equal(torch.rand(4), expected)
    assert [torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision] == before


def test_a_precision_that_pytorch_refuses_is_missing_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("int8 is not for you\nsecond line")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    found = measure("cpu", seconds=0.01)
    assert found.missing["int8"] == "int8 is not for you"
    assert "int8" not in found.products


def test_what_was_measured_is_found_again(cache: Path, counted: list[float], measured: HardwarePeaks) -> None:
    assert kept("cpu") is None
    assert peaks("cpu", seconds=MOMENT) == measured
    assert peaks("cpu") == kept("cpu") == measured
    assert counted == [MOMENT]
    assert len(list(cache.iterdir())) == 1
    peaks("cpu", refresh=True, seconds=1)
    assert counted == [MOMENT, 1]
    assert len(list(cache.iterdir())) == 1


def test_it_is_not_found_by_another_number_of_threads(cache: Path, counted: list[float]) -> None:
    peaks("cpu", seconds=MOMENT)
    torch.set_num_threads(2)
    try:
        assert kept("cpu") is None
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("field", ["name", "torch", "cache_bytes", "system"])
def test_a_file_of_other_hardware_in_its_place_is_not_taken(cache: Path, counted: list[float], field: str) -> None:
    peaks("cpu")
    (file,) = cache.iterdir()
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, field: 1 if field == "cache_bytes" else "another"}))
    assert kept("cpu") is None
    peaks("cpu")
    assert len(counted) == 2
    assert kept("cpu") is not None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"device": "cpu"}', "\x00\xff"])
def test_a_damaged_file_is_measured_anew(cache: Path, counted: list[float], damage: str) -> None:
    peaks("cpu")
    (file,) = cache.iterdir()
    file.write_text(damage, encoding="utf-8")
    peaks("cpu")
    assert len(counted) == 2
    assert kept("cpu") is not None


def test_a_cache_that_cannot_be_written_costs_only_the_keeping(
    tmp_path: Path, counted: list[float], measured: HardwarePeaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "file"))
    assert peaks("cpu") == measured


@pytest.mark.parametrize("device", ["npu", "cuda:99", "rocm", ""])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(device: str) -> None:
    with pytest.raises(ConfigError, match=r"expected one of: auto, cpu"):
        peaks(device)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="positive number of seconds"):
        measure("cpu", seconds=seconds)


def test_too_little_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek.inference.hardware import bandwidth

    monkeypatch.setattr(bandwidth, "free_memory", lambda device: 1 << 20)
    with pytest.raises(ConfigError, match="free memory"):
        measure("cpu", seconds=0.01)


def test_the_command_prints_a_table_and_json_and_keeps_both(cache: Path) -> None:
    from deepseek.cli.app import app

    table = CliRunner().invoke(app, ["bench", "hardware", "--device", "cpu", "--seconds", "0.05"])
    assert table.exit_code == 0, table.output
    for said in ("float32 product", "bfloat16 product", "TFLOP/s", "memory read", "memory triad", "GB/s", "1 thread)"):
        assert said in table.stdout
    as_json = CliRunner().invoke(app, ["bench", "hardware", "--device", "cpu", "--seconds", "0.05", "--json"])
    assert HardwarePeaks.model_validate_json(as_json.stdout) == kept("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_measured(cache: Path) -> None:
    found = measure("cuda", seconds=2)
    assert found.device.startswith("cuda:")
    assert found.threads is None
    assert {*found.products, *found.missing} == {"float32", "tf32", "bfloat16", "float16", "int8", "float8"}
    assert {"float32", "float16"} <= set(found.products)
    assert all(0 < peak.tflops < math.inf for peak in found.products.values())
    assert found.bandwidth["read"].array_bytes > found.cache_bytes
