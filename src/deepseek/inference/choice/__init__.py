"""Which runtime and which precision: every candidate runs on the same batches, the fastest that is exact enough wins.

>>> from deepseek.inference.choice import choose
>>> print(choose("all-minilm-l6-v2", task="sentence-embedding"))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.inference.choice.choosing import choose
    from deepseek.inference.choice.outcome import Choice, Trial

_PUBLIC = {
    "Choice": "deepseek.inference.choice.outcome",
    "Trial": "deepseek.inference.choice.outcome",
    "choose": "deepseek.inference.choice.choosing",
}

__all__ = ["Choice", "Trial", "choose"]


__getattr__ = names_of(__name__, _PUBLIC)
