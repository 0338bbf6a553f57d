"""``radius-mfa test``: log in through a running server and show its reply."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from radius_mfa.cli.common import ExitCode, JsonOption, output, print_json, read_secret, settings
from radius_mfa.cli.exchange import client_for, exchange, server_address
from radius_mfa.protocol.client import ClientRequest, Reply
from radius_mfa.protocol.wire import Code


def test_login(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="User name, as typed at the VPN.")],
    server: Annotated[
        str | None, typer.Option(help="ADDRESS[:PORT]; default: the first of radius.listen.")
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(help="Client whose secret to use; default: the one that holds our address."),
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="File with the shared secret, for another server.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with password and code; - is standard input.")
    ] = None,
    calling_station_id: Annotated[str, typer.Option(help="Calling-Station-Id to send.")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the reply.")] = 6.0,
    as_json: JsonOption = False,
) -> None:
    """Send a login to a running server and show the reply. Exit code 1 for a reject."""
    in_force = settings(ctx)
    address = server_address(server, in_force)
    if secret_file is None:
        secret = client_for(address, client, in_force).secret.get_secret_value()
    else:
        secret = read_secret("Shared secret", secret_file)
    typed = read_secret("Password followed by the code", password_file)
    attributes = {"User-Name": user, "NAS-Identifier": "radius-mfa test"}
    if calling_station_id:
        attributes["Calling-Station-Id"] = calling_station_id
    request = ClientRequest(secret.encode(), Code.ACCESS_REQUEST, attributes, typed.encode())
    reply = exchange(request, address, timeout)
    print_reply(reply, as_json=as_json)
    sys.exit(ExitCode.DONE if reply.code is Code.ACCESS_ACCEPT else ExitCode.REFUSED)


def print_reply(reply: Reply, *, as_json: bool = False) -> None:
    """Print a reply, decoded."""
    if as_json:
        print_json({"code": reply.code.label, "attributes": dict(reply.attributes)})
        return
    color = "green" if reply.code is Code.ACCESS_ACCEPT else "red"
    output.print(f"[{color}]{reply.code.label}[/{color}]")
    for name, values in reply.attributes:
        for value in values:
            output.print(f"  {name} = {value}", markup=False)
