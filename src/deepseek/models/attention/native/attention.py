"""One call of the C source: a text's attention to its neighbourhood and to the blocks that were chosen."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from deepseek.models.attention.blocks import BlockLayout
from deepseek.native.library import Source

NEEDS = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
MULTIPLES = {torch.bfloat16: 32, torch.float32: 16}
"""What the features of queries, keys and values have to be a multiple of."""
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]
"""Of :func:`native_attention`, without the layout."""
_NUMBERS = ("groups", "heads", "tokens", "blocks", "width", "features", "content", "values", "slots", "choices",
            "distances", "local", "causal", "threads", "tiles")  # fmt: skip


def sources(file: Path) -> dict[torch.dtype, Source]:
    """A C file, for each precision that it is compiled for."""
    return {torch.bfloat16: Source(file, NEEDS), torch.float32: Source(file, NEEDS, ("WIDE",))}


SOURCES = sources(Path(__file__).with_name("attention.c"))


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS), ("scale", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in "qkv"),
        *((f"{name}_{step}", ctypes.c_int64) for name in "qkv" for step in ("text", "head", "row")),
        ("s", ctypes.c_void_p), ("r", ctypes.c_void_p),
        ("slot", ctypes.c_void_p), ("slots_step", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("choice", "bucket", "hidden", "out")),
        *((f"out_{step}", ctypes.c_int64) for step in ("text", "head", "row")),
        ("mass", ctypes.c_void_p), ("grad", ctypes.c_void_p),
        *((f"grad_{step}", ctypes.c_int64) for step in ("text", "head", "row")),
        *((f"{name}_grad", ctypes.c_void_p) for name in "qkvsr"),
    ]  # fmt: skip


def has_tiles() -> bool:
    """Whether AMX's tiles multiply here."""
    given = SOURCES[torch.bfloat16].function("deepseek_attention_tiles")
    return given is not None and bool(given())


