"""Settings of access control, and times as people write them."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deepseek.errors import ConfigError
from deepseek.serving.access import AccessConfig, Plan
from deepseek.serving.access.lifetimes import duration, lifetime


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost", "LOCALHOST."])
def test_loopback_needs_no_key_unless_told(host: str) -> None:
    assert not AccessConfig().applies_to(host)
    assert AccessConfig(mode="required").applies_to(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org", "127.0.0.1.org"])
def test_everywhere_else_does_unless_told(host: str) -> None:
    assert AccessConfig().applies_to(host)
    assert not AccessConfig(mode="off").applies_to(host)


def test_the_default_store_is_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.delenv("DEEPSEEK_KEYS", raising=False)
    assert AccessConfig().store == "sqlite:////data/deepseek/access.sqlite3"
    monkeypatch.setenv("DEEPSEEK_KEYS", "redis://fleet:6379/0")
    assert AccessConfig().store == "redis://fleet:6379/0"


def test_plans() -> None:
    config = AccessConfig(plans={"gold": Plan(tokens_per_day=10**9)}, default_plan="gold")
    assert {"free", "unlimited", "gold"} <= set(config.all_plans)
    assert config.all_plans["unlimited"].unlimited
    assert not config.all_plans["free"].unlimited
    assert AccessConfig(plans={"free": Plan(requests_per_minute=1)}).all_plans["free"].requests_per_minute == 1
    with pytest.raises(ValidationError, match="'silver'"):
        AccessConfig(default_plan="silver")
    with pytest.raises(ValidationError):
        Plan(requests_per_minute=0)


def test_a_short_admin_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSEEK_ADMIN_TOKEN", raising=False)
    assert AccessConfig().token is None
    with pytest.raises(ValidationError, match="16 characters"):
        AccessConfig(admin_token="short")
    config = AccessConfig(admin_token="long enough to be one")
    assert config.token == "long enough to be one"
    assert "long enough" not in repr(config)
    monkeypatch.setenv("DEEPSEEK_ADMIN_TOKEN", "from the environment")
    assert AccessConfig().token == "from the environment"


def test_settings_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "access.yaml"
    path.write_text("mode: required\nplans: {gold: {requests_per_minute: 600}}\n")
    config = AccessConfig.read(path)
    assert config.mode == "required"
    path.write_text("host: 0.0.0.0\naccess: {mode: required, plans: {gold: {requests_per_minute: 600}}}\n")
    assert AccessConfig.read(path) == config, "a server's settings have them under 'access'"
    path.write_text("mode: off\n")
    assert AccessConfig.read(path).mode == "off"
    assert config.all_plans["gold"] == Plan(requests_per_minute=600)
    path.write_text("")
    assert AccessConfig.read(path) == AccessConfig()
    for wrong, said in (("plan: {}", "plan"), ("- 1", "the file"), ("a: [", "cannot be read"), ("mode: on", "mode")):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=said):
            AccessConfig.read(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        AccessConfig.read(tmp_path / "absent.yaml")


def test_times() -> None:
    assert duration("90s") == dt.timedelta(seconds=90)
    assert duration(" 30 m ") == dt.timedelta(minutes=30)
    assert duration("2W") == dt.timedelta(weeks=2)
    assert duration("0") == dt.timedelta(0)
    noon = dt.datetime(2026, 12, 31, 12, tzinfo=dt.UTC).timestamp()
    assert lifetime("2027-01-01", noon) == dt.timedelta(hours=12)
    assert lifetime("30d", noon) == dt.timedelta(days=30)
    for wrong in ("2026-12-31", "2027-02-30", "tomorrow", "-3d", "999999999w", "1.5h", ""):
        with pytest.raises(ConfigError, match="expected"):
            lifetime(wrong, noon)


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert lifetime(text, 0.0) >= dt.timedelta(0)
