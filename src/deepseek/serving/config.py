"""How a server listens, batches and shuts down."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deepseek.monitoring.config import MonitoringConfig
from deepseek.serving.access.config import AccessConfig
from deepseek.serving.batching.config import BatchingConfig, BatchLimits
from deepseek.serving.console.config import ConsoleConfig
from deepseek.serving.features.config import FeatureServingConfig
from deepseek.serving.rest.cors import CorsConfig
from deepseek.serving.rest.limits import RestLimits
from deepseek.serving.tls import TlsConfig
from deepseek.serving.workers.config import WorkersConfig


class ServingConfig(BatchLimits):
    """Settings of one server process; raises ``pydantic.ValidationError`` for unknown or impossible values."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on, for both protocols. 0.0.0.0 or :: listens on every interface.",
    )
    http_port: int = Field(default=8000, ge=0, le=65535, description="REST port; 0 picks a free one.")
    grpc_port: int = Field(default=8001, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
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
        description="What speaks gRPC: 'native' (pygrpc-native, in Rust: several times as fast), 'grpcio' (grpc.aio: "
        "the reference, and TLS), or, with 'auto', the native one on loopback where it is installed, without TLS. "
        "Elsewhere it has to be asked for, behind a proxy that bounds messages: it holds one, up to 4 GiB, before it "
        "refuses its size.",
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
        limits = {name: getattr(self, name) for name in BatchLimits.model_fields}
        return BatchingConfig(**limits, timeout_seconds=self.batch_timeout_seconds)
