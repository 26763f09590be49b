"""Where time goes in a model, and the share of the hardware's limit that each phase achieves.

>>> from deepseek.inference.profiling import profile
>>> print(profile("smollm2-135m-instruct", streams=(1, 8)))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.inference.profiling.cores import profile_generation
    from deepseek.inference.profiling.outcome import Breakdown, Outside, Part, Phase, Profile
    from deepseek.inference.profiling.profiling import profile
    from deepseek.inference.profiling.roofline import Limit, limit_of
    from deepseek.inference.profiling.work import Sizes, Work, decode_work, forward_work, prefill_work, reference

_PUBLIC = {
    "Breakdown": "deepseek.inference.profiling.outcome",
    "Limit": "deepseek.inference.profiling.roofline",
    "Outside": "deepseek.inference.profiling.outcome",
    "Part": "deepseek.inference.profiling.outcome",
    "Phase": "deepseek.inference.profiling.outcome",
    "Profile": "deepseek.inference.profiling.outcome",
    "Sizes": "deepseek.inference.profiling.work",
    "Work": "deepseek.inference.profiling.work",
    "decode_work": "deepseek.inference.profiling.work",
    "forward_work": "deepseek.inference.profiling.work",
    "limit_of": "deepseek.inference.profiling.roofline",
    "prefill_work": "deepseek.inference.profiling.work",
    "profile": "deepseek.inference.profiling.profiling",
    "profile_generation": "deepseek.inference.profiling.cores",
    "reference": "deepseek.inference.profiling.work",
}

__all__ = [
    "Breakdown",
    "Limit",
    "Outside",
    "Part",
    "Phase",
    "Profile",
    "Sizes",
    "Work",
    "decode_work",
    "forward_work",
    "limit_of",
    "prefill_work",
    "profile",
    "profile_generation",
    "reference",
]


__getattr__ = names_of(__name__, _PUBLIC)
