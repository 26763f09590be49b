"""One line for each request, at level INFO: who, what, how it ended, how long it took. Never what was in it."""

from __future__ import annotations

import logging

logger = logging.getLogger("deepseek.access")


class AccessLog:
    """Writes access lines while the logger ``deepseek.access`` is enabled for INFO."""

    __slots__ = ("enabled",)

    def __init__(self) -> None:
        self.enabled = False
        """Whether lines are written: what a request asks, so that a silent log costs it one comparison."""

    def renew(self) -> None:
        """Ask the logger again whether lines are written."""
        self.enabled = logger.isEnabledFor(logging.INFO)

    def record(
        self,
        *,
        request_id: str,
        protocol: str,
        operation: str,
        model: str,
        version: str,
        code: int,
        seconds: float,
        rows: int = 0,
        input_tokens: int = 0,
        output_tokens: int = 0,
        key_id: str = "",
        trace_id: str = "",
    ) -> None:
        """Write one line; ``key_id`` is the key's public identifier."""
        fields: dict[str, object] = {
            "request_id": request_id,
            "protocol": protocol,
            "operation": operation,
            "model": model,
            "version": version,
            "code": code,
            "seconds": round(seconds, 6),
            "rows": rows,
        }
        if input_tokens or output_tokens:
            fields |= {"input_tokens": input_tokens, "output_tokens": output_tokens}
        if key_id:
            fields["key_id"] = key_id
        if trace_id:
            fields["trace_id"] = trace_id
        # Not logger.info: it walks the stack for the caller's line, which is this one each time.
        record = logging.LogRecord(logger.name, logging.INFO, __file__, 0, "request", None, None)
        record.__dict__.update(fields)
        logger.handle(record)
