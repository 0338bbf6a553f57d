"""``radius-mfa client preview``: whom another ``mfa`` would cut off, on record here or not yet."""

import shlex
from dataclasses import asdict, dataclass
from time import time
from typing import Annotated

import typer

from radius_mfa.app import Stores
from radius_mfa.authentication.enrolment import totp_words
from radius_mfa.cli.bulk import warn
from radius_mfa.cli.common import (
    JsonOption,
    output,
    plural,
    print_json,
    print_table,
    settings,
    with_stores,
)
from radius_mfa.cli.exchange import client_named
from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy.access import Enrolment, Mode, Need, needed
from radius_mfa.policy.requirement import NOTHING_REQUIRED, Requirement
from radius_mfa.policy.totp import Device
from radius_mfa.stores.interfaces import Identity


@dataclass(frozen=True, slots=True)
class _User:
    """A user who may log in; *closed* is why their directory lets nobody in as them."""

    name: str
    directory: str
    suspended: bool = False
    confirmed: bool = False
    pending: bool = False
    requirement: Requirement = NOTHING_REQUIRED
    closed: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    user: str
    totp: str
    directory: str
    now: str
    then: str


def preview(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the client.")],
    mode: Annotated[
        Mode | None, typer.Option(help="The mfa to try. Default: the one that is in force.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List whom another mfa would cut off at a client; nothing is changed."""
    in_force = settings(ctx)
    present = client_named(name, in_force).mfa
    rules = [
        rule.name
        for rule in in_force.rule
        if (rule.refuse or rule.mfa is not None) and (not rule.client or name in rule.client)
    ]
    tried, now = mode or present, time()
    users, unlisted = with_stores(ctx, _users)
    rows = [_row(user, present, tried, now) for user in users]
    cut_off = [
        row for row in rows if row.then not in _LET_IN and (tried is present or row.now in _LET_IN)
    ]
    if as_json:
        found = {"cut_off": [asdict(row) for row in cut_off], "unlisted": unlisted}
        print_json({"client": name, "mfa": present, "tried": tried, "rules": rules, **found})
        return
    of = f"of {plural(len(users), 'user')}"
    if tried is present:
        output.print(f'{name} has mfa = "{present}": {len(cut_off)} {of} can\'t log in there.')
    else:
        output.print(
            f'mfa = "{tried}" in place of "{present}" would cut off {len(cut_off)} {of} at {name}.'
        )
    if cut_off:
        columns = ("USER", "MFA: TOTP", "DIRECTORY", "NOW", "THEN")
        print_table(columns, [tuple(asdict(row).values()) for row in cut_off], "")
    for directory, cause in unlisted.items():
        warn(f"users of {directory} who are not on record here are left out: {cause}")
    if rules:
        output.print(
            f"Rules may say otherwise for some of them: {', '.join(rules)}. "
            f"See: radius-mfa policy explain USER --client {shlex.quote(name)}"
        )


async def _users(stores: Stores) -> tuple[list[_User], dict[str, str]]:
    """Return who is on record, or in a directory that tells; and why others do not."""
    listed: dict[str, Identity] = {}
    unlisted: dict[str, str] = {}
    told = set()
    for directory in stores.directories.ldap:
        try:
            listed |= {one.key: one for one in await directory.users()}
            told.add(directory.name)
        except Refused as error:
            unlisted[directory.name] = f"{error.message}; {error.cure}"
        except BackendUnavailable as error:
            unlisted[directory.name] = error.cause
    users = []
    for record in await stores.enrolments.users():
        entry = listed.pop(record.key, None)
        gone = entry is None and record.directory in told
        users.append(
            _User(
                record.name,
                record.directory,
                record.suspended_at is not None,
                record.confirmed,
                record.pending,
                record.requirement,
                "gone from the directory" if gone else _closed(entry),
            )
        )
    users += [_User(one.name, one.directory, closed=_closed(one)) for one in listed.values()]
    return sorted(users, key=lambda user: (user.name, user.directory)), unlisted


def _closed(entry: Identity | None) -> str:
    if entry is None or entry.state is None:
        return ""
    return f"{entry.state.name.lower().replace('_', ' ')} in the directory"


_CODE, _PASSWORD = "code", "password alone"
_LET_IN = frozenset({_CODE, _PASSWORD})
_SOME_DEVICE = (Device("", "", b""),)


def _row(user: _User, present: Mode, tried: Mode, now: float) -> _Row:
    known = Enrolment(
        known=True,
        suspended=user.suspended,
        devices=_SOME_DEVICE * user.confirmed,
        requirement=user.requirement,
    )
    has = {"confirmed": user.confirmed, "pending": user.pending}
    return _Row(
        user.name,
        totp_words(user.requirement, now, **has),
        user.directory,
        *(user.closed or _in_words(known, mode, now) for mode in (present, tried)),
    )


def _in_words(known: Enrolment, mode: Mode, now: float) -> str:
    answer = needed(known, mode, now)
    if isinstance(answer, Need):
        return _CODE if answer is Need.CODE else _PASSWORD
    return answer.value
