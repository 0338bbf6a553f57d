"""The list of users in pages: filters, orders and counts in the database, over any number of them.

The states are those of ``policy.access``, written as SQL; a test holds the two together. A page is
found by the row it begins after, so a user who is added meanwhile moves none of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, and_, case, exists, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.policy.columns import Asked, Totp
from radius_mfa.policy.requirement import Requirement
from radius_mfa.stores.enrolments import requirement_of
from radius_mfa.stores.interfaces import LOCAL
from radius_mfa.stores.records import Database, DeviceRecord, LastLoginRecord, MfaUser

PAGE_ROWS = 50


class Order(StrEnum):
    """What the list is sorted by; users who are alike stand by name."""

    NAME = "name"
    TOTP = "totp"
    REQUIREMENT = "requirement"
    LAST_LOGIN = "last-login"


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Whom to list; what is None or empty asks for nothing.

    *text* stands somewhere in the name or the mail address. *among* are keys, or with *others*
    all keys but those.
    """

    text: str = ""
    totp: Totp | None = None
    asked: Asked | None = None
    suspended: bool | None = None
    directory: str = ""
    among: Sequence[str] | None = None
    others: bool = False


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A row of the list; *place* says where it stands in the order of the page."""

    key: str
    name: str
    directory: str
    mail: str
    suspended: bool
    requirement: Requirement
    confirmed: int
    pending: int
    last_login_at: datetime | None
    last_login_client: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class UserPage:
    """A page; *before* and *after* are the places of its ends, empty where the list ends too."""

    rows: list[ListedUser]
    before: str = ""
    after: str = ""


class UserList:
    """Asks the database for users by the page. Each method may raise BackendUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        wanted: UserFilter,
        now: float,
        order: Order = Order.NAME,
        *,
        descending: bool = False,
        after: str = "",
        before: str = "",
        limit: int = PAGE_ROWS,
    ) -> UserPage:
        """Return *limit* users after, or before, a place that an earlier page told."""
        at = datetime.fromtimestamp(now, UTC)
        value = _SORTED_BY[order](at)
        sorting = (value, _CALLED, MfaUser.name)
        place = _place(before or after)
        backwards = bool(before) and place is not None
        upwards = descending is backwards
        query = _where(select(MfaUser.name, value.label("value")), wanted, at)
        if order is Order.LAST_LOGIN:
            query = query.outerjoin(LastLoginRecord, LastLoginRecord.user == MfaUser.name)
        if place is not None:
            marker = tuple_(*[literal(one) for one in place])
            beyond = tuple_(*sorting) > marker if upwards else tuple_(*sorting) < marker
            query = query.where(beyond)
        ways = [one.asc() if upwards else one.desc() for one in sorting]
        async with self._database.session() as session:
            found = (await session.execute(query.order_by(*ways).limit(limit + 1))).all()
            more, values = len(found) > limit, dict(map(tuple, found[:limit]))
            rows = await _listed(session, values)
        if backwards:
            rows.reverse()
        if not rows:
            return UserPage([])
        has_before = more if backwards else place is not None
        return UserPage(
            rows,
            rows[0].place if has_before else "",
            rows[-1].place if backwards or more else "",
        )

    async def count(self, wanted: UserFilter, now: float) -> int:
        """Return how many users there are of them."""
        at = datetime.fromtimestamp(now, UTC)
        query = _where(select(func.count()).select_from(MfaUser), wanted, at)
        async with self._database.session() as session:
            return int(await session.scalar(query) or 0)

    async def keys(self, wanted: UserFilter, now: float, limit: int) -> list[str]:
        """Return the keys of the first *limit* of them, by name."""
        at = datetime.fromtimestamp(now, UTC)
        query = _where(select(MfaUser.name), wanted, at).order_by(_CALLED, MfaUser.name)
        async with self._database.session() as session:
            return list((await session.scalars(query.limit(limit))).all())

    async def called(self, keys: Sequence[str]) -> dict[str, str]:
        """Return what people call those users with these few keys who are on record."""
        query = select(MfaUser.name, _CALLED).where(MfaUser.name.in_(keys))
        async with self._database.session() as session:
            return {key: name for key, name in await session.execute(query)}  # noqa: C416 - typed rows

    async def states(self, now: float) -> dict[Totp, int]:
        """Return how many users there are in each state of the column MFA: TOTP."""
        rank = _totp_rank(datetime.fromtimestamp(now, UTC)).label("state")
        counted = select(rank, func.count()).group_by(rank)
        async with self._database.session() as session:
            found = {number: count for number, count in await session.execute(counted)}  # noqa: C416 - typed rows
        return {totp: found.get(number, 0) for number, totp in enumerate(Totp)}

    async def exempt(self, now: float, limit: int) -> list[ListedUser]:
        """Return users whose exemption has not ended, the ones that end first."""
        at = datetime.fromtimestamp(now, UTC)
        query = _where(select(MfaUser.name), UserFilter(asked=Asked.EXEMPT), at)
        query = query.order_by(MfaUser.exempt_until, MfaUser.name).limit(limit)
        async with self._database.session() as session:
            return await _listed(session, dict.fromkeys(await session.scalars(query), 0))

    async def directories(self) -> list[str]:
        """Return the names of the directories that users on record come from."""
        query = select(MfaUser.directory).distinct()
        async with self._database.session() as session:
            found = (await session.scalars(query)).all()
        return sorted({one or LOCAL for one in found})


