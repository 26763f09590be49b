"""Small GGUF files, written with the ``gguf`` library as llama.cpp's converters write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WIDTH, INNER, LAYERS, HEADS, KV_HEADS = 64, 256, 2, 4, 2
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def write_gguf(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a tiny language model; see :func:`write`."""
    pytest.importorskip("gguf")
    return lambda **options: write(tmp_path / "gguf" / "tiny.gguf", **options)


def write(
    path: Path,
    *,
    architecture: str = "llama",
    name: str = "Tiny",
    kinds: dict[str, str] | None = None,
    head_width: int = WIDTH // HEADS,
    tied: bool = False,
    vocabulary: str = "byte-level",
    add_bos: bool = False,
    metadata: dict[str, Any] | None = None,
    leave_out: str | None = None,
    extra: dict[str, tuple[int, ...]] | None = None,
) -> Path:
    """Write a model of random weights (seed 0).

    Args:
        kinds: ggml type by the end of a tensor's name; float32 otherwise.
        metadata: whole numbers and strings to add.
        leave_out: a tensor or a metadata key that is not written.
        extra: shapes of further tensors.
    """
    import gguf

    path.parent.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    tokens = add_vocabulary(writer, vocabulary)
    writer.add_add_bos_token(add_bos)
    settings: dict[str, Any] = {
        "context_length": 512,
        "block_count": LAYERS,
        "embedding_length": WIDTH,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": head_width,
        "rope.dimension_count": head_width,
    }
    for key, value in {f"{architecture}.{k}": v for k, v in settings.items()}.items():
        if key != leave_out:
            writer.add_uint32(key, value)
    writer.add_name(name)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    for key, value in (metadata or {}).items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    random = np.random.default_rng(0)
    for tensor, shape in (shapes_of(architecture, tokens, head_width, tied) | (extra or {})).items():
        kind = next((k for end, k in (kinds or {}).items() if tensor.endswith(end)), "F32")
        if tensor != leave_out:
            add_tensor(writer, tensor, shape, kind, random)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shapes_of(architecture: str, tokens: int, head_width: int, tied: bool) -> dict[str, tuple[int, ...]]:
    """Shapes by GGUF's names, rows first."""
    q, kv = HEADS * head_width, KV_HEADS * head_width
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (tokens, WIDTH), "output_norm.weight": (WIDTH,)}
    if not tied:
        shapes["output.weight"] = (tokens, WIDTH)
    for layer in range(LAYERS):
        block: dict[str, tuple[int, ...]] = {
            "attn_norm.weight": (WIDTH,),
            "attn_q.weight": (q, WIDTH),
            "attn_k.weight": (kv, WIDTH),
            "attn_v.weight": (kv, WIDTH),
            "attn_output.weight": (WIDTH, q),
            "ffn_norm.weight": (WIDTH,),
            "ffn_gate.weight": (INNER, WIDTH),
            "ffn_up.weight": (INNER, WIDTH),
            "ffn_down.weight": (WIDTH, INNER),
        }
        if architecture == "qwen2":
            block |= {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
        if architecture == "qwen3":
            block |= {"attn_q_norm.weight": (head_width,), "attn_k_norm.weight": (head_width,)}
        shapes |= {f"blk.{layer}.{end}": shape for end, shape in block.items()}
    return shapes


def add_tensor(writer: Any, name: str, shape: tuple[int, ...], kind: str, random: np.random.Generator) -> None:
    import gguf

    qtype = gguf.GGMLQuantizationType[kind]
    values = random.standard_normal(shape).astype(np.float32)
    if kind.endswith("_K"):  # the library only reads these: any bytes are blocks, those below 0x40 have finite scales
        block, size = gguf.GGML_QUANT_SIZES[qtype]
        data = random.integers(0, 0x40, (shape[0], shape[1] // block * size), dtype=np.uint8)
    else:
        data = gguf.quantize(values, qtype)
    writer.add_tensor(name, data, raw_dtype=qtype)


def add_vocabulary(writer: Any, kind: str) -> int:
    """Add a vocabulary and return its size: bytes with a few merges, or pieces with scores as sentencepiece has them."""
    from gguf import TokenType

    if kind == "byte-level":
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        merges = ["h e", "l l", "he ll", "Ġ t", "Ġt he", "å ¥", "d e"]
        tokens = [*bytes_to_unicode().values(), *(m.replace(" ", "") for m in merges), *CONTROL]
        types = [TokenType.NORMAL] * (len(tokens) - 3) + [TokenType.CONTROL] * 3
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_merges(merges)
        bos, eos = len(tokens) - 2, len(tokens) - 1
    else:
        pieces = ["▁", *"abcdefghijklmnopqrstuvwxyz", "he", "▁t", "▁the", "▁he", "ll", "hell"]
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
        types = [
            TokenType.UNKNOWN,
            *[TokenType.CONTROL] * 2,
            *[TokenType.BYTE] * 256,
            *[TokenType.NORMAL] * len(pieces),
        ]
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))])
        writer.add_unk_token_id(0)
        bos, eos = 1, 2
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)
