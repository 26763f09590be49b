"""Our side: a server through the public API, in a process of its own, until SIGTERM.

    python -m benchmarks.serving_parts.our_server '{"model": "identity", "http_port": 8000, "grpc_port": 8001, ...}'

``model`` is one of the two small ones, or a bundle's folder, which ``runtime`` is for. The file that ``announce`` names
says, once the server is ready, what its clients have to send; keys are stored beside it. The rest is what
:func:`everything_on` takes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving_parts.models import FEATURES, IDENTITY, TABULAR, Model, model_called, width
from deepseek.monitoring.config import MonitoringConfig
from deepseek.monitoring.logs.setup import LogConfig
from deepseek.serving import Server, ServingConfig
from deepseek.serving.access import AccessConfig, AccessControl, Plan
from deepseek.tasks.signature import Field, Signature

BUNDLE = "minilm"
"""The name that a bundle is served under."""
PLAN = "contest"
LIMITS = Plan(requests_per_minute=10**8, inferences_per_day=10**12, tokens_per_day=10**12)
"""Every limit there is, none of them within reach."""


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
    folder: Path,
    *,
    http_port: int,
    grpc_port: int,
    transport: str = "auto",
    tls: Mapping[str, str] | None = None,
    keys: bool = True,
    metrics: bool = True,
) -> tuple[ServingConfig, dict[str, str]]:
    """The configuration that all figures are measured with, and the headers that it wants of clients.

    The one place where ours is configured: keys with a plan whose limits are counted but never reached, metrics and
    model quality, structured logs at warning. All else is as it comes.

    Args:
        folder: where keys and counts are stored.
        tls: paths of ``certificate`` and ``key``.
        keys, metrics: without them, for what they cost.
    """
    access = AccessConfig(
        mode="required" if keys else "off", store=str(folder / "access.sqlite3"), plans={PLAN: LIMITS}
    )
    monitoring = MonitoringConfig(logs=LogConfig(level="warning", format="json")) if metrics else None
    config = ServingConfig.model_validate(
        {
            "http_port": http_port, "grpc_port": grpc_port, "grpc_transport": transport, "tls": tls, "access": access,
            "monitoring": monitoring,
        }
    )  # fmt: skip
    return config, {"authorization": f"Bearer {asyncio.run(_key(access))}"} if keys else {}


async def _key(access: AccessConfig) -> str:
    control = await AccessControl.open(access)
    try:
        return (await control.admin.create("contest", plan=PLAN, models=[IDENTITY, TABULAR, BUNDLE])).key
    finally:
        await control.close()


def loaded(model: str, runtime: str = "auto") -> Any:
    """What is served; ``runtime`` is that of a bundle."""
    if model in (IDENTITY, TABULAR):
        return ArrayModel(model, model_called(model))
    from deepseek.inference import Predictor

    return Predictor.load(model, name=BUNDLE, runtime=runtime)


def main() -> None:
    """Serve what the command line describes."""
    given = json.loads(sys.argv[1])
    announced = Path(given.pop("announce"))
    model, runtime = given.pop("model"), given.pop("runtime", "auto")
    config, headers = everything_on(announced.parent, **given)

    def announce(server: Server) -> None:
        beside = announced.with_suffix(".part")
        beside.write_text(json.dumps({"headers": headers}), encoding="utf-8")
        beside.rename(announced)

    Server(config, [loaded(model, runtime)]).run(on_ready=announce)


if __name__ == "__main__":
    main()
