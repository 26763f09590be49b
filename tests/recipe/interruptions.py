"""Runs that are interrupted, as by Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """What runs within is interrupted at this step of its optimizer, and has to be."""
    steps = 0

    def interrupt(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            raise KeyboardInterrupt

    hook = register_optimizer_step_post_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        hook.remove()
