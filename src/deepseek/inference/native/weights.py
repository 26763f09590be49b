"""An encoder's weights as the C source reads them: a file of safetensors, beside what tells of them.

Weights are int8 with a scale for each output. Columns of tokens that are large are evened out as SmoothQuant does
(Xiao et al. 2023, arXiv 2211.10438), and what rounding the weights adds to an output on the average is taken off its
bias (Nagel et al. 2019, arXiv 1906.04721).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.conversion.keeping import ABOUT
from deepseek.inference.native.calibration import Seen, seen
from deepseek.inference.native.families import unfit

if TYPE_CHECKING:
    import numpy as np

    from deepseek.inference.recording import Batch
    from deepseek.models.checkpoint import Checkpoint

FILE = "encoder.safetensors"
FORM = "native encoder 1"
"""With a number that is raised when the C source comes to read other files."""
PAIR, DEEP = 32, 64
"""Rows and columns of a matrix are multiples of these."""
PARTS = {
    "qkv": "attention.self.qkv", "output": "attention.output.dense",
    "up": "intermediate.dense", "down": "output.dense",
}  # fmt: skip
NORMS = {"attention": "attention.output.LayerNorm", "feed": "output.LayerNorm"}
EMBEDDINGS = {"words": "word_embeddings", "places": "position_embeddings", "types": "token_type_embeddings"}


def quantized(checkpoint: Checkpoint, head: str, batches: Sequence[Batch], folder: Path) -> None:
    """Write a checkpoint's int8 copy into an empty folder.

    Args:
        batches: what the columns of tokens are evened out by.

    Raises:
        ConfigError: the model has other layers or another head than the C source knows.
    """
    import numpy as np
    from safetensors.numpy import save_file

    from deepseek.models.loading import from_pretrained

    file = checkpoint.path / "config.json"
    given = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if reason := unfit(given, head):
        raise ConfigError(
            f"the runtime 'native' cannot run {checkpoint.name!r}: {reason}. The runtimes 'openvino' and 'torch' can"
        )
    model = from_pretrained(checkpoint, head=head).eval()
    base, config = model.base_model, model.config
    stored = {name: value.detach().float().numpy() for name, value in base.state_dict().items()}
    arrays = {name: stored[f"embeddings.{part}.weight"] for name, part in EMBEDDINGS.items()}
    arrays |= {kind: stored[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias")}
    tokens = seen(base, batches)
    for number in range(config.num_hidden_layers):
        prefix = f"encoder.layer.{number}."
        for kind in ("weight", "bias"):
            parts = [stored.pop(f"{prefix}attention.self.{part}.{kind}") for part in ("query", "key", "value")]
            stored[f"{prefix}{PARTS['qkv']}.{kind}"] = np.concatenate(parts)
        tokens[f"{prefix}{PARTS['qkv']}"] = tokens[f"{prefix}attention.self.query"]
        for name, part in PARTS.items():
            weight, bias = (stored[f"{prefix}{part}.{kind}"] for kind in ("weight", "bias"))
            made = matrix(weight, bias, tokens[f"{prefix}{part}"])
            arrays |= {f"{number}.{name}.{kind}": array for kind, array in made.items()}
        for name, part in NORMS.items():
            arrays |= {f"{number}.{name}.{kind}": stored[f"{prefix}{part}.{kind}"] for kind in ("weight", "bias")}
    for name, module in _head(model, head):
        arrays |= {f"head.{name}.{k}": v.detach().float().numpy() for k, v in module.named_parameters()}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / FILE)
    about = {
        "form": FORM, "head": head,
        "layers": config.num_hidden_layers, "hidden": config.hidden_size, "heads": config.num_attention_heads,
        "inner": config.intermediate_size, "epsilon": config.layer_norm_eps,
        "context_length": config.max_position_embeddings,
        # RoBERTa counts places from the padding token's number on
        "first_place": None if config.model_type == "bert" else config.pad_token_id,
    }  # fmt: skip
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def matrix(weight: np.ndarray[Any, Any], bias: np.ndarray[Any, Any], tokens: Seen) -> dict[str, np.ndarray[Any, Any]]:
    """A linear layer as the C source takes it.

    Args:
        weight: float32 (N, K).
        bias: float32 (N).

    Returns:
        ``data``, int8 (N / 32, K / 64, 2, 16, 64); ``scale`` and ``bias``, float32 (N); ``smooth``, float32 (K), which
        tokens are multiplied by before they are rounded.
    """
    smooth = smoothing(weight, tokens.reach)
    whole, scale = rounded(weight / smooth)
    lost = weight - whole * scale[:, None] * smooth
    return {"data": packed(whole), "scale": scale, "bias": bias + lost @ tokens.mean, "smooth": smooth}


def smoothing(weight: np.ndarray[Any, Any], reach: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Factors for the columns of tokens, float32 (K), as SmoothQuant has them at a strength of a half.

    Args:
        weight: float32 (N, K); its columns are divided by the factors.
        reach: how large tokens get in each column, float32 (K).
    """
    import numpy as np

    factor: np.ndarray[Any, Any] = np.sqrt((np.abs(weight).max(axis=0) + 1e-6) / (reach + 1e-6))
    factor = factor / np.exp(np.log(factor).mean())
    return factor.astype(np.float32)


def rounded(weight: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A float32 matrix (N, K) as int8 (N, K) and a scale for each row, float32 (N)."""
    import numpy as np

    scale = np.abs(weight).max(axis=1) / 127
    scale[scale == 0] = 1
    return np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8), scale.astype(np.float32)


def packed(whole: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An int8 matrix (N, K) as tiles, (N / 32, K / 64, 2, 16, 64): four columns of sixteen rows in each 64 bytes."""
    rows, columns = whole.shape
    parts = whole.reshape(rows // PAIR, 2, 16, columns // DEEP, 16, 4).transpose(0, 3, 1, 4, 2, 5)
    return parts.reshape(rows // PAIR, columns // DEEP, 2, 16, 64)


def _head(model: Any, head: str) -> list[tuple[str, Any]]:
    """The head's linear layers, by what they do: ``pool`` (tanh, on the first token) and ``out``."""
    pooler = getattr(model.base_model, "pooler", None)
    if head == "none":
        return [] if pooler is None or "pooler" in model.fresh_modules else [("pool", pooler.dense)]
    if head == "token-classification":
        return [("out", model.classifier)]
    if pooler is not None:
        return [("pool", pooler.dense), ("out", model.classifier)]
    return [("pool", model.classifier.dense), ("out", model.classifier.out_proj)]
