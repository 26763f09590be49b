"""vLLM itself: whether it is here and works, and how it is imported.

vLLM reports the model, the GPU and its settings to its makers unless told not to. Nothing that runs here tells anyone,
so it is told before it is imported. It is also told to compute in this process: one of its own would import the program
that runs once more, and would let this one wait where a request could be taken up or cancelled. Whoever sets these
variables otherwise keeps what was set.

This package has no extra for it: vLLM 0.33 wants transformers before 5.21, so that pip finds no set of versions.
"""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from types import ModuleType

from deepseek.errors import ConfigError
from deepseek.inference.runtime import Availability

VARIABLES = {"VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
INSTALL = (
    "vLLM is not installed. It pins other versions than this package (0.33: torch 2.14.0, transformers before 5.21): "
    "in an environment of its own run `pip install vllm`, then `pip install --no-deps deepseek` and what that still "
    "misses"
)


def module(name: str) -> ModuleType:
    """A module of vLLM, say ``"vllm.sampling_params"``.

    Raises:
        ConfigError: vLLM is not installed; the message says how to.
    """
    if find_spec("vllm") is None:
        raise ConfigError(INSTALL)
    for variable, value in VARIABLES.items():
        os.environ.setdefault(variable, value)
    return importlib.import_module(name)


def availability() -> Availability:
    """Whether vLLM is here with a GPU that it knows; never raises."""
    try:
        version = module("vllm").__version__
        platform = module("vllm.platforms").current_platform
        works = bool(platform.is_cuda_alike())
    except ConfigError as error:
        return Availability(False, (), str(error))
    except Exception as error:  # noqa: BLE001 - whatever a library of another build says when it is loaded
        return Availability(False, (), f"vLLM cannot be imported: {type(error).__name__}: {error}")
    if not works:
        return Availability(False, (), f"vLLM {version} sees no NVIDIA or AMD GPU; the core 'torch' runs anywhere")
    import torch

    count = torch.cuda.device_count()
    return Availability(True, tuple(f"cuda:{i}" for i in range(count)), f"vLLM {version}, {count} GPUs")
