from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty database of a real Redis server."""
    import redis

    address = f"{redis_server}?db=7"
    with redis.Redis.from_url(address) as client:
        client.flushdb()
    return address


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'access.sqlite3'}"


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest) -> str:
    """An empty store of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))
