"""``radius-mfa client``: the NAS table in the configuration file."""

import secrets
import string
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import tomlkit
import typer

from radius_mfa.app import nas
from radius_mfa.cli import client_preview, client_test
from radius_mfa.cli.client_file import edited, with_client, without_client
from radius_mfa.cli.common import (
    JsonOption,
    configuration,
    output,
    print_fields,
    print_json,
    print_table,
    settings,
    shown,
    with_stores,
)
from radius_mfa.cli.exchange import client_named
from radius_mfa.config import ClientSettings, Settings, without_full_prefix
from radius_mfa.policy_setup import group_attribute
from radius_mfa.stores.clients_seen import ClientSeen, may_be_required
from radius_mfa.stores.records import utc_now
from radius_mfa.vendors import AUTO, vendor_defaults

app = typer.Typer(help="Clients: the VPN gateways that may ask.", no_args_is_help=True)

SECRET_CHARACTERS = 31
"""Of a shared secret: SonicWall takes no more; of letters and digits that is 180 bits."""
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
            help="Discard its requests without Message-Authenticator, or not. "
            "Default: radius.require_message_authenticator.",
        ),
    ] = None,
    vendor: Annotated[
        str, typer.Option(metavar="VENDOR", help="What kind of gateway it is: see docs/vendors.")
    ] = "",
) -> None:
    """Add a client with a fresh shared secret, which is printed once."""
    known = configuration(ctx)  # a file with faults must be mended before it is added to
    secret = new_shared_secret()
    block = client_block(name, address, secret)
    if vendor:
        block["vendor"] = vendor
    if message_authenticator is not None:
        block["require_message_authenticator"] = message_authenticator
    edited(known.path, lambda text: with_client(text, block))
    output.print(f"Added {name} to {known.path}.")
    output.print("Its shared secret, shown this once; type it on the gateway too:\n")
    output.print(f"    {secret}\n")
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
            [*client["address"], *(f"TLS: {name}" for name in client["certificate_name"])],
            client["vendor"],
            "required" if client["require_message_authenticator"] else "optional",
            client["mfa"],
            client["code_position"],
        )
        for client in clients
    ]
    columns = ("CLIENT", "ADDRESS", "VENDOR", "MESSAGE-AUTHENTICATOR", "MFA", "CODE AT")
    print_table(columns, rows, "No clients yet: radius-mfa client add NAME ADDRESS")