def seen_by_c(x: Tensor) -> bool:
    """Whether the C sources may have such numbers here.

    Not while a graph is traced, operations are counted or tensors are fake: what C does would not be seen, and a fake
    tensor has no numbers.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or is_in_torch_dispatch_mode()
    return not traced and type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu" and x.dtype in SOURCES


def precision_taken(x: Tensor) -> bool:
    """Whether the C sources compute with such numbers here.

    In bfloat16 only with tiles: without them PyTorch spends its time in products, not between.
    """
    if not seen_by_c(x):
        return False
    if x.dtype == torch.bfloat16:
        return has_tiles()
    return PassCall.function(SOURCES[x.dtype], "deepseek_attention") is not None


def native_takes(q: Tensor, v: Tensor, layout: BlockLayout) -> bool:
    """Whether the C source computes attention of these tensors here."""
    return (
        precision_taken(q)
        and layout.width % 32 == 0
        and q.shape[-1] % MULTIPLES[q.dtype] == 0
        and v.shape[-1] % MULTIPLES[v.dtype] == 0
    )


def native_attention(
    q_BHTE: Tensor,
    k_BHTE: Tensor,
    v_BHTD: Tensor,
    s_BHNC: Tensor,
    r_HRC: Tensor,
    chosen: Tensor,
    key_mask_BT: Tensor | None,
    layout: BlockLayout,
    *,
    scale: float,
    tiles: bool = True,
) -> tuple[Tensor, Tensor]:
    """What :mod:`deepseek.models.attention.sparse` gives.

    Returns:
        (B, H, T, D), and the logarithm of each query's sum of exponentials, (B H, N, W) float32.

    Raises:
        MemoryError: there is no room for the keys and values of one head.
    """
    batch, heads, tokens, _ = q_BHTE.shape
    out = torch.empty(batch, tokens, heads, v_BHTD.shape[-1], dtype=q_BHTE.dtype).transpose(1, 2)
    mass = torch.empty(batch * heads, layout.blocks(tokens), layout.width)
    inputs = (q_BHTE, k_BHTE, v_BHTD, s_BHNC, r_HRC, chosen, key_mask_BT)
    call = PassCall(inputs, layout, scale=scale, out=out, mass=mass, tiles=tiles)
    call.made_by(SOURCES[q_BHTE.dtype], "deepseek_attention")
    return out, mass


class PassCall:
    """What a pass over texts hands to C: addresses, and the tensors that own them.

    Args:
        more: further tensors; those in ``stepped`` have the shape (B, H, T, .) and any steps, the others none.
    """

    def __init__(
        self, inputs: Inputs, layout: BlockLayout, *, scale: float, tiles: bool, stepped: Sequence[str] = (),
        **more: Tensor,
    ) -> None:  # fmt: skip
        q, k, v, s, r, chosen, key_mask = inputs
        choices: Tensor | None = chosen.to(torch.int32).contiguous()
        batch, heads, self._tokens, features = q.shape
        blocks = layout.blocks(self._tokens)
        slots, bucket = places(layout, blocks)
        if chosen.shape[2] == blocks and self._tokens != blocks:
            shared = chosen.stride()[:2] == (0, 0)  # one for all texts and heads
            further = chosen[0, 0] if shared else chosen.flatten(0, 1)
            slots, choices = torch.cat([slots.expand(*further.shape[:-1], -1), further], -1), None
        tensors: dict[str, Tensor | None] = {
            "s": s.to(q.dtype).contiguous(),
            "r": r.to(q.dtype).contiguous(),
            "slot": slots.contiguous(),
            "choice": choices,
            "bucket": bucket,
            "hidden": hidden_tokens(key_mask),
            **more,
        }
        steps = {"q": with_rows(q), "k": with_rows(k), "v": with_rows(v), "out": more["out"]}
        steps |= {name: with_rows(more[name]) for name in stepped}
        self._tensors = tensors | steps
        self._call = _Call(
            groups=batch * heads, heads=heads, tokens=self._tokens, blocks=blocks, width=layout.width,
            features=features, content=s.shape[-1], values=v.shape[-1], slots=slots.shape[-1],
            choices=0 if choices is None else choices.shape[-1], distances=r.shape[1], local=layout.local,
            causal=layout.causal, threads=torch.get_num_threads(), tiles=tiles and q.dtype == torch.bfloat16,
            scale=scale,
            slots_step=slots.stride(0) if slots.dim() == 3 else 0,
            **{name: None if x is None else x.data_ptr() for name, x in self._tensors.items()},
            **{f"{name}_{step}": x.stride(at) for name, x in steps.items()
               for at, step in enumerate(("text", "head", "row"))},
        )  # fmt: skip

    @staticmethod
    def function(source: Source, name: str) -> Callable[..., int] | None:
        """A source's function of such calls; ``None`` where it does not run."""
        return source.function(name, _Call)

    def made_by(self, source: Source, name: str) -> None:
        """Call a function of a source that runs here.

        Raises:
            MemoryError: the function says so.
        """
        function = self.function(source, name)
        assert function is not None
        if function(ctypes.byref(self._call)):
            raise MemoryError(f"no memory for attention of {self._tokens:,} tokens")


@lru_cache(maxsize=64)  # of short texts, a score of small operations would take as long as attention does
def places(layout: BlockLayout, blocks: int) -> tuple[Tensor, Tensor]:
    """Near slots, and the buckets of distances from -N to N, of texts of so many blocks."""
    with torch.inference_mode(mode=False):
        distances = torch.arange(-blocks, blocks + 1, device="cpu")
        return layout.near_slots(blocks).contiguous(), layout.bucket(distances).to(torch.int32)


def hidden_tokens(mask: Tensor | None) -> Tensor | None:
    """A mask of tokens as the C sources read it: bytes, 1 for what is none."""
    return None if mask is None else (~mask.bool()).to(torch.uint8).contiguous()


def with_rows(x: Tensor) -> Tensor:
    """The tensor, its last dimension without gaps."""
    return x if x.stride(-1) == 1 else x.contiguous()
