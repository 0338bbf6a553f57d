"""Fixtures that every kind of test shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.support import debian
from tests.support.redis import RealRedis
from tests.support.server import Site

debian.put_first_on_path()


@pytest.fixture(autouse=True)
def _log_at_its_defaults() -> Iterator[None]:
    """Undo what a command that ran in this process made of the log."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A configuration with embedded Redis and SQLite, no users yet, one client on loopback."""
    with Site(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[RealRedis]:
    with RealRedis() as server:
        yield server


@pytest.fixture
def real_redis(_shared_redis: RealRedis) -> RealRedis:
    """A real Redis, empty."""
    _shared_redis.flush()
    return _shared_redis
