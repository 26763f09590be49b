"""Damaged and unfitting GGUF files: a typed error with the file, what was expected and what came; nothing is written."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepseek.errors import ConfigError
from deepseek.models.gguf import converted
from deepseek.models.gguf.header import read_header

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refused(path: Path, cache: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        converted(path)
    assert not cache.exists()
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_cut_file_says_where_it_ends(write_gguf: Write, cache: Path) -> None:
    path = write_gguf()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert re.search(
        rf"expected \S+ in the bytes \d+ to \d+, but the file ends after {len(whole) - 1} bytes", refused(path, cache)
    )
    last = max(tensor.start for tensor in read_header_of(whole, path).values())
    for length in [4, 5, 8, 16, 23, 24, 31, *range(40, last, last // 60)]:
        path.write_bytes(whole[:length])
        assert f"the file ends after {length} bytes" in refused(path, cache)


def read_header_of(data: bytes, path: Path) -> dict[str, Any]:
    other = path.with_name("whole.gguf")
    other.write_bytes(data)
    return read_header(other).tensors


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (4, struct.pack("<I", 1), "expected version 2 or 3, received 1"),
        (4, struct.pack(">I", 3), "big-endian"),
        (8, b"\xff" * 8, "expected 1 to 4 dimensions of ''"),
        (16, b"\xff" * 8, "metadata"),
        (24, b"\xff" * 8, "a metadata key"),
        (32, b"\xff", "expected UTF-8 text as a metadata key"),
        (32, b"general.architecturX", "received none"),
        (52, struct.pack("<I", 99), "type of the value of general.architecture, received number 99"),
    ],
)
def test_damaged_bytes_of_the_head(write_gguf: Write, cache: Path, place: int, value: bytes, said: str) -> None:
    path = write_gguf()
    data = bytearray(path.read_bytes())
    assert data[32:52] == b"general.architecture"
    data[place : place + len(value)] = value
    path.write_bytes(data)
    assert said in refused(path, cache)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (-12, struct.pack("<I", 77), "expected a known ggml type of output_norm.weight, received number 77"),
        (-8, struct.pack("<Q", 3), "expected output_norm.weight at a multiple of 32 bytes, received offset 3"),
        (-8, struct.pack("<Q", 1 << 40), "but the file ends after"),
        (-20, struct.pack("<Q", 1 << 50), "but the file ends after"),
        (-24, struct.pack("<I", 9), "expected 1 to 4 dimensions of 'output_norm.weight', received 9"),
    ],
)
def test_damaged_bytes_of_the_tensor_table(write_gguf: Write, cache: Path, field: int, value: bytes, said: str) -> None:
    path = write_gguf()
    data = bytearray(path.read_bytes())
    name = b"output_norm.weight"
    end = data.index(name) + len(name) + 4 + 8 + 4 + 8  # dimensions, one length, type, offset
    data[end + field : end + field + len(value)] = value
    path.write_bytes(data)
    assert said in refused(path, cache)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"leave_out": "blk.1.attn_k.weight"},
            "tensors of LlamaForCausalLM are missing: model.layers.1.self_attn.k_proj",
        ),
        (
            {"extra": {"blk.0.attn_q.bias": (64,)}},
            "has tensors that LlamaForCausalLM has no place for: blk.0.attn_q.bias",
        ),
        ({"extra": {"blk.0.attn_q.weight": (32, 64)}}, r"blk.0.attn_q.weight: expected (64, 64), received (32, 64)"),
        ({"leave_out": "llama.embedding_length"}, "whole number under each of llama.embedding_length"),
        ({"architecture": "no-such"}, "no-such"),
        ({"metadata": {"llama.expert_count": 8}, "leave_out": "blk.0.ffn_up.weight"}, "no weights for"),
        ({"kinds": {"ffn_down.weight": "Q8_K"}}, "Q8_K"),
    ],
)
def test_files_that_do_not_fit_their_own_words(
    write_gguf: Write, cache: Path, options: dict[str, Any], said: str
) -> None:
    assert said in refused(write_gguf(**options), cache)
