"""The queue of mails: queued with the change or not at all, and sent by one node alone."""

import asyncio
from collections.abc import Awaitable, Callable
from time import time
from typing import Any

import pytest

from radius_mfa.authentication.enrolment import EnrolmentService
from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.mail import Fate
from radius_mfa.policy.requirement import DAY_SECONDS
from radius_mfa.stores.enrolments import EnrolmentStore, NewDevice
from radius_mfa.stores.interfaces import RecoveryMatch
from radius_mfa.stores.keyring import KeyRing
from radius_mfa.stores.outbox import CLAIM_SECONDS, KEPT_DAYS, Listed, Mail, Outbox
from radius_mfa.stores.records import Database
from radius_mfa.stores.recovery_codes import RecoveryCodeStore
from tests.integration.conftest import Told

NOW = 1_800_000_000.0
MAILED = ("alice", "bob")


class NoLocks:
    async def unlock(self, user: str) -> None:
        """Nothing is counted in these tests."""


@pytest.fixture
async def store(sending: Database, key_ring: KeyRing, told: Told) -> EnrolmentStore:
    """Two users with an address and one without."""
    made = EnrolmentStore(sending, key_ring, told)
    for name in MAILED:
        await made.add_user(name, mail=f"{name}@corp.example")
    await made.add_user("carol")
    return made


@pytest.fixture
def service(store: EnrolmentStore) -> EnrolmentService:
    return EnrolmentService(store, NoLocks())


@pytest.fixture
def outbox(sending: Database) -> Outbox:
    return Outbox(sending)


@pytest.fixture
def other_outbox(other_sending: Database) -> Outbox:
    """The queue as another node sees it."""
    return Outbox(other_sending)


async def told_of(outbox: Outbox) -> list[tuple[str, str]]:
    """Return kind and user of every mail, oldest first."""
    return [(one.kind, one.user) for one in await outbox.listed(everything=True)]


async def only(outbox: Outbox) -> Listed:
    [mail] = await outbox.listed(everything=True)
    return mail


async def claimed(outbox: Outbox, now: float) -> Mail:
    mail = await outbox.claim(now)
    assert mail is not None
    return mail


async def enrolled(store: EnrolmentStore, user: str, name: str = "phone") -> None:
    await store.add_device(user, NewDevice(name), confirmed=True)


async def confirmed_later(store: EnrolmentStore, user: str) -> None:
    device = await store.add_device(user, NewDevice("phone"))
    await store.confirm_device(user, device.device_id, 1)


async def removed(store: EnrolmentStore, user: str) -> None:
    await store.remove_device(user, "phone")


# What queues a mail


@pytest.mark.parametrize(
    ("acts", "kinds"),
    [
        ([enrolled], ["enrolled"]),
        ([confirmed_later], ["enrolled"]),
        ([enrolled, lambda s, u: enrolled(s, u, "tablet")], ["enrolled", "device_added"]),
        ([enrolled, removed, enrolled], ["enrolled", "device_removed", "enrolled"]),
        ([lambda s, u: s.add_device(u, NewDevice("phone"))], []),
        ([lambda s, u: s.add_device(u, NewDevice("phone")), removed], []),
        ([lambda s, u: s.suspend([u], suspended=True)], []),
    ],
)
async def test_devices_that_count_are_told_of_when_they_come_and_go(
    store: EnrolmentStore,
    outbox: Outbox,
    acts: list[Callable[[EnrolmentStore, str], Awaitable[Any]]],
    kinds: list[str],
) -> None:
    """One that was never confirmed is no news, and whoever has no address gets no mail."""
    for act in acts:
        for user in ("alice", "carol"):
            await act(store, user)
    assert await told_of(outbox) == [(kind, "alice") for kind in kinds]


async def test_what_admins_require_is_told_once_to_each(
    service: EnrolmentService, outbox: Outbox
) -> None:
    """Asked again, nobody's period changes, and nobody gets another mail."""
    for _ in range(2):
        await service.require([*MAILED, "carol"], NOW)
    assert sorted(await told_of(outbox)) == [("required", name) for name in MAILED]
    await service.extend(["alice"], NOW)
    await service.exempt(["alice"], NOW, NOW + 60, "test")
    await service.withdraw(["alice"])
    await service.reset(["bob"], NOW)
    assert sorted(await told_of(outbox)) == [
        ("required", "alice"),
        ("required", "bob"),
        ("reset", "bob"),
    ]


async def test_there_is_no_mail_of_a_change_that_failed(
    store: EnrolmentStore, service: EnrolmentService, outbox: Outbox, told: Told
) -> None:
    """Redis could not be told, so nothing was changed: the mail would be a lie."""
    told.fail_on = len(told.users) + 1
    with pytest.raises(BackendUnavailable):
        await service.require(["alice"], NOW)
    told.fail_on = len(told.users) + 1
    with pytest.raises(BackendUnavailable):
        await enrolled(store, "alice")
    assert await told_of(outbox) == []


