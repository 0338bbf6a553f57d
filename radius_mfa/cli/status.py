"""``radius-mfa status``: whether everything answers."""

import asyncio
import sys
from typing import Annotated, Any

import typer
from sqlalchemy import func, select

from radius_mfa.app import open_stores
from radius_mfa.cli.common import (
    ExitCode,
    JsonOption,
    act_as_owner,
    output,
    plural,
    print_json,
    quiet_log,
    settings,
)
from radius_mfa.cli.exchange import client_for, exchange, server_address
from radius_mfa.config import EMBEDDED, Settings
from radius_mfa.errors import BackendError, BackendUnavailable, OperatorError, Refused
from radius_mfa.protocol.client import ClientRequest
from radius_mfa.protocol.wire import Code
from radius_mfa.server.core_dumps import word
from radius_mfa.server.outages import cure
from radius_mfa.stores.nodes import Node
from radius_mfa.stores.records import Database, DeviceRecord, MfaUser, open_engine
from radius_mfa.stores.redis_scripts import RedisScripts, connect

STATUS_TIMEOUT_SECONDS = 3.0

Part = dict[str, Any]


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
        quiet_log()
        act_as_owner(in_force.data_folder)
        parts |= asyncio.run(_backends(in_force))
    if as_json:
        print_json(parts)
    else:
        for name, part in parts.items():
            output.print(f"{name:<10}", end="")
            word, style = _WORDS[part["up"]]
            output.print(f"{word:<9}", end="", style=style)
            output.print(part["detail"])
    all_up = all(part["up"] for part in parts.values())
    sys.exit(ExitCode.DONE if all_up else ExitCode.BACKEND_UNAVAILABLE)


_WORDS = {True: ("up", "green"), False: ("down", "red"), None: ("unknown", "yellow")}


def _server(in_force: Settings) -> Part:
    """Ask the server by Status-Server (RFC 5997)."""
    try:
        address = server_address(None, in_force)
        client = client_for(address, None, in_force)
        request = ClientRequest(client.secret.get_secret_value().encode(), Code.STATUS_SERVER)
        exchange(request, address, STATUS_TIMEOUT_SECONDS)
    except Refused as error:  # it can't be asked from here
        return {**_down(error), "up": None}
    except OperatorError as error:
        return _down(error)
    return _up(f"answers Status-Server on {address[0]} port {address[1]}")


def _up(detail: str) -> Part:
    return {"up": True, "detail": detail}


def _down(error: OperatorError | BackendUnavailable) -> Part:
    if isinstance(error, BackendUnavailable):
        return {"up": False, "detail": f"does not answer: {error.cause} ({cure(error)})"}
    return {"up": False, "detail": error.message + (f" ({error.cure})" if error.cure else "")}


async def _backends(in_force: Settings) -> dict[str, Part]:
    """Open the backends as the server does; where one fails, ask each by itself.

    Raises ConfigurationError for what is not a backend's fault, such as a missing key ring.
    """
    try:
        async with open_stores(in_force, private_redis=True) as stores:
            await stores.attempts.clock()
            parts = {"redis": _up(_REDIS_UP), "database": await _database(stores.database)}
            nodes = await stores.nodes.running()
            return {**parts, "nodes": _nodes(nodes)} if nodes else parts
    except (BackendError, BackendUnavailable) as error:
        database = await _database_alone(in_force)
        if in_force.redis.url.get_secret_value() != EMBEDDED:
            return {"redis": await _redis_alone(in_force), "database": database}
        return {"redis": _down(error) if database["up"] else _up("starts"), "database": database}


_REDIS_UP = "answers, and can write"


async def _database(database: Database) -> Part:
    async with database.session() as session:
        users = await session.scalar(select(func.count()).select_from(MfaUser)) or 0
        devices = await session.scalar(select(func.count()).select_from(DeviceRecord)) or 0
    return _up(f"{plural(users, 'user')}, {plural(devices, 'device')}")


def _nodes(nodes: list[Node]) -> Part:
    """Tell of the servers that share this Redis, wherever they run."""
    told = [
        f"{one.host}: key {one.encrypts_with} encrypts, core dumps {word(allowed=one.core_dumps)}"
        for one in nodes
    ]
    return _up("; ".join(dict.fromkeys(told)))


async def _database_alone(in_force: Settings) -> Part:
    timeout = in_force.database.timeout_seconds
    database = Database(open_engine(in_force.database_url, pool_size=1, timeout_seconds=timeout))
    try:
        return await _database(database)
    except BackendUnavailable as error:
        return _down(error)
    finally:
        await database.close()


async def _redis_alone(in_force: Settings) -> Part:
    password = in_force.redis.password
    redis = connect(
        in_force.redis.url.get_secret_value(),
        password=password.get_secret_value() if password else None,
        timeout_seconds=in_force.redis.timeout_seconds,
    )
    async with RedisScripts(redis, {}) as scripts:
        try:
            await scripts.guarded(redis.set(f"{in_force.redis.key_prefix}alive", "1", px=60_000))
        except BackendUnavailable as error:
            return _down(error)
    return _up(_REDIS_UP)
