"""``radius-mfa explain``: why a user was refused, in plain words, and what to do about it."""

import textwrap
from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer

from radius_mfa import log
from radius_mfa.app import Stores
from radius_mfa.cli.common import (
    JsonOption,
    output,
    plural,
    print_json,
    print_table,
    settings,
    with_stores,
    with_user,
)
from radius_mfa.errors import Refused
from radius_mfa.policy.reasons import explained
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.login_history import PastLogin

LINE_CHARACTERS = 96


def explain(
    ctx: typer.Context,
    user: Annotated[
        str | None, typer.Argument(metavar="[USER]", help="Name of the user, in any of its forms.")
    ] = None,
    login: Annotated[
        str, typer.Option(metavar="ID", help="The login with this request_id of the log.")
    ] = "",
    last: Annotated[
        int, typer.Option("--last", "-n", metavar="N", min=1, help="How many logins, the newest.")
    ] = 10,
    as_json: JsonOption = False,
) -> None:
    """Explain the last logins of a user: what came of each, why, and what to do."""
    if (user is None) == (not login):
        raise Refused("name a user, or a login by --login ID")
    if not settings(ctx).events.history_days:
        raise Refused("events.history_days = 0 keeps no history of logins", "see the log")

    async def of(stores: Stores, found: Identity) -> tuple[str, list[PastLogin]]:
        logins = await stores.history.recent(log.printable(found.key), last)
        return found.name, logins[::-1]

    async def of_login(stores: Stores) -> tuple[str, list[PastLogin]]:
        return f"login {login}", await stores.history.login(login)

    whose, logins = with_stores(ctx, of_login) if user is None else with_user(ctx, user, of)
    if as_json:
        print_json([_as_json(one) for one in logins])
    elif logins:
        _print(whose, logins)
    else:
        raise Refused(
            f"there is nothing of {whose} in the history",
            "if somebody tried, no login of theirs came here: radius-mfa tail --result discarded",
        )


def _print(whose: str, logins: list[PastLogin]) -> None:
    output.print(f"{whose}: {plural(len(logins), 'login')}, the newest last.\n")
    rows = [
        (_second(one), one.result, one.client, _place(one), one.reason or one.method, one.hint)
        for one in logins
    ]
    print_table(("WHEN", "RESULT", "CLIENT", "FROM", "REASON", "HINT"), rows, "")
    for one in logins:
        if one.left_out:
            output.print(
                f"\n{one.left_out} more with {one.reason} at {one.client}, of whomever, were only "
                "counted: there were too many."
            )
    times = Counter(one.reason for one in logins)
    for one in {one.reason: one for one in logins}.values():
        told = explained(one.reason)
        if told is not None:
            of = f"{times[one.reason]} of {len(logins)}"
            output.print(f"\n{one.reason} ({of})", style="bold")
            _print_wrapped("means", told.means)
            _print_wrapped("to do", told.cure_of(_name(one)))


def _name(login: PastLogin) -> str:
    return login.called or login.typed or "USER"


def _second(login: PastLogin) -> str:
    return login.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _place(login: PastLogin) -> str:
    return login.station or login.source.rpartition(":")[0]


def _print_wrapped(label: str, text: str) -> None:
    indent = " " * 9
    wrapped = textwrap.fill(
        text.replace("`", ""),
        LINE_CHARACTERS,
        initial_indent=f"  {label:<7}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    output.print(wrapped)


def _as_json(login: PastLogin) -> dict[str, Any]:
    told = explained(login.reason)
    words = {"means": told.means, "cure": told.cure_of(_name(login))} if told else {}
    return {**asdict(login), "event_id": str(login.event_id), **words}  # too large for JavaScript
