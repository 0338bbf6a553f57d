"""``radius-mfa mail``: mails that wait or came to nothing, and whether they arrive at all."""

import asyncio
import secrets
from dataclasses import asdict
from time import time
from typing import Annotated

import typer

from radius_mfa.app import backends_named
from radius_mfa.cli.common import (
    JsonOption,
    output,
    plural,
    print_json,
    print_table,
    settings,
    with_stores,
)
from radius_mfa.config import Settings
from radius_mfa.errors import Refused
from radius_mfa.policy.mail import Fate
from radius_mfa.policy.mail_address import InvalidMailAddressError, mail_address

app = typer.Typer(help="Mails to users: what waits, try again, send a test.", no_args_is_help=True)

MailsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="MAIL...", help="Mails, as the list has them.")
]


@app.command("list")
def list_mails(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that were sent, or were needless.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List mails that wait, were refused or given up; the newest last."""
    mails = with_stores(ctx, lambda stores: stores.outbox.listed(everything=everything))
    if as_json:
        print_json([asdict(mail) for mail in mails])
        return
    rows = [
        (
            mail.mail_id,
            mail.kind.replace("_", " "),
            mail.user,
            mail.address,
            mail.fate,
            mail.ended_at or mail.queued_at,
            mail.due_at if mail.fate == Fate.WAITING else None,
            mail.note,
        )
        for mail in mails
    ]
    columns = ("MAIL", "KIND", "USER", "ADDRESS", "FATE", "SINCE", "NEXT TRY", "WHY")
    print_table(columns, rows, "No mails." if everything else "Nothing waits or came to nothing.")


@app.command()
def retry(
    ctx: typer.Context,
    mails: MailsArgument = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that wait, were refused or given up.")
    ] = False,
) -> None:
    """Try again now to send mails that wait, were refused or given up."""
    _refuse_without_server(settings(ctx))
    if bool(mails) == everything:
        raise Refused("name mails, or say --all", "one of the two; see: radius-mfa mail list")
    ids = None if everything else set(mails or ())
    count = with_stores(ctx, lambda stores: stores.outbox.retry(ids, time()))
    if ids and not count:
        raise Refused("none of them waits or came to nothing", "see: radius-mfa mail list")
    output.print(
        f"{plural(count, 'mail')} will be tried again within seconds, by a server that runs."
    )


@app.command()
def test(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where to send it.")],
) -> None:
    """Send a test mail now, and say what is in the way."""
    in_force = settings(ctx)
    _refuse_without_server(in_force)
    try:
        recipient = mail_address(address)
    except InvalidMailAddressError as error:
        raise Refused(str(error), "correct the address") from None
    with backends_named():
        asyncio.run(_send_test(in_force, recipient))
    output.print(f"The mail server has taken a mail to {recipient}. Has it arrived?")


async def _send_test(in_force: Settings, recipient: str) -> None:
    from radius_mfa import mail_setup  # noqa: PLC0415 - a library that others can do without
    from radius_mfa.stores.smtp import LetterRefused  # noqa: PLC0415

    letter = mail_setup.writer(in_force).test_letter(recipient, secrets.token_hex(8), time())
    async with mail_setup.smtp_server(in_force).connection() as connection:
        try:
            await connection.send(letter)
        except LetterRefused as refusal:
            raise Refused(
                f"the mail server refuses the mail: {refusal.reply}",
                "is the address right, and may mail.from_address send there?",
            ) from None


def _refuse_without_server(in_force: Settings) -> None:
    if not in_force.mail.host:
        raise Refused("no mail server is configured", "set mail.host and mail.from_address")
