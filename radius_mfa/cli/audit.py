"""``radius-mfa audit``: who did what to whom, and whether the trail is whole."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from radius_mfa.app import Stores
from radius_mfa.cli.common import (
    JsonOption,
    output,
    plural,
    print_json,
    print_table,
    with_stores,
    with_user,
)
from radius_mfa.errors import Refused
from radius_mfa.stores import audit
from radius_mfa.stores.interfaces import Identity

app = typer.Typer(help="The audit trail: list, verify.", no_args_is_help=True)


@app.command("list")
def list_entries(
    ctx: typer.Context,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Only what was done to this user.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this admin did.")
    ] = None,
    last: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many, the newest; 0 is all.")
    ] = 50,
    as_json: JsonOption = False,
) -> None:
    """List what was done to users and their devices, oldest first."""

    async def of(stores: Stores, found: Identity) -> list[audit.Entry]:
        """Find by name whoever is on no record any more."""
        called = None if found.directory else found.name
        return await audit.entries(
            stores.database, subject=found.key, called=called, who=by, limit=last
        )

    if user is None:
        entries = with_stores(ctx, lambda s: audit.entries(s.database, who=by, limit=last))
    else:
        entries = with_user(ctx, user, of)
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    rows = [
        (e.number, e.at, e.who, e.act, e.called or e.subject, _detail(e.detail), e.origin)
        for e in entries
    ]
    columns = ("NUMBER", "WHEN", "WHO", "WHAT", "WHOM", "DETAIL", "FROM")
    print_table(columns, rows, "Nothing is on the audit trail.")


@app.command()
def verify(
    ctx: typer.Context,
    noted: Annotated[
        str, typer.Option(metavar="DIGEST", help="A digest that an earlier verify printed.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Check that no row of the trail was changed, removed or slipped in."""
    found = with_stores(ctx, lambda stores: audit.verified(stores.database, noted.strip()))
    if as_json:
        print_json(asdict(found))
    elif found.broken is None:
        output.print(f"{plural(found.rows, 'row')}, none changed, removed or slipped in.")
        output.print(f"Note this where nobody can change it, for --noted: {found.digest}")
    if found.broken is not None:
        raise Refused(
            f"the audit trail breaks at row {found.broken}: {found.why}",
            f"{plural(found.rows, 'row')} before it hang together; compare the rest with a backup",
        )


def _detail(detail: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in detail.items())
