"""What one HTTP client may ask of the server before it has said what it wants."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RestLimits(BaseModel):
    """Bounds on the connections and requests of REST; raises ``pydantic.ValidationError`` for impossible values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    header_timeout_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        description="Longest time, in seconds, that a connection may take to send a request's headers, "
        "and that it may stay open unused.",
    )
    body_timeout_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        description="Longest time, in seconds, that a request's body may take to arrive as a whole (408 after it). "
        "Raise it together with max_body_bytes for slow lines.",
    )
    max_arriving_bytes: int = Field(
        default=1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="Most bytes of the bodies that arrive at the same time, those of up to 64 KiB not counted "
        "(429 with Retry-After beyond it). What has arrived counts towards max_queue_bytes.",
    )
    max_header_bytes: int = Field(
        default=64 * 1024, ge=8192, le=1024 * 1024, description="Largest head of a request, in bytes (431 beyond it)."
    )
    max_form_parts: int = Field(
        default=256, ge=1, le=100_000, description="Most files and fields in one multipart form (413 beyond it)."
    )
    http2: bool = Field(
        default=False,
        description="Speak HTTP/2 as well. A connection that sends nothing is then not closed after "
        "header_timeout_seconds, so let only a proxy of your own connect.",
    )
