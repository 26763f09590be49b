"""Refusals."""

from typing import Any


class VLLMValidationError(Exception):
    """No ValueError, as in 0.33."""

    def __init__(self, message: str, *, parameter: str | None = None, value: Any = None) -> None:
        super().__init__(message)
        self.parameter, self.value = parameter, value
