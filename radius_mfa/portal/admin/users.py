"""The list of users: filtered, sorted, in pages, and as CSV."""

import csv
import io
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse

from radius_mfa.authentication.enrolment import iso, requirement_words, totp_words
from radius_mfa.policy.columns import Asked, Standing, Totp, standing
from radius_mfa.portal.admin.acts import ACTS
from radius_mfa.portal.admin.desk import HOME, AdminVisit, Seeing
from radius_mfa.portal.admin.filters import Listing
from radius_mfa.stores.attempts import Locks
from radius_mfa.stores.user_list import ListedUser, UserFilter

router = APIRouter(prefix=HOME)

CSV_ROWS = 5_000
"""Users of one query: few of them pass over 100,000 users within a request."""

CSV_COLUMNS = (
    "name",
    "state",
    "MFA: TOTP",
    "MFA: User Requirement",
    "devices",
    "mail",
    "directory",
    "last login",
    "last client",
    "exempt because",
    "key",
)

_A_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")


@router.get("/users")
async def show(desk: Seeing) -> Response:
    """Show a page of the list."""
    listing = Listing.of_address(desk)
    wanted, users = await listing.wanted(desk), desk.office.users
    page = await users.page(
        wanted,
        desk.now,
        listing.order,
        descending=listing.descending,
        after=desk.asked("after"),
        before=desk.asked("before"),
    )
    locks = await desk.office.attempts.locks_of([row.key for row in page.rows])
    return await desk.page(
        "users.html",
        listing=listing,
        page=page,
        total=await users.count(wanted, desk.now),
        rows=[(row, *_columns(row, desk.now), locks[row.key]) for row in page.rows],
        state_of=lambda row: standing_of(row.suspended, locks[row.key], desk.now),
        choices={"totp": list(Totp), "asked": list(Asked), "state": list(Standing)},
        directories=await users.directories(),
        acts={word: act for word, act in ACTS.items() if desk.admin.may(act.right)},
    )


@router.get("/users.csv")
async def export(desk: Seeing) -> Response:
    """Give the whole list, as filtered and sorted, for a spreadsheet."""
    listing = Listing.of_address(desk)
    rows = _csv(desk, listing, await listing.wanted(desk))
    headers = {"content-disposition": 'attachment; filename="users.csv"'}
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)


async def _csv(desk: AdminVisit, listing: Listing, wanted: UserFilter) -> AsyncIterator[str]:
    locked = await desk.office.attempts.locked(desk.now)
    yield _csv_lines([CSV_COLUMNS])
    after = ""
    while True:
        page = await desk.office.users.page(
            wanted,
            desk.now,
            listing.order,
            descending=listing.descending,
            after=after,
            limit=CSV_ROWS,
        )
        yield _csv_lines([_csv_row(row, locked.get(row.key), desk.now) for row in page.rows])
        after = page.after
        if not after:
            return


def _csv_row(row: ListedUser, locks: Locks | None, now: float) -> tuple[object, ...]:
    return (
        row.name,
        standing_of(row.suspended, locks, now).value,
        *_columns(row, now),
        row.confirmed,
        row.mail,
        row.directory,
        iso(row.last_login_at.timestamp()) if row.last_login_at else "",
        row.last_login_client,
        row.requirement.exempt_reason if row.requirement.exempt(now) else "",
        row.key,
    )


def _csv_lines(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([[_harmless(cell) for cell in row] for row in rows])
    return text.getvalue()


def _harmless(cell: object) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    text = str(cell)
    return f"'{text}" if text.startswith(_A_FORMULA_BEGINS) else text


def standing_of(suspended: bool, locks: Locks | None, now: float) -> Standing:  # noqa: FBT001 - as it is on record
    """Return the state of a user, *locks* being None where nothing counts against them."""
    now_ms = int(now * 1000)
    return standing(
        suspended=suspended,
        everywhere=locks is not None and locks.everywhere(now_ms),
        somewhere=locks is not None and locks.anywhere(now_ms),
    )


def _columns(row: ListedUser, now: float) -> tuple[str, str]:
    asked, has = row.requirement, {"confirmed": row.confirmed > 0, "pending": row.pending > 0}
    return totp_words(asked, now, **has), requirement_words(asked, now)