@app.command()
def seen(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show what each client was seen to send, and where Message-Authenticator can be required."""
    in_force = settings(ctx)
    found = with_stores(ctx, lambda stores: stores.clients_seen.all())
    now = utc_now()
    of = {one.name: [seen for seen in found if seen.client == one.name] for one in in_force.client}
    advice = {name: _advice(name, of_client, in_force, now) for name, of_client in of.items()}
    if as_json:
        known = [one for of_client in of.values() for one in of_client]
        print_json({"seen": [asdict(one) for one in known], "advice": advice})
        return
    rows = [row for name, of_client in of.items() for row in _seen_rows(name, of_client, now)]
    columns = (
        *("CLIENT", "NAS-IDENTIFIER", "REQUESTS", "MESSAGE-AUTHENTICATOR", "PROXY-STATE"),
        *("RESENT", "METHODS", "FIRST SEEN", "LAST SEEN"),
    )
    print_table(columns, rows, "No clients yet: radius-mfa client add NAME ADDRESS")
    for line in filter(None, advice.values()):
        output.print(f"\n{line}")


def _seen_rows(name: str, seen: list[ClientSeen], now: datetime) -> list[tuple[Any, ...]]:
    if not seen:
        return [(name, *[None] * 7, "never")]
    return [
        (
            *(name, one.nas_identifier, one.requests, _signs(one, now)),
            *(_share(one.proxied, one.requests), one.resent, ", ".join(one.methods)),
            *(one.first_seen, one.last_seen),
        )
        for one in seen
    ]


def _signs(seen: ClientSeen, now: datetime) -> str:
    if seen.last_unsigned is not None and seen.signs_always(now):
        return f"always since {shown(seen.last_unsigned)}"
    return _share(seen.signed, seen.requests)


def _share(some: int, every: int) -> str:
    return "never" if not some else "always" if some == every else f"{some} of {every}"


def _advice(name: str, seen: list[ClientSeen], in_force: Settings, now: datetime) -> str:
    client = client_named(name, in_force)
    if nas(client, in_force).require_message_authenticator or not may_be_required(seen, now):
        return ""
    return (
        f"{name} sends Message-Authenticator always: set require_message_authenticator = true in "
        "its [[client]], and nobody can forge its requests any more."
    )


@app.command("require-signature")
def require_signature(
    ctx: typer.Context,
    name: NameArgument,
    end: Annotated[
        bool, typer.Option("--end", help="Leave it to the configuration again.")
    ] = False,
) -> None:
    """Require Message-Authenticator of a client on every node at once, as the portal does."""
    client_named(name, settings(ctx))
    if end:
        with_stores(ctx, lambda stores: stores.signed_clients.withdraw(name))
        output.print(f"Whether {name} signs is left to the configuration, within seconds.")
        return
    with_stores(ctx, lambda stores: stores.signed_clients.require(name))
    output.print(f"Requests of {name} without Message-Authenticator are discarded within seconds.")
    output.print(f"To undo: radius-mfa client require-signature {name} --end")


@app.command()
def show(ctx: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Show a client, without its secret."""
    in_force = settings(ctx)
    summary = _summary(client_named(name, in_force), in_force)
    if as_json:
        print_json(summary)
        return
    by_vendor = summary.pop("by_vendor")
    print_fields(
        [
            (label.replace("_", " "), f"{shown(value)}{' (by vendor)' * (label in by_vendor)}")
            for label, value in summary.items()
        ]
    )


@app.command()
def remove(ctx: typer.Context, name: NameArgument) -> None:
    """Remove a client: its requests are discarded after a restart."""
    known = configuration(ctx)
    client_named(name, known.settings)
    edited(known.path, lambda text: without_client(text, name))
    output.print(f"Removed {name} from {known.path}.")
    output.print("A running server forgets it after a restart.")


app.command("test")(client_test.test_client)
app.command()(client_preview.preview)


def new_shared_secret() -> str:
    """Return random letters and digits that are typeable on any gateway."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARACTERS))


def client_block(name: str, addresses: list[str], secret: str) -> Any:  # noqa: ANN401 - tomlkit's table
    """Return a ``[[client]]`` table."""
    block = tomlkit.table()
    block["name"] = name
    block["address"] = addresses[0] if len(addresses) == 1 else addresses
    block["secret"] = secret
    return block


def _summary(client: ClientSettings, in_force: Settings) -> dict[str, Any]:
    in_effect = nas(client, in_force)
    summary: dict[str, Any] = client.model_dump(mode="json", exclude={"secret"})
    summary["address"] = [without_full_prefix(address) for address in client.address]
    summary["require_message_authenticator"] = in_effect.require_message_authenticator
    summary["status_server"] = in_effect.status_server
    summary["group_attribute"], summary["group_value"] = group_attribute(client)
    summary["by_vendor"] = _by_vendor(client)
    return summary


def _by_vendor(client: ClientSettings) -> list[str]:
    """Return the settings that are as the vendor's recipe says."""
    recipe = ClientSettings(
        name=client.name,
        address=client.address,
        secret=client.secret,
        certificate_name=client.certificate_name,
        vendor=client.vendor,
    )
    names = [
        name
        for name in vendor_defaults(client.vendor)
        if getattr(client, name) == getattr(recipe, name)
    ]
    return names + ["group_attribute"] * (client.group_attribute == AUTO)
