"""Our side: a server through the public API, in a process of its own, until SIGTERM.

    python -m benchmarks.serving_parts.our_server '{"model": "identity", "http_port": 8000, "grpc_port": 8001, ...}'

``model`` is one of the two small ones, or a bundle's folder. The file that ``announce`` names says, once the server is
ready, what its clients have to send.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving_parts.models import FEATURES, IDENTITY, TABULAR, Model, model_called, width
from deepseek.serving import Server, ServingConfig
from deepseek.tasks.signature import Field, Signature

BUNDLE = "minilm"
"""The name that a bundle is served under."""


class ArrayModel:
    """A function on rows of 16 numbers as a served model."""

    def __init__(self, name: str, model: Model) -> None:
        self.name, self.version, self.task, self.platform = name, "1", name, "numpy"
        self.signature = Signature(
            inputs=(Field(name="x", dtype="float32", shape=(FEATURES,)),),
            outputs=(Field(name="y", dtype="float32", shape=(width(name),)),),
        )
        self._model = model

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer a row."""
        import numpy as np

        return [{"y": answer} for answer in self._model(np.stack([row["x"] for row in rows]))]


def everything_on(
    *, http_port: int, grpc_port: int, transport: str = "auto", tls: Mapping[str, str] | None = None
) -> tuple[ServingConfig, dict[str, str]]:
    """The configuration that all figures are measured with, and the headers that it wants of clients.

    The one place where ours is configured. Everything that a production server has belongs here: keys with scopes and
    limits too high to be reached, metrics, structured logs at warning. ``tls`` holds the paths of ``certificate`` and
    ``key``.
    """
    settings: dict[str, Any] = {"http_port": http_port, "grpc_port": grpc_port, "grpc_transport": transport}
    if tls is not None:
        settings["tls"] = dict(tls)
    return ServingConfig(**settings), {}


def without_metrics(config: ServingConfig) -> ServingConfig:
    """The same with metrics off, for what they cost.

    Raises:
        ValueError: this version of the package has none to switch off, so that there is nothing to measure.
    """
    if "metrics" not in ServingConfig.model_fields:
        raise ValueError("ServingConfig has no field 'metrics', so what metrics cost cannot be measured")
    return config.model_copy(update={"metrics": False})


def loaded(model: str, runtime: str = "auto") -> Any:
    """What is served; ``runtime`` is that of a bundle."""
    if model in (IDENTITY, TABULAR):
        return ArrayModel(model, model_called(model))
    from deepseek.inference import Predictor

    return Predictor.load(model, name=BUNDLE, runtime=runtime)


def main() -> None:
    """Serve what the command line describes."""
    given = json.loads(sys.argv[1])
    config, headers = everything_on(
        http_port=given["http_port"],
        grpc_port=given["grpc_port"],
        transport=given.get("transport", "auto"),
        tls=given.get("tls"),
    )
    if not given.get("metrics", True):
        config = without_metrics(config)

    def announce(server: Server) -> None:
        target = Path(given["announce"])
        beside = target.with_suffix(".part")
        beside.write_text(json.dumps({"headers": headers}), encoding="utf-8")
        beside.rename(target)

    Server(config, [loaded(given["model"], given.get("runtime", "auto"))]).run(on_ready=announce)


if __name__ == "__main__":
    main()
