"""How much memory this process may still take."""

from __future__ import annotations

import pytest

from deepseek import memory


def test_some_memory_is_free() -> None:
    assert memory.free_memory() > 0


@pytest.mark.parametrize(("held", "free"), [(300, 700), (1200, 0)])
def test_what_is_free_is_what_may_be_held_without_what_is_held(
    held: int, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: 1000)
    monkeypatch.setattr(memory, "process_memory", lambda: held)
    assert memory.free_memory() == free
