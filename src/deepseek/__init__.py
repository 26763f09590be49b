"""deepseek: from raw data to a served, monitored model.

Four layers that stand alone and fit together: :mod:`deepseek.data`, :mod:`deepseek.models` (with tasks, bundles and
training), :mod:`deepseek.inference`, :mod:`deepseek.serving`. Importing this package imports none of them; names load
on first use (PEP 562).
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.bundles import Bundle
    from deepseek.data import Table
    from deepseek.inference import Predictor
    from deepseek.models import LoRAConfig, from_pretrained
    from deepseek.recipe import Recipe, load_recipe, run_recipe
    from deepseek.serving import DeepSeekInference, Server

_PUBLIC = {
    "Bundle": "deepseek.bundles",
    "DeepSeekInference": "deepseek.serving",
    "LoRAConfig": "deepseek.models",
    "Predictor": "deepseek.inference",
    "Recipe": "deepseek.recipe",
    "Server": "deepseek.serving",
    "Table": "deepseek.data",
    "from_pretrained": "deepseek.models",
    "load_recipe": "deepseek.recipe",
    "run_recipe": "deepseek.recipe",
}

try:
    __version__ = _version("deepseek")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "Bundle",
    "DeepSeekInference",
    "LoRAConfig",
    "Predictor",
    "Recipe",
    "Server",
    "Table",
    "__version__",
    "from_pretrained",
    "load_recipe",
    "run_recipe",
]


__getattr__ = names_of(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
