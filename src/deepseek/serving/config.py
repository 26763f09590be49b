"""How a server listens, batches and shuts down."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deepseek.monitoring.config import MonitoringConfig
from deepseek.serving.access.config import AccessConfig
from deepseek.serving.batching.config import BatchingConfig
from deepseek.serving.console.config import ConsoleConfig
from deepseek.serving.features.config import FeatureServingConfig
from deepseek.serving.rest.cors import CorsConfig
from deepseek.serving.rest.limits import RestLimits
from deepseek.serving.tls import TlsConfig
from deepseek.serving.workers.config import WorkersConfig


class ServingConfig(BaseModel):
    """Settings of one server process; raises ``pydantic.ValidationError`` for unknown or impossible values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on, for both protocols. 0.0.0.0 or :: listens on every interface.",
    )
    http_port: int = Field(default=8000, ge=0, le=65535, description="REST port; 0 picks a free one.")
    grpc_port: int = Field(default=8001, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    max_batch_size: int = Field(
        default=32, ge=1, description="Most rows that a model sees at once. Larger requests are split and re-joined."
    )
    max_batch_delay_ms: float = Field(
        default=2.0,
        ge=0,
        description="Longest time, in milliseconds, that a row waits for company while the model is idle. "
        "A lone client never waits.",
    )
    max_queue: int = Field(
        default=1024,
        ge=1,
        description="Most rows that wait for one model. Beyond it requests are refused at once "
        "(429 with Retry-After, RESOURCE_EXHAUSTED).",
    )
    max_queue_bytes: int = Field(
        default=256 * 1024 * 1024, ge=1024, description="Most bytes that the rows waiting for one model may hold."
    )
    max_batch_cost: int | None = Field(
        default=None, ge=1, description="Most that a batch's rows may cost together, for models that tell it (`cost`)."
    )
    batch_timeout_seconds: float | None = Field(
        default=300.0, gt=0, description="Longest time, in seconds, that a model may work on one batch; null: no limit."
    )
    workers: WorkersConfig = Field(
        default=WorkersConfig(), description="Processes that run each model; none by default, but threads."
    )
    max_body_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Largest request body (REST) and message (gRPC), in bytes."
    )
    tls: TlsConfig | None = Field(
        default=None, description="Certificate and key for both protocols; without it they are spoken in the clear."
    )
    model_control: bool = Field(
        default=False,
        description="Whether clients may load, reload and unload models (Triton's model repository extension).",
    )
    grpc_transport: Literal["auto", "native", "grpcio"] = Field(
        default="auto",
        description="What speaks gRPC: 'native' (pygrpc-native, in Rust), 'grpcio' (grpc.aio: the reference, and TLS), "
        "or, with 'auto', the native one where it is installed and can do what is asked for.",
    )
    access: AccessConfig = Field(
        default_factory=AccessConfig, description="Keys, plans and limits; needed everywhere but on loopback."
    )
    admin_port: int = Field(
        default=8002,
        ge=0,
        le=65535,
        description="Port on loopback where keys are managed, if keys are needed and there is an admin token.",
    )
    console: ConsoleConfig = Field(default=ConsoleConfig(), description="The page at /console.")
    monitoring: MonitoringConfig | None = Field(
        default=MonitoringConfig(), description="What is watched, and how; null watches nothing."
    )
    rest: RestLimits = Field(default_factory=RestLimits, description="Bounds on HTTP connections and requests.")
    cors: CorsConfig = Field(
        default_factory=CorsConfig, description="Which web pages of other origins may use the server; none by default."
    )
    features: FeatureServingConfig | None = Field(
        default=None, description="A feature store to read from under /v1/features and over gRPC."
    )
    drain_seconds: float = Field(
        default=10.0, ge=0, description="Longest time, in seconds, that requests in flight get to finish at shutdown."
    )

    @property
    def batching(self) -> BatchingConfig:
        """The limits of each model's batcher."""
        return BatchingConfig(
            max_batch_size=self.max_batch_size,
            max_batch_cost=self.max_batch_cost,
            max_batch_delay_ms=self.max_batch_delay_ms,
            max_queue=self.max_queue,
            max_queue_bytes=self.max_queue_bytes,
            timeout_seconds=self.batch_timeout_seconds,
        )
