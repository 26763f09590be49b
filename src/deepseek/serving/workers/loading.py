"""In a worker: from a function's name to a model that is loaded and warm."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from deepseek.errors import ConfigError
from deepseek.serving.models.served_model import ServedModel
from deepseek.serving.models.warming import sample, trying

_NEEDED = ("name", "version", "task", "signature", "platform", "predict")


def load(function: str, arguments: Mapping[str, Any]) -> ServedModel:
    """Call ``"package.module:function"`` with the arguments.

    Raises :class:`ConfigError` when there is no such function, or what it returns cannot be served; and whatever it
    raises itself.
    """
    module_name, _, path = function.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"expected an importable loader 'package.module:function', received {function!r}: {error}"
        ) from error
    model = found(**arguments)
    missing = [name for name in _NEEDED if not hasattr(model, name)]
    if missing:
        raise ConfigError(
            f"expected {function!r} to return a model with {', '.join(_NEEDED)}; "
            f"received {type(model).__name__}, which lacks {', '.join(missing)}"
        )
    served: ServedModel = model
    return served


def warm_up(model: ServedModel) -> None:
    """Run one tiny row; raises what :func:`deepseek.serving.models.warming.trying` raises."""
    row, parameters = sample(model.signature)
    with trying(model.name):
        model.predict([row], parameters or None)
