"""A folder is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepseek.artifacts.cache import restore_interrupted, staged_directory


def test_it_appears_when_the_block_ends(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "a") as stage:
        (stage / "f").write_text("1")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a" / "f").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_it_vanishes_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with staged_directory(tmp_path / "a") as stage:
            (stage / "f").write_text("1")
            raise error

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", [False, True])
def test_replacing_keeps_the_old_until_the_new_is_complete(tmp_path: Path, fails: bool) -> None:
    with staged_directory(tmp_path / "a") as stage:
        (stage / "f").write_text("old")
    try:
        with staged_directory(tmp_path / "a", replace=True) as stage:
            (stage / "f").write_text("new")
            if fails:
                raise RuntimeError
    except RuntimeError:
        pass
    assert (tmp_path / "a" / "f").read_text() == ("old" if fails else "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_it_does_not_overwrite_unasked(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileExistsError), staged_directory(tmp_path / "a"):
        pass


def test_a_crash_between_the_renames_is_put_right(tmp_path: Path) -> None:
    aside = tmp_path / ".a.old-xyz" / "content"
    aside.mkdir(parents=True)
    (aside / "f").write_text("old")
    restore_interrupted(tmp_path / "a")
    assert (tmp_path / "a" / "f").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