async def test_nothing_is_queued_where_no_mail_server_is_configured(
    database: Database, store: EnrolmentStore, key_ring: KeyRing, outbox: Outbox, told: Told
) -> None:
    """Else years of mails would go out on the day when one is."""
    quiet = EnrolmentStore(database, key_ring, told)
    await EnrolmentService(quiet, NoLocks()).require(["alice"], NOW)
    await enrolled(quiet, "bob")
    await Outbox(database).lock("alice", -1, NOW)
    assert await told_of(outbox) == []
    del store


async def test_a_recovery_code_is_told_of_once_and_not_where_it_was_given_back(
    store: EnrolmentStore, outbox: Outbox, key_ring: KeyRing
) -> None:
    """The same login may use it twice (a retransmission); the mail waits until that is over."""
    await enrolled(store, "alice")
    codes = RecoveryCodeStore(store, key_ring)
    [code, *_] = await codes.renew("alice")
    now = time()
    match = await codes.find("alice", [code], "login", now)
    assert isinstance(match, RecoveryMatch)
    for _ in range(2):
        assert await codes.consume(match, "login", now)
    mail = (await outbox.listed())[-1]
    assert (mail.kind, mail.user) == ("recovery_code_used", "alice")
    assert mail.due_at is not None
    assert 5 < (mail.due_at - mail.queued_at).total_seconds() < 60
    assert not await codes.consume(match, "another login", now)
    await codes.release(match, "another login")
    assert len(await outbox.listed()) == 2, "it was not that login's to give back"
    await codes.release(match, "login")
    assert await told_of(outbox) == [("enrolled", "alice")]
    assert await codes.consume(match, "another login", now)
    assert (await told_of(outbox))[-1] == ("recovery_code_used", "alice")
    assert code not in repr(await outbox.listed(everything=True))


@pytest.mark.usefixtures("store")
async def test_locks_closed_from_outside_fill_nobody_s_mailbox(
    outbox: Outbox, other_outbox: Outbox
) -> None:
    """One mail an hour to a user, whichever nodes met the failures; strangers get none."""
    for later in (0, 1, 2):
        for box in (outbox, other_outbox):
            await box.lock("alice", 1, NOW + later)
    for user in ("carol", "nobody"):
        await outbox.lock(user, 1, NOW)
    assert await told_of(outbox) == [("locked", "alice")]
    await outbox.lock("alice", 1, NOW + 3600)
    assert await told_of(outbox) == [("locked", "alice")] * 2


async def test_mails_go_with_their_user(store: EnrolmentStore, outbox: Outbox) -> None:
    await enrolled(store, "alice")
    await store.delete_user("alice")
    assert await outbox.claim(time() + 1) is None
    assert await told_of(outbox) == []


# Reminders


async def remind(outbox: Outbox, now: float) -> list[str]:
    """Return whom the reminders of this moment go to."""
    await outbox.remind(now)
    due = [one.user for one in await outbox.listed() if one.kind == "reminder"]
    while (mail := await outbox.claim(time() + 1)) is not None:
        await outbox.ended(mail, Fate.SENT, now)
    return sorted(due)


async def test_a_reminder_goes_out_a_day_before_the_end_and_once(
    service: EnrolmentService, outbox: Outbox
) -> None:
    await service.require([*MAILED, "carol"], NOW, days=3)
    end = NOW + 3 * DAY_SECONDS
    assert await remind(outbox, end - DAY_SECONDS - 1) == []
    assert await remind(outbox, end - DAY_SECONDS) == list(MAILED)
    for later in (1, DAY_SECONDS / 2, DAY_SECONDS - 1):
        assert await remind(outbox, end - DAY_SECONDS + later) == []
    await service.extend(["alice"], NOW, days=2)
    assert await remind(outbox, end + 1) == []
    assert await remind(outbox, end + DAY_SECONDS) == ["alice"], "another end, another reminder"


@pytest.mark.parametrize(("before_the_end", "reminded"), [(3600, True), (1, True), (0, False)])
async def test_a_server_that_was_down_reminds_late_but_not_too_late(
    service: EnrolmentService, outbox: Outbox, before_the_end: float, *, reminded: bool
) -> None:
    await service.require(["alice"], NOW, days=3)
    end = NOW + 3 * DAY_SECONDS
    assert await remind(outbox, end - before_the_end) == ["alice"] * reminded


async def enrol(store: EnrolmentStore, _service: EnrolmentService) -> None:
    await enrolled(store, "alice")


async def exempt(_store: EnrolmentStore, service: EnrolmentService) -> None:
    await service.exempt(["alice"], NOW, NOW + 30 * DAY_SECONDS, "test")


async def withdraw(_store: EnrolmentStore, service: EnrolmentService) -> None:
    await service.withdraw(["alice"])


async def suspend(store: EnrolmentStore, _service: EnrolmentService) -> None:
    await store.suspend(["alice"], suspended=True)


async def suspend_factor(_store: EnrolmentStore, service: EnrolmentService) -> None:
    await service.suspend_factor(["alice"], suspended=True)


