"""``radius-mfa admin``: who may use the admin portal, and as what."""

import secrets
import shlex
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from radius_mfa.app import Stores
from radius_mfa.cli.common import (
    JsonOption,
    UserArgument,
    output,
    print_json,
    print_table,
    settings,
    shown,
    with_stores,
    with_user,
)
from radius_mfa.errors import Refused
from radius_mfa.policy import recovery
from radius_mfa.policy.roles import ONE_TIME_SECONDS, Role
from radius_mfa.stores.enrolments import NotOnRecord
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.records import utc_now

app = typer.Typer(help="Admins of the portal: create, list, role, remove.", no_args_is_help=True)

RoleOption = Annotated[Role, typer.Option(metavar="ROLE", help=f"One of {', '.join(Role)}.")]
RoleArgument = Annotated[Role, typer.Argument(metavar="ROLE", help=f"One of {', '.join(Role)}.")]


@app.command()
def create(ctx: typer.Context, user: UserArgument, role: RoleOption = Role.ADMIN) -> None:
    """Let a user into the admin portal; somebody unknown is added, with a one-time password."""
    password = _one_time_password()
    until = utc_now() + timedelta(seconds=ONE_TIME_SECONDS)

    async def work(stores: Stores, found: Identity) -> bool:
        known = await stores.admins.find(found.key)
        if known is not None and known.one_time_until is not None:
            hashed = await stores.directory.hashed(password)
            await stores.admins.renew_password(found.key, hashed, until)
            await stores.admins.set_role(found.key, role)
            return True
        if found.dn:
            await stores.enrolments.know(found)
        try:
            await stores.enrolments.user(found.key)
        except NotOnRecord:
            await stores.directory.add(found.key, password)
            await stores.admins.appoint(found.key, role, until)
            return True
        await stores.admins.appoint(found.key, role)
        return False

    made = with_user(ctx, user, work)
    address = f"{_address(ctx)}/admin"
    if not made:
        output.print(f"{user} is {role}, with the password and the second factor they have.")
        output.print(f"They sign in at {address}")
        return
    output.print(f"{user} is {role}. One-time password, shown this once: {password}")
    output.print(f"It is good until {shown(until)}, for the first sign-in at {address}")


@app.command("list")
def list_admins(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List who may use the admin portal."""
    admins = with_stores(ctx, lambda stores: stores.admins.all())
    if as_json:
        print_json([asdict(admin) for admin in admins])
        return
    rows = [
        (admin.name, admin.role, admin.created_at, admin.directory, admin.one_time_until)
        for admin in admins
    ]
    columns = ("USER", "ROLE", "SINCE", "DIRECTORY", "ONE-TIME PASSWORD UNTIL")
    print_table(columns, rows, "No admins yet: radius-mfa admin create NAME")


@app.command("role")
def change_role(ctx: typer.Context, user: UserArgument, role: RoleArgument) -> None:
    """Give an admin another role; it holds from their next click on."""
    with_user(ctx, user, lambda stores, found: stores.admins.set_role(found.key, role))
    output.print(f"{user} is {role}.")


@app.command()
def remove(
    ctx: typer.Context,
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let an admin into the admin portal no longer; the user stays."""
    if not yes and not typer.confirm(f"Take the role of {user} away?"):
        raise Refused("nothing was changed")

    async def work(stores: Stores, found: Identity) -> bool:
        known = await stores.admins.find(found.key)
        await stores.admins.remove(found.key)
        if known is None or known.one_time_until is None:
            return False
        await stores.enrolments.delete_user(found.key)  # or the password that was printed stays
        await stores.attempts.forget(found.key)
        return True

    if with_user(ctx, user, work):
        output.print(f"{user}, who never signed in, is deleted with the one-time password.")
        return
    output.print(
        f"{user} is no admin any more. To delete the user: radius-mfa user delete "
        f"{shlex.quote(user)}"
    )


def _one_time_password() -> str:
    """Return a password that is typed once: 100 random bits, no letter easily misread."""
    return "-".join("".join(secrets.choice(recovery.ALPHABET) for _ in range(5)) for _ in range(4))


def _address(ctx: typer.Context) -> str:
    """Return where browsers find the portal."""
    portal = settings(ctx).portal
    scheme = "https" if portal.certificate_file else "http"
    return portal.base_url or f"{scheme}://localhost:{portal.listen.rpartition(':')[2]}"
