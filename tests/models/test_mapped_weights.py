"""Pages of a checkpoint's file are given up and come back; pages that were written to are left alone."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from deepseek.models import from_pretrained
from deepseek.models.mapped_weights import mappings, release

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mappings are read from Linux's /proc")


def resident_file_bytes(path: Path) -> int:
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = str(path) in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    tensors = {"a": torch.randn(1000, 1000), "b": torch.randn(500, 1000)}
    save_file(tensors, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors", tensors


def test_pages_are_given_up_and_read_again(stored: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, tensors = stored
    loaded = load_file(path)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)  # reads every page
    before = resident_file_bytes(path)
    files = [file for file in mappings() if file.path == str(path)]
    if not files:
        pytest.skip("safetensors does not map files here")
    assert before >= 5_000_000
    assert release(loaded.values(), files) >= 5_000_000
    assert resident_file_bytes(path) < before / 10
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_mapping_that_was_written_to_is_left_alone(stored: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, tensors = stored
    loaded = load_file(path)
    try:
        loaded["a"].mul_(2)
    except RuntimeError:
        pytest.skip("safetensors maps files for reading only here")
    assert not any(file.clean for file in mappings() if file.path == str(path))
    release(loaded.values(), mappings())
    assert torch.equal(loaded["a"], tensors["a"] * 2)


def test_tensors_elsewhere_are_left_alone(stored: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, _ = stored
    loaded = load_file(path)
    own = torch.randn(1000, 1000)
    copy = own.clone()
    assert release([own], mappings()) == 0
    assert torch.equal(own, copy)
    del loaded


def test_a_trunk_that_is_narrowed_leaves_its_file_and_comes_back_exactly(minilm: Path, tmp_path: Path) -> None:
    from deepseek.models import LoRAConfig
    from deepseek.training.frozen import prepare_trunk

    own = shutil.copytree(minilm, tmp_path / "model")  # other models of this session map the shared file as well
    model: Any = from_pretrained(own, head="sequence-classification", num_labels=2)
    model.add_adapter("a", LoRAConfig(r=2))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    touched = resident_file_bytes(own / "model.safetensors")
    trunk = prepare_trunk(model, dropout=0.0, precision="bfloat16", folder=tmp_path)
    assert trunk.narrowed > 20_000_000
    if mappings():
        assert trunk.spilled_bytes == 0
        assert resident_file_bytes(own / "model.safetensors") < touched - 70_000_000  # of 90 MB
    assert model.bert.encoder.layer[0].attention.self.query.weight.dtype == torch.bfloat16
    trunk.restore()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_adding_an_adapter_leaves_the_weights_in_their_file(minilm: Path) -> None:
    from deepseek.models import LoRAConfig

    model: Any = from_pretrained("all-minilm-l6-v2", head="sequence-classification", num_labels=2)
    release(model.parameters(), mappings())
    before = resident_file_bytes(minilm / "model.safetensors")
    model.add_adapter("a", LoRAConfig(r=2))
    assert resident_file_bytes(minilm / "model.safetensors") < before + 8_000_000  # of 90 MB


def test_narrow_copies_that_are_set_aside_compute_the_same_from_the_file(minilm: Path, tmp_path: Path) -> None:
    from deepseek.models import LoRAConfig
    from deepseek.training.frozen import prepare_trunk

    model: Any = from_pretrained("all-minilm-l6-v2", head="sequence-classification", num_labels=2)
    model.add_adapter("a", LoRAConfig(r=2, layers=[4, 5]))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trunk = prepare_trunk(model, dropout=0.0, precision="bfloat16", folder=tmp_path)
    batch = {"input_ids": torch.arange(1000, 1024).reshape(2, 12), "attention_mask": torch.ones(2, 12)}
    with torch.no_grad(), trunk.autocast():
        narrow = model.eval()(**batch).logits
    assert trunk.set_aside(model.bert.encoder.layer[:4]) > 10_000_000
    file = minilm / "model.safetensors"
    held = resident_file_bytes(file)
    with torch.no_grad(), trunk.autocast():
        assert torch.equal(model(**batch).logits, narrow)
    read = resident_file_bytes(file) - held
    assert read > 20_000_000  # of 28 MB in four layers
    assert trunk.set_aside(model.bert.encoder.layer[:4]) == 0
    assert resident_file_bytes(file) < held + read / 5  # pages that weights share, and what the system read along
    trunk.restore()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
