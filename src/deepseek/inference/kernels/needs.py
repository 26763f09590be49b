"""Whether Triton is here."""

from __future__ import annotations

from importlib.util import find_spec

from deepseek.errors import MissingExtraError


def need_triton() -> None:
    """See whether Triton can be imported; it is not imported.

    Raises:
        MissingExtraError: it cannot.
    """
    if find_spec("triton") is None:
        raise MissingExtraError(
            "kernels on a GPU need Triton, which PyTorch's CUDA and ROCm builds bring on Linux; install it with: "
            "pip install triton"
        )
