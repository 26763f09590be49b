"""From what a person names to what a server serves: generating models on engines of their own, the others behind a
micro-batcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deepseek.errors import ConfigError
from deepseek.serving.models.served_model import ServedModel
from deepseek.serving.workers.config import LoaderSpec


@dataclass(frozen=True, kw_only=True)
class ModelLoader:
    """Loads models to be served.

    Attributes:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        runtime: of models that do not generate; a name of :data:`deepseek.inference.RUNTIMES`, or ``"auto"``.
        core: of generating models; a name of :data:`deepseek.inference.generation.CORES`, or ``"auto"``.
        batch_size: rows that a model sees at once.
        adapters: LoRA folders by the names that they are served under, for generating models.
    """

    device: str = "auto"
    runtime: str = "torch"
    core: str = "torch"
    batch_size: int = 32
    adapters: Mapping[str, Path] = field(default_factory=dict)

    def __call__(self, model: str, name: str | None = None) -> ServedModel:
        """Load a bundle, a model folder, a GGUF file, a hub id or a catalogue name; blocks.

        Raises:
            UnknownNameError, ConfigError, BundleError, FetchError: as the loading of the model does.
        """
        from deepseek.inference.opening import opened

        if opened(model).task.name != "text-generation":
            from deepseek.inference import Predictor

            return Predictor.load(
                model, name=name, device=self.device, batch_size=self.batch_size, runtime=self.runtime
            )
        from deepseek.inference.generation.core import CoreSettings
        from deepseek.serving.generation.generator import ServedGenerator

        settings = CoreSettings(adapters=self.adapters)
        return ServedGenerator.load(model, name=name, core=self.core, device=self.device, settings=settings)

    def spec(self, model: str, name: str, version: str | None = None) -> LoaderSpec | None:
        """How a worker process loads the same; ``None`` for generating models, whose engine stays in the server."""
        from deepseek.inference.opening import opened

        if opened(model).task.name == "text-generation":
            return None
        arguments = {"model": model, "name": name, "version": version, "device": self.device, "runtime": self.runtime}
        return LoaderSpec(
            function="deepseek.inference.predictor:Predictor.load",
            arguments={**arguments, "batch_size": self.batch_size},
        )

    def check(self, models: list[str]) -> None:
        """Raise :class:`ConfigError` when there are adapters, but not exactly one model that they can be for."""
        from deepseek.inference.opening import opened

        if not self.adapters:
            return
        generating = sum(opened(model).task.name == "text-generation" for model in models)
        if generating != 1:
            raise ConfigError(
                "--adapter: expected exactly one text-generation model, which the adapters are for, "
                f"received {generating}"
            )