_CALLED = func.coalesce(MfaUser.user_name, MfaUser.name)


def _has_device(*, confirmed: bool) -> ColumnElement[bool]:
    waits = DeviceRecord.confirmed_at.is_(None)
    return exists().where(DeviceRecord.user == MfaUser.name, ~waits if confirmed else waits)


def _devices(*, confirmed: bool) -> ColumnElement[int]:
    waits = DeviceRecord.confirmed_at.is_(None)
    return (
        select(func.count())
        .where(DeviceRecord.user == MfaUser.name, ~waits if confirmed else waits)
        .scalar_subquery()
    )


_TOTP = list(Totp)
_ASKED = list(Asked)


def _totp_rank(at: datetime) -> ColumnElement[int]:
    """Return the place of the user's state among those of the column MFA: TOTP."""
    ended = and_(MfaUser.enrol_by.is_not(None), MfaUser.enrol_by <= at)
    asked = and_(MfaUser.required_from.is_not(None), MfaUser.required_from <= at)
    return case(
        (MfaUser.factor_suspended_at.is_not(None), _TOTP.index(Totp.DISABLED)),
        (_has_device(confirmed=True), _TOTP.index(Totp.ENROLLED)),
        (_has_device(confirmed=False), _TOTP.index(Totp.PENDING)),
        (and_(asked, ended), _TOTP.index(Totp.EXPIRED)),
        (and_(asked, MfaUser.enrol_by.is_not(None)), _TOTP.index(Totp.IN_ENROLMENT)),
        else_=_TOTP.index(Totp.NOT_ENROLLED),
    )


def _asked_rank(at: datetime) -> ColumnElement[int]:
    return case(
        (MfaUser.exempt_until > at, _ASKED.index(Asked.EXEMPT)),
        (MfaUser.enrol_by.is_(None), _ASKED.index(Asked.NOT_REQUIRED)),
        else_=_ASKED.index(Asked.REQUIRED),
    )


_SORTED_BY: dict[Order, Any] = {
    Order.NAME: lambda _at: literal(0),
    Order.TOTP: _totp_rank,
    Order.REQUIREMENT: _asked_rank,
    Order.LAST_LOGIN: lambda _at: func.coalesce(LastLoginRecord.at, 0),
}


def _where(query: Select[Any], wanted: UserFilter, at: datetime) -> Select[Any]:
    if wanted.text:
        text = wanted.text.replace("\0", "").lower()
        found = func.lower(_CALLED).contains(text, autoescape=True)
        query = query.where(found | func.lower(MfaUser.mail).contains(text, autoescape=True))
    if wanted.totp is not None:
        query = query.where(_totp_rank(at) == _TOTP.index(wanted.totp))
    if wanted.asked is not None:
        query = query.where(_asked_rank(at) == _ASKED.index(wanted.asked))
    if wanted.suspended is not None:
        gone = MfaUser.suspended_at.is_not(None)
        query = query.where(gone if wanted.suspended else ~gone)
    if wanted.directory:
        query = query.where(func.coalesce(MfaUser.directory, LOCAL) == wanted.directory)
    if wanted.among is not None:
        named = MfaUser.name.in_(wanted.among)
        query = query.where(~named if wanted.others else named)
    return query


async def _listed(session: AsyncSession, values: dict[str, int]) -> list[ListedUser]:
    """Return the users whose keys *values* has, in its order, with what each is sorted by."""
    query = (
        select(
            MfaUser,
            _devices(confirmed=True).label("confirmed"),
            _devices(confirmed=False).label("pending"),
            LastLoginRecord.at.label("last_at"),
            LastLoginRecord.client.label("last_client"),
        )
        .outerjoin(LastLoginRecord, LastLoginRecord.user == MfaUser.name)
        .where(MfaUser.name.in_(list(values)))
    )
    found = {row.MfaUser.name: row for row in await session.execute(query)}
    return [_row(found[key], value) for key, value in values.items() if key in found]


def _row(row: Any, value: int) -> ListedUser:  # noqa: ANN401 - SQLAlchemy's row
    user = row.MfaUser
    name = user.user_name or user.name
    last = None if row.last_at is None else datetime.fromtimestamp(row.last_at / 1000, UTC)
    return ListedUser(
        user.name,
        name,
        user.directory or LOCAL,
        user.mail or "",
        user.suspended_at is not None,
        requirement_of(user),
        row.confirmed,
        row.pending,
        last,
        row.last_client or "",
        orjson.dumps([value, name, user.name]).decode(),
    )


def _place(text: str) -> tuple[int, str, str] | None:
    """Return a place that a page told; None for what no page did: the list begins anew."""
    try:
        number, name, key = orjson.loads(text)
    except (orjson.JSONDecodeError, ValueError, TypeError):
        return None
    known = type(number) is int and abs(number) < 1 << 62
    if not (known and isinstance(name, str) and isinstance(key, str)):
        return None
    return None if "\0" in name + key else (number, name, key)
