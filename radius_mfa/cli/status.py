"""``radius-mfa status``: whether everything answers."""

import asyncio
import sys
from typing import Annotated, Any

import typer

from radius_mfa import log
from radius_mfa.app import open_stores
from radius_mfa.cli.common import ExitCode, JsonOption, output, print_json, settings
from radius_mfa.cli.exchange import client_for, exchange, server_address
from radius_mfa.config import Settings
from radius_mfa.errors import BackendUnavailable, OperatorError
from radius_mfa.protocol.client import ClientRequest
from radius_mfa.protocol.wire import Code

STATUS_TIMEOUT_SECONDS = 3.0


def status(
    ctx: typer.Context,
    server_only: Annotated[
        bool, typer.Option("--server-only", help="Ask the server alone, as health checks do.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show whether server, Redis and database answer. Exit code 4 where one does not."""
    in_force = settings(ctx)
    parts = {"server": _server(in_force)}
    if not server_only:
        parts |= asyncio.run(_backends(in_force))
    if as_json:
        print_json(parts)
    else:
        for name, part in parts.items():
            color = "green" if part["up"] else "red"
            output.print(f"{name:<10}[{color}]{'up' if part['up'] else 'down'}[/{color}]", end="  ")
            output.print(part["detail"], markup=False)
    sys.exit(
        ExitCode.DONE if all(p["up"] for p in parts.values()) else ExitCode.BACKEND_UNAVAILABLE
    )


def _server(in_force: Settings) -> dict[str, Any]:
    """Ask the server by Status-Server (RFC 5997)."""
    try:
        address = server_address(None, in_force)
        client = client_for(address, None, in_force)
        request = ClientRequest(client.secret.get_secret_value().encode(), Code.STATUS_SERVER)
        exchange(request, address, STATUS_TIMEOUT_SECONDS)
    except OperatorError as error:
        return {"up": False, "detail": f"{error.message} ({error.cure})"}
    return {"up": True, "detail": f"answers Status-Server on {address[0]} port {address[1]}"}


async def _backends(in_force: Settings) -> dict[str, dict[str, Any]]:
    """Open the backends as the server does; the one that fails says so."""
    log.configure("console", "error")
    try:
        async with open_stores(in_force, private_redis=True) as stores:
            await stores.attempts.clock()
            users = await stores.enrolments.users()
    except BackendUnavailable as error:
        return {error.backend: {"up": False, "detail": error.cause}}
    except OperatorError as error:
        return {"backends": {"up": False, "detail": f"{error.message} ({error.cure})"}}
    devices = sum(len(user.devices) for user in users)
    return {
        "redis": {"up": True, "detail": "answers, and can write"},
        "database": {"up": True, "detail": f"{len(users)} users, {devices} devices"},
    }
