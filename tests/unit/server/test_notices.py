"""Notices of logins: put on record behind their back, and never in their way."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from radius_mfa import tasks
from radius_mfa.authentication.login import Outcome
from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy.decision import Accept, Reject, RejectReason
from radius_mfa.server import notices
from radius_mfa.server.notices import Notices
from radius_mfa.stores.interfaces import Identity

ANN = Identity("LDAP/corp/4711", "ann", "corp", dn="uid=ann", mail="ann@corp.example")
LOCAL = Identity("bob", "bob", "local")
ACCEPTED = Outcome(Accept("totp"))
WRONG = Outcome(Reject(RejectReason.WRONG_CODE))
LOCKING = Outcome(Reject(RejectReason.WRONG_CODE), locked_until=-1)


class World:
    """What was put on record; *faults* come first, one for each call."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.recorded: list[object] = []
        self.notices = Notices(self.lock, self.refresh)

    async def lock(self, user: str, locked_until: int, now: float) -> None:
        self._fail()
        self.recorded.append((user, locked_until, now))

    async def refresh(self, user: Identity) -> None:
        self._fail()
        self.recorded.append(user.mail)

    def _fail(self) -> None:
        if self.faults:
            raise self.faults.pop(0)

    async def settled(self) -> list[object]:
        """Return what is on record once nothing waits."""
        running = tasks.spawn(self.notices.run())
        for _ in range(100):
            await asyncio.sleep(0)
        await tasks.stop(running)
        return self.recorded


async def test_only_what_is_news_is_put_on_record() -> None:
    world = World()
    moved = replace(ANN, mail="new@corp.example")
    for outcome, user in (
        (ACCEPTED, ANN),
        (ACCEPTED, ANN),
        (ACCEPTED, LOCAL),
        (WRONG, moved),
        (LOCKING, LOCAL),
        (ACCEPTED, moved),
    ):
        world.notices.of(outcome, user, 1.5)
    assert await world.settled() == ["ann@corp.example", ("bob", -1, 1.5), "new@corp.example"]


async def test_what_the_database_did_not_take_is_put_on_record_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A user who was deleted meanwhile, or a fault of ours, stops none of the others."""
    monkeypatch.setattr(notices, "AGAIN_SECONDS", 0)
    down = BackendUnavailable("database", "ConnectionError")
    world = World(down, down, Refused("gone"), RuntimeError("canary"))
    for user in ("ann", "bob", "carol"):
        world.notices.of(LOCKING, Identity(user, user), 1)
    with capture_logs() as lines:
        assert await world.settled() == [("carol", -1, 1)]
    assert [line["event"] for line in lines] == ["notice.failed"]
    assert "canary" not in repr(lines)


async def test_more_than_can_wait_are_dropped_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notices, "MAX_WAITING", 2)
    world = World()
    with capture_logs() as lines:
        for number in range(5):
            world.notices.of(LOCKING, LOCAL, number)
        world.notices.of(ACCEPTED, ANN, 1)
    assert [line["event"] for line in lines] == ["notices.dropped"]
    assert await world.settled() == [("bob", -1, 0), ("bob", -1, 1)]
    world.notices.of(ACCEPTED, ANN, 1)
    assert await world.settled() == [("bob", -1, 0), ("bob", -1, 1), "ann@corp.example"]
