"""``radius-mfa test``: log in through a running server and show its reply."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from radius_mfa.cli.common import ExitCode, JsonOption, output, print_json, read_secret, settings
from radius_mfa.cli.exchange import (
    ServerOption,
    TypedFileOption,
    answer_to,
    client_for,
    exchange,
    octets_of,
    server_address,
)
from radius_mfa.config import ClientSettings
from radius_mfa.errors import Refused
from radius_mfa.log import printable
from radius_mfa.policy.challenge import Prompt
from radius_mfa.policy.credentials import CodePosition
from radius_mfa.protocol.client import ClientRequest, Reply
from radius_mfa.protocol.wire import Code

MAX_ATTRIBUTE_OCTETS = 253  # RFC 2865 section 5


def test_login(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="User name, as typed at the VPN.")],
    server: ServerOption = None,
    client: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Client whose shared secret to use. Default: the one that holds our address.",
        ),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="File with the shared secret, for another server."
        ),
    ] = None,
    password_file: TypedFileOption = None,
    calling_station_id: Annotated[
        str, typer.Option(metavar="TEXT", help="Calling-Station-Id to send.")
    ] = "",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How long to wait for the reply.")
    ] = 6.0,
    as_json: JsonOption = False,
) -> None:
    """Send a login to a running server and show the reply. Exit code 1 for a reject.

    A challenge is answered by what you type then, or by the next line of the file.
    """
    in_force = settings(ctx)
    address = server_address(server, in_force)
    if secret_file is None:
        played = client_for(address, client, in_force)
        secret = played.secret.get_secret_value().encode()
        prompt, charset = prompt_for(played), played.password_charsets[0]
    else:
        secret = read_secret("Shared secret", secret_file).encode()
        prompt, charset = "Password and code, as typed at the VPN", "utf-8"
    attributes = {"User-Name": user, "NAS-Identifier": "radius-mfa test"}
    if calling_station_id:
        attributes["Calling-Station-Id"] = calling_station_id
    for name, value in attributes.items():
        check_text(name, value)
    typed = octets_of(read_secret(prompt, password_file), charset)
    round_number, state = 0, None
    while True:
        request = ClientRequest(secret, Code.ACCESS_REQUEST, attributes, typed, state=state)
        reply = exchange(request, address, timeout)
        state, round_number = reply.state, round_number + 1
        typed = b"" if state is None else answer_to(reply, password_file, round_number, charset)
        if not typed:
            break
    print_reply(reply, as_json=as_json)
    sys.exit(ExitCode.DONE if reply.code is Code.ACCESS_ACCEPT else ExitCode.REFUSED)


def check_text(name: str, value: str) -> None:
    """Raise Refused for a *value* that no attribute can carry."""
    try:
        octets = value.encode()
    except UnicodeEncodeError:
        raise Refused(f"{name} is not UTF-8 text") from None
    if not 1 <= len(octets) <= MAX_ATTRIBUTE_OCTETS:
        raise Refused(f"{name} must have 1 to {MAX_ATTRIBUTE_OCTETS} octets")


def prompt_for(client: ClientSettings) -> str:
    """Return what users of *client* are to type."""
    words = (
        ["password", "code"] if client.code_position is CodePosition.END else ["code", "password"]
    )
    if client.prompt is Prompt.CHALLENGE:
        return "Password"
    between = f" {client.separator!r} " if client.separator else " followed by the "
    alone = ", or the password alone" if client.prompt is Prompt.AUTO else ""
    return (words[0] + between + words[1]).capitalize() + alone


def print_reply(reply: Reply, *, as_json: bool = False) -> None:
    """Print a reply, decoded."""
    if as_json:
        print_json({"code": reply.code.label, "attributes": dict(reply.attributes)})
        return
    output.print(reply.code.label, style="green" if reply.code is Code.ACCESS_ACCEPT else "red")
    for name, values in reply.attributes:
        for value in values:
            output.print(f"  {name} = {printable(value)}")
