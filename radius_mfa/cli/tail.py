"""``radius-mfa tail``: what happens to logins, on every node."""

import sys
from typing import Annotated, Any

import orjson
import typer

from radius_mfa import log
from radius_mfa.app import Stores
from radius_mfa.cli.common import JsonOption, errors, settings, with_stores
from radius_mfa.config import EMBEDDED
from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.stores.events import Event, EventFilter, Result


def tail(
    ctx: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    last: Annotated[
        int, typer.Option("--last", "-n", metavar="N", min=0, help="How many to begin with.")
    ] = 20,
    client: Annotated[
        str, typer.Option(metavar="NAME", help="Only logins through this client.")
    ] = "",
    user: Annotated[
        str, typer.Option(metavar="USER", help="Only of this user: as typed, or as known here.")
    ] = "",
    result: Annotated[
        Result | None, typer.Option(metavar="RESULT", help=f"Only {', '.join(Result)}.")
    ] = None,
    reason: Annotated[str, typer.Option(metavar="REASON", help="Only with this reason.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what happened to logins just now, on every node, as the log has it."""
    wanted = EventFilter(client, user, result, reason)
    line = _json_line if as_json else log.console_lines(colors=sys.stdout.isatty())

    def show(event: Event) -> None:
        if event.result:
            sys.stdout.write(line({**event.fields, "node": event.node}) + "\n")
            sys.stdout.flush()

    async def run(stores: Stores) -> None:
        if follow and embedded and not await stores.nodes.running():
            # this very command would keep the data folder from a server that starts
            raise Refused("no server runs here, so there is nothing to follow")
        since = await stores.events.last_id()
        for event in await stores.events.newest(last, wanted):
            if event.event_id <= since:
                show(event)
        if follow:
            async for event in stores.events.follow(since, _tell):
                if wanted.admits(event):
                    show(event)

    embedded = settings(ctx).redis.url.get_secret_value() == EMBEDDED
    with_stores(ctx, run)


def _json_line(fields: dict[str, Any]) -> str:
    return orjson.dumps(fields).decode()


def _tell(error: BackendUnavailable | None) -> None:
    if error is None:
        errors.print("Redis answers again.", style="dim")
    else:
        errors.print(f"Redis does not answer ({error.cause}): waiting until it does.", style="dim")
