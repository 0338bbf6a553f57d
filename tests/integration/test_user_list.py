"""The list of users on real databases: its states are those of the policy, its pages are whole."""

from datetime import UTC, datetime
from itertools import product

import pytest
from sqlalchemy import insert

from radius_mfa.policy.access import state
from radius_mfa.policy.columns import TOTP_OF_STATE, Asked, Totp, asked_of
from radius_mfa.policy.requirement import Requirement
from radius_mfa.stores.enrolments import requirement_values
from radius_mfa.stores.records import Database, DeviceRecord, LastLoginRecord, MfaUser
from radius_mfa.stores.user_list import Order, UserFilter, UserList

NOW = 1_790_000_000.0
MOMENT = datetime.fromtimestamp(NOW, UTC)
PAST, FUTURE = NOW - 1000, NOW + 1000

Person = tuple[Requirement, bool, bool]

PERIODS = [(None, None), (PAST, PAST), (PAST, NOW), (PAST, FUTURE), (NOW, FUTURE), (FUTURE, FUTURE)]
PEOPLE: list[Person] = [
    (Requirement(*period, exempt, suspended, "why" if exempt else ""), confirmed, pending)
    for period, exempt, suspended, confirmed, pending in product(
        PERIODS, (None, PAST, NOW, FUTURE), (False, True), (False, True), (False, True)
    )
]


@pytest.fixture
async def users(database: Database) -> UserList:
    """A user for every combination of facts; some have logged in."""
    device = {"algorithm": "SHA1", "digits": 6, "time_step_seconds": 30, "key_version": 1}
    async with database.session() as session:
        for number, (asked, confirmed, pending) in enumerate(PEOPLE):
            name = f"u{number:03}"
            values = requirement_values(asked)
            fields = {"name": name, "version": 1, "created_at": MOMENT, **values}
            await session.execute(insert(MfaUser).values(fields))
            for kind, has in (("confirmed", confirmed), ("pending", pending)):
                if has:
                    fields = {**device, "device_id": f"{name}-{kind}", "user": name, "name": kind}
                    fields |= {"seed": b"", "created_at": MOMENT}
                    fields["confirmed_at"] = MOMENT if kind == "confirmed" else None
                    await session.execute(insert(DeviceRecord).values(fields))
            if number % 7 == 0:
                texts = ("client", "nas_identifier", "source", "station", "method")
                fields = dict.fromkeys(texts, "") | {"user": name, "event_id": 1, "at": number % 5}
                await session.execute(insert(LastLoginRecord).values(fields))
        await session.commit()
    return UserList(database)


def totp_of(person: Person) -> Totp:
    asked, confirmed, pending = person
    return TOTP_OF_STATE[state(asked, NOW, confirmed=confirmed, pending=pending)]


async def test_filters_and_counts_are_those_of_the_policy(users: UserList) -> None:
    """In every combination of requirement, exemption, suspension and devices."""
    for totp, asked in product([None, *Totp], [None, *Asked]):
        wanted = UserFilter(totp=totp, asked=asked)
        expected = [
            f"u{number:03}"
            for number, person in enumerate(PEOPLE)
            if totp in (None, totp_of(person)) and asked in (None, asked_of(person[0], NOW))
        ]
        assert await users.keys(wanted, NOW, 1000) == expected
        assert await users.count(wanted, NOW) == len(expected)
    states = await users.states(NOW)
    assert states == {totp: sum(totp_of(one) is totp for one in PEOPLE) for totp in Totp}


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("order", Order)
async def test_pages_show_everybody_once_forth_and_back(
    users: UserList, order: Order, way: str
) -> None:
    descending = way == "down"
    forth, pages = [], []
    page = await users.page(UserFilter(), NOW, order, descending=descending, limit=25)
    assert not page.before
    while True:
        pages.append(page)
        forth += [row.key for row in page.rows]
        if not page.after:
            break
        page = await users.page(
            UserFilter(), NOW, order, descending=descending, after=page.after, limit=25
        )
    assert sorted(forth) == [f"u{number:03}" for number in range(len(PEOPLE))]
    for earlier in reversed(pages[:-1]):
        page = await users.page(
            UserFilter(), NOW, order, descending=descending, before=page.before, limit=25
        )
        assert page.rows == earlier.rows
    assert not page.before


async def test_a_text_is_found_in_any_case_and_its_wildcards_are_letters(users: UserList) -> None:
    assert await users.keys(UserFilter("U00"), NOW, 1000) == [f"u{n:03}" for n in range(10)]
    for text in ("%", "_", "\\", "u%0", "'"):
        assert await users.keys(UserFilter(text), NOW, 1000) == []
    assert await users.count(UserFilter(among=["u001", "gone"]), NOW) == 1
    assert await users.count(UserFilter(among=["u001"], others=True), NOW) == len(PEOPLE) - 1


async def test_exemptions_are_listed_until_they_end_the_next_one_first(users: UserList) -> None:
    found = await users.exempt(NOW, 1000)
    assert len(found) == sum(asked.exempt(NOW) for asked, _, _ in PEOPLE)
    assert {row.requirement.exempt_reason for row in found} == {"why"}
