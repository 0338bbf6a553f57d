"""What admins may ask of users, and the words that lists show."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from radius_mfa.authentication.enrolment import (
    EnrolmentService,
    days_left,
    requirement_words,
    totp_words,
)
from radius_mfa.errors import Refused
from radius_mfa.policy.requirement import DAY_SECONDS, Requirement
from radius_mfa.stores.interfaces import Identity, Prospect

NOW = 1_800_000_000.0
DAY = float(DAY_SECONDS)


class Records:
    """Requirements in a dictionary."""

    def __init__(self) -> None:
        self.known = {"alice": Requirement(), "bob": Requirement(NOW - DAY, NOW + DAY)}
        self.acts: list[str] = []

    async def change_requirements(
        self,
        users: Sequence[str],
        act: str,
        change: Callable[[Requirement], Requirement],
        newcomers: Sequence[Identity] = (),  # noqa: ARG002 - as the records have it
        **_detail: object,
    ) -> list[str]:
        self.acts.append(act)
        before = dict(self.known)
        self.known |= {user: change(self.known[user]) for user in users}
        return [user for user in users if self.known[user] != before[user]]

    async def prospect(self, users: Sequence[str]) -> Prospect:
        known = [self.known[user] for user in users if user in self.known]
        required = sum(one.enrol_by is not None for one in known)
        return Prospect(len(users), required, len(users) - len(known))

    async def reset(
        self, users: Sequence[str], change: Callable[[Requirement], Requirement], **_detail: object
    ) -> list[str]:
        return await self.change_requirements(users, "reset", change)

    async def suspend(self, users: Sequence[str], *, suspended: bool) -> list[str]:
        self.acts += [f"suspended={suspended} {user}" for user in users]
        return list(users)

    async def note_each(
        self, users: Sequence[str], act: str, work: Callable[[str], Awaitable[None]]
    ) -> list[str]:
        for user in users:
            await work(user)
            self.acts.append(f"{act} {user}")
        return list(users)

    async def unlock(self, user: str) -> None:
        self.acts.append(f"unlocked {user}")


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def service(records: Records) -> EnrolmentService:
    return EnrolmentService(records, records)


REFUSED: list[tuple[Callable[[EnrolmentService], Any], str]] = [
    (lambda s: s.require(["alice"], NOW, -1), "-1 days: it must be 0 to 365"),
    (lambda s: s.require(["alice"], NOW, 366), "366 days: it must be 0 to 365"),
    (lambda s: s.extend(["bob"], NOW, 0), "0 days: it must be 1 to 365"),
    (lambda s: s.extend(["bob"], NOW, 366), "366 days: it must be 1 to 365"),
    (lambda s: s.reset(["alice"], NOW, 366), "366 days: it must be 0 to 365"),
    (lambda s: s.exempt(["alice"], NOW, NOW + 1, ""), "needs a reason"),
    (lambda s: s.exempt(["alice"], NOW, NOW + 1, " \t"), "needs a reason"),
    (lambda s: s.exempt(["alice"], NOW, NOW + 1, "x" * 256), "needs a reason"),
    (lambda s: s.exempt(["alice"], NOW, NOW + 1, "a\x1b[31m"), "needs a reason"),
    (lambda s: s.exempt(["alice"], NOW, NOW, "abroad"), "ends in the future"),
    (lambda s: s.exempt(["alice"], NOW, NOW + 365 * DAY + 1, "abroad"), "within 365 days"),
]


@pytest.mark.parametrize(("work", "message"), REFUSED)
async def test_what_can_not_be_asked_is_refused_and_changes_nothing(
    records: Records,
    service: EnrolmentService,
    work: Callable[[EnrolmentService], Any],
    message: str,
) -> None:
    before = dict(records.known)
    with pytest.raises(Refused, match=message):
        await work(service)
    assert (records.known, records.acts) == (before, [])


async def test_each_act_comes_to_its_change(records: Records, service: EnrolmentService) -> None:
    both = ["alice", "bob"]
    assert await service.require(both, NOW, 365) == ["alice"]
    assert records.known["alice"] == Requirement(NOW, NOW + 365 * DAY)
    assert await service.extend(both, NOW, 1) == both
    assert records.known["bob"] == Requirement(NOW - DAY, NOW + 2 * DAY)
    assert await service.exempt(["alice"], NOW, NOW + 365 * DAY, " abroad ") == ["alice"]
    assert records.known["alice"].exempt_reason == "abroad"
    assert await service.end_exemption(both) == ["alice"]
    assert await service.suspend_factor(both, suspended=True) == both
    assert await service.suspend_factor(["bob"], suspended=False) == ["bob"]
    assert await service.withdraw(both) == both
    assert records.known == {"alice": Requirement(factor_suspended=True), "bob": Requirement()}
    await service.reset(["alice"], NOW)
    assert records.known["alice"] == Requirement(NOW, NOW + 7 * DAY)


async def test_unlocking_stands_on_the_trail(records: Records, service: EnrolmentService) -> None:
    assert await service.unlock(["alice"]) == ["alice"]
    assert records.acts == ["unlocked alice", "user.unlock alice"]


@pytest.mark.parametrize(
    ("seconds", "days"), [(7 * DAY, 7), (6 * DAY + 1, 7), (1, 1), (0, 0), (-5 * DAY, 0)]
)
def test_a_begun_day_is_left_whole(seconds: float, days: int) -> None:
    assert days_left(Requirement(NOW, NOW + seconds), NOW) == days


@pytest.mark.parametrize(
    ("asked", "confirmed", "pending", "totp", "required"),
    [
        (Requirement(), False, False, "Not enrolled", "Not required"),
        (Requirement(), False, True, "Pending", "Not required"),
        (Requirement(NOW, NOW + DAY), False, False, "In enrolment (1 day left)", "Required"),
        (Requirement(NOW, NOW + 2 * DAY), False, False, "In enrolment (2 days left)", "Required"),
        (Requirement(NOW, NOW + DAY), True, False, "Enrolled", "Required"),
        (Requirement(NOW, NOW), False, False, "Expired", "Required"),
        (Requirement(factor_suspended=True), True, False, "Disabled", "Not required"),
        (Requirement(NOW + DAY, NOW + 2 * DAY), False, False, "Not enrolled", "Required from 2027"),
        (Requirement(NOW, NOW, NOW + DAY), False, False, "Expired", "Exempt until 2027-01-1"),
        (Requirement(NOW, NOW, NOW), False, False, "Expired", "Required"),
    ],
)
def test_the_words_of_the_columns(
    asked: Requirement, *, confirmed: bool, pending: bool, totp: str, required: str
) -> None:
    assert totp_words(asked, NOW, confirmed=confirmed, pending=pending) == totp
    assert requirement_words(asked, NOW).startswith(required)
