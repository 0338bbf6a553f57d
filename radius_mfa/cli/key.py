"""``radius-mfa key``: the keys that encrypt seeds at rest."""

from dataclasses import asdict
from typing import Annotated

import typer

from radius_mfa.app import Stores
from radius_mfa.cli.common import (
    JsonOption,
    output,
    plural,
    print_json,
    print_table,
    settings,
    with_stores,
)
from radius_mfa.stores.key_rotation import KeyOnRecord
from radius_mfa.stores.nodes import Node

app = typer.Typer(help="Keys: the ones that encrypt seeds at rest.", no_args_is_help=True)


@app.command("list")
def list_keys(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the keys, what is encrypted under each, and the running servers that lack one."""

    async def work(stores: Stores) -> tuple[list[KeyOnRecord], list[Node]]:
        return await stores.key_rotation.overview(), await stores.nodes.running()

    file = settings(ctx).key_ring_file
    keys, nodes = with_stores(ctx, work)
    if as_json:
        print_json({"keys": [asdict(key) for key in keys], "nodes": [asdict(n) for n in nodes]})
        return
    rows = [
        (key.version, key.created_at, _state(key), plural(key.records, "record")) for key in keys
    ]
    print_table(("KEY", "CREATED", "STATE", "IN USE BY"), rows, "No keys yet.")
    for node in nodes:
        lacking = [str(key.version) for key in keys if _lacks(node, key)]
        if lacking:
            output.print(
                f"The server on {node.host} does not know key version {', '.join(lacking)}: "
                f"copy {file} there.",
                style="yellow",
            )


def _state(key: KeyOnRecord) -> str:
    if key.retired_at is not None:
        return f"retired {key.retired_at.astimezone():%Y-%m-%d}"
    if not key.in_ring:
        return "not in this key ring"
    return "encrypts" if key.encrypts else "decrypts only"


def _lacks(node: Node, key: KeyOnRecord) -> bool:
    return key.retired_at is None and key.in_ring and key.version not in node.knows


@app.command()
def rotate(ctx: typer.Context) -> None:
    """Make a new key and encrypt everything anew under it, while servers run.

    A rotation that was interrupted is finished by the next one.
    """

    async def work(stores: Stores) -> None:
        done = await stores.key_rotation.rotate(output.print)
        output.print(f"Done: {plural(done.records, 'device')} moved to key version {done.version}.")
        old = [key for key in await stores.key_rotation.overview() if _may_retire(key)]
        output.print("Back up the key ring now, apart from the database.")
        for key in old:
            output.print(f"Nothing needs the old key any more: radius-mfa key retire {key.version}")

    with_stores(ctx, work)


def _may_retire(key: KeyOnRecord) -> bool:
    return key.in_ring and not key.encrypts and key.retired_at is None and not key.records


@app.command()
def retire(
    ctx: typer.Context,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Version of the key.")],
) -> None:
    """Take a key that nothing uses any more out of the key ring."""
    file = settings(ctx).key_ring_file
    with_stores(ctx, lambda stores: stores.key_rotation.retire(version))
    output.print(f"Key version {version} is retired, and out of {file}.")
    output.print("Take its line out of the key rings of other nodes too.")
    output.print("Older backups of the database need it: keep a copy for them, or destroy both.")
