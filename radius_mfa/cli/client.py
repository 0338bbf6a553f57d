"""``radius-mfa client``: the NAS table in the configuration file."""

import os
import secrets
import string
import tempfile
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

import tomlkit
import typer

from radius_mfa.app import nas
from radius_mfa.cli.common import (
    JsonOption,
    configuration,
    output,
    print_json,
    print_table,
    settings,
)
from radius_mfa.cli.exchange import client_named
from radius_mfa.config import ClientSettings, Settings
from radius_mfa.config_file import load
from radius_mfa.errors import ConfigurationError, OperatorError, Refused

app = typer.Typer(help="Clients: the VPN gateways that may ask.", no_args_is_help=True)

SECRET_CHARACTERS = 32
_ALPHABET = string.ascii_letters + string.digits
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the client.")]


@app.command()
def add(
    ctx: typer.Context,
    name: NameArgument,
    address: Annotated[
        list[str], typer.Argument(metavar="ADDRESS...", help="Addresses or networks it sends from.")
    ],
    message_authenticator: Annotated[
        bool | None,
        typer.Option(
            "--require-message-authenticator/--no-require-message-authenticator",
            help="Default: as in [radius].",
        ),
    ] = None,
) -> None:
    """Add a client with a fresh shared secret, which is printed once."""
    known = configuration(ctx)  # a file with faults must be mended before it is added to
    secret = new_shared_secret()
    block = client_block(name, address, secret)
    if message_authenticator is not None:
        block["require_message_authenticator"] = message_authenticator
    _edit(known.path, lambda document: _clients(document).append(block))
    output.print(f"Added {name} to {known.path}.", markup=False)
    output.print("Its shared secret, shown this once; type it on the gateway too:\n")
    output.print(f"    {secret}\n", markup=False)
    output.print("A running server knows it after a restart.")


@app.command("list")
def list_clients(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List clients, without their secrets."""
    in_force = settings(ctx)
    clients = [_summary(client, in_force) for client in in_force.client]
    if as_json:
        print_json(clients)
        return
    rows = [
        (
            client["name"],
            ", ".join(client["address"]),
            "required" if client["require_message_authenticator"] else "optional",
            client["code_position"],
        )
        for client in clients
    ]
    columns = ("CLIENT", "ADDRESS", "MESSAGE-AUTHENTICATOR", "CODE AT")
    print_table(columns, rows, "No clients yet: radius-mfa client add NAME ADDRESS")


@app.command()
def show(ctx: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Show a client, without its secret."""
    in_force = settings(ctx)
    summary = _summary(client_named(name, in_force), in_force)
    if as_json:
        print_json(summary)
        return
    for label, value in summary.items():
        text = ", ".join(value) if isinstance(value, list) else value
        output.print(f"{label} = {text}", markup=False)


@app.command()
def remove(ctx: typer.Context, name: NameArgument) -> None:
    """Remove a client: its requests are discarded after a restart."""
    known = configuration(ctx)
    client_named(name, known.settings)
    _edit(known.path, lambda document: _without(document, name))
    output.print(f"Removed {name} from {known.path}.", markup=False)
    output.print("A running server forgets it after a restart.")


def new_shared_secret() -> str:
    """Return 32 random letters and digits: 190 bits, typeable on any gateway."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARACTERS))


def client_block(name: str, addresses: list[str], secret: str) -> Any:  # noqa: ANN401 - tomlkit's table
    """Return a ``[[client]]`` table."""
    block = tomlkit.table()
    block["name"] = name
    block["address"] = addresses[0] if len(addresses) == 1 else addresses
    block["secret"] = secret
    return block


def _clients(document: Any) -> Any:  # noqa: ANN401 - tomlkit's document
    if "client" not in document:
        document["client"] = tomlkit.aot()
    return document["client"]


def _without(document: Any, name: str) -> None:  # noqa: ANN401 - tomlkit's document
    clients = _clients(document)
    index = next((i for i, block in enumerate(clients) if block.get("name") == name), None)
    if index is None:
        raise Refused(f"{name} is set in the environment, not in the file", "remove it there")
    del clients[index]


def _edit(path: Path, change: Any) -> None:  # noqa: ANN401 - a function of tomlkit's document
    """Change the file atomically: checked first, comments kept, never half written."""
    document = tomlkit.parse(path.read_text("utf-8"))
    change(document)
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ConfigurationError(f"{path.parent} can't be written: {error.strerror}") from None
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(tomlkit.dumps(document))
            file.flush()
            os.fsync(descriptor)
        try:
            load(draft)
        except OperatorError as error:
            raise Refused(error.message.replace(str(draft), str(path)), error.cure) from None
        stat = path.stat()
        draft.chmod(stat.st_mode & 0o777)
        if os.geteuid() == 0:
            os.chown(draft, stat.st_uid, stat.st_gid)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _summary(client: ClientSettings, in_force: Settings) -> dict[str, Any]:
    in_effect = nas(client, in_force)
    summary: dict[str, Any] = client.model_dump(mode="json", exclude={"secret"})
    summary["address"] = [str(ip_network(address)) for address in client.address]
    summary["require_message_authenticator"] = in_effect.require_message_authenticator
    summary["status_server"] = in_effect.status_server
    return summary