@pytest.mark.parametrize("act", [enrol, exempt, withdraw, suspend, suspend_factor])
async def test_whoever_need_not_or_can_t_enrol_is_not_reminded(
    store: EnrolmentStore,
    service: EnrolmentService,
    outbox: Outbox,
    act: Callable[[EnrolmentStore, EnrolmentService], Awaitable[None]],
) -> None:
    await service.require(["alice"], NOW, days=3)
    await act(store, service)
    assert await remind(outbox, NOW + 2.5 * DAY_SECONDS) == []


@pytest.mark.parametrize("days", [0, 1])
async def test_so_short_a_period_needs_no_reminder_besides(
    service: EnrolmentService, outbox: Outbox, days: int
) -> None:
    """The mail that it is required has just said when it ends."""
    await service.require(["alice"], NOW, days=days)
    await service.reset(["bob"], NOW, days=days)
    assert await remind(outbox, NOW) == []
    assert await remind(outbox, NOW + DAY_SECONDS / 2) == []


async def test_two_nodes_remind_everybody_once(
    store: EnrolmentStore,
    service: EnrolmentService,
    outbox: Outbox,
    other_outbox: Outbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where there are more than one transaction takes."""
    monkeypatch.setattr("radius_mfa.stores.outbox.AT_ONCE", 7)
    names = [f"user{number:02}" for number in range(30)]
    for name in names:
        await store.add_user(name, mail=f"{name}@corp.example")
    await service.require(names, NOW, days=2)
    now = NOW + DAY_SECONDS + 1
    await asyncio.gather(*(box.remind(now) for box in (outbox, other_outbox) * 3))
    found = [user for kind, user in await told_of(outbox) if kind == "reminder"]
    assert sorted(found) == names


# Claims


async def test_each_mail_is_claimed_by_one_of_two_nodes(
    service: EnrolmentService, outbox: Outbox, other_outbox: Outbox
) -> None:
    await service.require(MAILED, NOW)
    now = time() + 1
    claims = await asyncio.gather(*(box.claim(now) for box in (outbox, other_outbox) * 4))
    found = [mail for mail in claims if mail is not None]
    rest = [await outbox.claim(now) for _ in range(2)]
    names = sorted(mail.user for mail in [*found, *rest] if mail is not None)
    assert names == list(MAILED)


async def test_a_mail_of_a_node_that_died_is_another_s_after_a_while(
    store: EnrolmentStore, outbox: Outbox, other_outbox: Outbox
) -> None:
    """And the dead one, should it wake up, has no say in it any more."""
    await enrolled(store, "alice")
    now = time() + 1
    lost = await claimed(outbox, now)
    assert await other_outbox.claim(now + CLAIM_SECONDS - 1) is None
    taken = await claimed(other_outbox, now + CLAIM_SECONDS + 1)
    assert (taken.mail_id, taken.tries) == (lost.mail_id, 2)
    await outbox.ended(lost, Fate.GIVEN_UP, now)
    assert (await only(outbox)).fate == "waiting"
    await other_outbox.ended(taken, Fate.SENT, now)
    assert (await only(outbox)).fate == "sent"
    assert await outbox.waiting() == 0


async def test_a_mail_knows_its_user_as_they_are_now(
    store: EnrolmentStore, service: EnrolmentService, outbox: Outbox
) -> None:
    await service.require(["alice"], NOW, days=3)
    await store.set_mail("alice", "new@corp.example")
    await service.extend(["alice"], NOW, days=1)
    mail = await claimed(outbox, time() + 1)
    assert (mail.name, mail.address, mail.confirmed) == ("alice", "new@corp.example", False)
    assert mail.requirement.enrol_by == NOW + 4 * DAY_SECONDS
    await outbox.put_back(mail, time() - 1, "x" * 1000)
    await store.set_mail("alice", None)
    assert (await claimed(outbox, time() + 1)).address is None


async def test_what_came_to_nothing_can_be_tried_again_and_is_forgotten_in_the_end(
    service: EnrolmentService, outbox: Outbox
) -> None:
    await service.require(MAILED, NOW)
    now = time() + 1
    first, second = await claimed(outbox, now), await claimed(outbox, now)
    await outbox.ended(first, Fate.REFUSED, now, "550 nobody")
    await outbox.ended(second, Fate.SENT, now)
    [listed] = await outbox.listed()
    assert (listed.mail_id, listed.fate, listed.note) == (first.mail_id, "refused", "550 nobody")
    assert await outbox.retry({second.mail_id, "none"}, now) == 0
    assert await outbox.retry(None, now) == 1
    again = await claimed(outbox, now)
    assert (again.mail_id, again.tries) == (first.mail_id, 1)
    assert again.detail["at"] == first.detail["at"], "when it happened stays"
    await outbox.ended(again, Fate.SENT, now)
    await outbox.forget(now + KEPT_DAYS * DAY_SECONDS - 60)
    assert len(await outbox.listed(everything=True)) == 2
    await outbox.forget(now + KEPT_DAYS * DAY_SECONDS + 60)
    assert await outbox.listed(everything=True) == []
