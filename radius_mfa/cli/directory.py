"""``radius-mfa directory``: look at LDAP directories as the server sees them."""

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radius_mfa.cli.common import (
    ExitCode,
    JsonOption,
    output,
    print_fields,
    print_json,
    print_table,
    quiet_log,
    settings,
)
from radius_mfa.errors import Refused
from radius_mfa.ldap_setup import ldap_directories
from radius_mfa.policy.identity import InvalidUserNameError, canonical_user

if TYPE_CHECKING:  # python-ldap is an extra
    from radius_mfa.stores.directory_ldap import LdapDirectory

app = typer.Typer(help="LDAP directories: test.", no_args_is_help=True)


@app.callback()
def _directory() -> None:
    """Keep ``test`` a word of its own."""


@app.command()
def test(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of an LDAP directory.")],
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Look this user up, in any form.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Connect to every server of a directory, bind the search account, look a user up.

    Exit code 4 if a server can't be used, 1 for a user who is not found or can't log in.
    """
    quiet_log()
    directories = {one.name: one for one in ldap_directories(settings(ctx))}
    directory = directories.get(name)
    if directory is None:
        known = ", ".join(directories) or "none"
        raise Refused(f"there is no [[directory.ldap]] named {name}", f"known: {known}")
    servers, found = asyncio.run(_looked_at(directory, user))
    if as_json:
        print_json({"servers": servers, **({"user": found} if user is not None else {})})
    else:
        _print(servers, found, user)
    if any(server["fault"] for server in servers):
        sys.exit(ExitCode.BACKEND_UNAVAILABLE)
    if user is not None and (found is None or found["state"] != "active"):
        sys.exit(ExitCode.REFUSED)


async def _looked_at(
    directory: "LdapDirectory", user: str | None
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    try:
        servers = [asdict(await directory.inspect(server)) for server in directory.servers]
        if user is None or all(server["fault"] for server in servers):
            return servers, None
        return servers, await _user(directory, user)
    finally:
        await directory.close()


async def _user(directory: "LdapDirectory", typed: str) -> dict[str, Any] | None:
    try:
        found = await directory.find(canonical_user(typed))
    except InvalidUserNameError as error:
        raise Refused(str(error)) from None
    if found is None:
        return None
    groups = await directory.groups(found) if found.dn else []
    return {
        "name": found.name,
        "dn": found.dn,
        "key": found.key,
        "state": found.state.name.lower() if found.state else "active",
        "groups": [asdict(group) for group in groups],
    }


def _print(servers: list[dict[str, Any]], found: dict[str, Any] | None, user: str | None) -> None:
    rows = [
        (
            server["uri"],
            server["tls"] or "none",
            server["fault"] or f"works, {server['milliseconds']:g} ms",
        )
        for server in servers
    ]
    print_table(("SERVER", "TLS", "STATE"), rows, "No servers.")
    if user is None:
        return
    output.print()
    if found is None:
        output.print(f"{user} is not found.")
        return
    fields = [(name, found[name]) for name in ("name", "dn", "key", "state")]
    groups = [("group", f"{group['name']}  ({group['dn']})") for group in found["groups"]]
    print_fields([("user" if name == "name" else name, value) for name, value in fields] + groups)
