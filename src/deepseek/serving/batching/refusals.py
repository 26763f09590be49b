"""What a batcher says to the requests that it does not answer."""

from __future__ import annotations

from deepseek.serving.batching.config import BatchingConfig
from deepseek.serving.batching.waiting import WaitingRows
from deepseek.serving.errors import DeadlineError, QueueFullError, RequestError


def no_room(
    name: str, config: BatchingConfig, waiting: WaitingRows, count: int, size_bytes: int, seconds: float
) -> QueueFullError | RequestError:
    """For ``count`` rows of ``size_bytes``, when there will be room in about ``seconds``, or never."""
    if count > config.max_queue:
        return RequestError(
            f"expected at most {config.max_queue} rows in a request, received {count}; split the request"
        )
    if size_bytes > config.max_queue_bytes:
        return RequestError(
            f"expected at most {config.max_queue_bytes} bytes in a request, received {size_bytes}; split the request"
        )
    if waiting.rows + count > config.max_queue:
        full = f"{waiting.rows} rows waiting of at most {config.max_queue}, no room for {count} more"
    else:
        full = f"{waiting.size_bytes} bytes waiting of at most {config.max_queue_bytes}, no room for {size_bytes} more"
    return QueueFullError(f"model {name!r} has {full}; retry later", retry_after=seconds)


def too_late(name: str) -> DeadlineError:
    """For a request whose deadline has come."""
    return DeadlineError(f"model {name!r} did not answer before the request's deadline")
