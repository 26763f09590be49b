"""What can be served: anything that fits :class:`ServedModel`.

Rows are plain mappings from field names to values. A scalar field holds a Python ``str``, ``bytes``, ``bool``, ``int``
or ``float``; a numeric field with a shape arrives as a ``numpy.ndarray`` of the signature's dtype, a string field with
a shape as nested lists. A model may return Python values, nested lists or arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from deepseek.tasks.signature import Signature

Row: TypeAlias = Mapping[str, Any]
Outputs: TypeAlias = list[dict[str, Any]]
Parameters: TypeAlias = Mapping[str, Any]


class ServedModel(Protocol):
    """A loaded model as the server sees it; called from one thread at a time."""

    @property
    def name(self) -> str:
        """The name in URLs, e.g. ``"sentiment"``."""

    @property
    def version(self) -> str:
        """The version in URLs, e.g. ``"1"``."""

    @property
    def task(self) -> str:
        """The task's name, e.g. ``"text-classification"``."""

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of one row's inputs and outputs, and the parameters that a call may set."""

    @property
    def platform(self) -> str:
        """What runs the model, e.g. ``"torch"``."""

    def predict(self, rows: Sequence[Row], parameters: Parameters | None = None) -> Outputs:
        """Return one output row for each input row, in order; blocks.

        Raises a ``ValueError`` derived from :class:`~deepseek.errors.DeepSeekError` for values that it cannot take:
        the client sees its message. Any other exception is our fault: the client sees only that it happened.
        """
