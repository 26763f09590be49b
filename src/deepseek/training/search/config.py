"""What a search tries, and for how long."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Part):
    """Numbers from ``low`` to ``high``, both included; whole numbers if both (and the step) are."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="Draw evenly in the logarithm: for learning rates and the like.")
    step: int | float | None = Field(None, gt=0, description="Distance of neighbours; null: any number.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"expected low < high, received {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"expected low > 0 with log, received {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self

    @property
    def whole(self) -> bool:
        """Whether the numbers are integers."""
        return all(isinstance(v, int) for v in (self.low, self.high, 1 if self.step is None else self.step))


class Choices(_Part):
    """One of some values, of any kind that JSON has."""

    choices: list[Any] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(a == b and type(a) is type(b) for i, a in enumerate(self.choices) for b in self.choices[:i]):
            raise ValueError(f"expected choices that differ, received {self.choices}")
        return self


class SearchConfig(_Part):
    """A search: which settings, how many trials, how they are picked and given up."""

    parameters: dict[str, Range | Choices] = Field(
        min_length=1, description="Dotted paths into the recipe, such as training.learning_rate or adapter.r."
    )
    trials: int = Field(20, ge=1, description="Trials that are run to an end, those pruned or failed included.")
    timeout: float | None = Field(None, gt=0, description="Seconds after which no further trial starts.")
    metric: str | None = Field(None, description="What is optimised; null: the task's main metric.")
    direction: Literal["maximize", "minimize"] | None = Field(None, description="null: as the task says.")
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe",
        description="tpe: where good trials lie close (Bergstra et al. 2011); grid: every combination, ranges need a "
        "step or whole numbers.",
    )
    pruner: Literal["median", "hyperband", "none"] = Field(
        "median",
        description="Give up a trial that is worse than the median of the others at the same step, or by successive "
        "halving (Li et al. 2018); none: never.",
    )
    startup_trials: int = Field(5, ge=0, description="Trials before any is pruned by the median.")
    warmup_steps: int = Field(0, ge=0, description="Steps of a trial before it can be pruned by the median.")
    seed: int = Field(0, ge=0, lt=2**31)
    launcher: Literal["local", "ray"] = Field("local", description="local: this machine; ray: Ray Tune on a cluster.")
    address: str | None = Field(None, description="Ray cluster; null: the one that is running, or a local one.")
    parallel: int = Field(1, ge=1, description="Trials at once; more than one run in processes of their own.")
    cores: float = Field(1, gt=0, description="CPU cores that a trial asks Ray for.")
    gpus: float = Field(0, ge=0, description="GPUs that a trial asks Ray for.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sampler == "grid":
            for path, values in self.parameters.items():
                if isinstance(values, Range) and values.step is None and not (values.whole and not values.log):
                    raise ValueError(f"sampler grid needs a step, whole numbers or choices for {path}")
        if self.address is not None and self.launcher != "ray":
            raise ValueError("address is for launcher: ray")
        return self
