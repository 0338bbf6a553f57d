"""A mail as it goes out: headers, plain text and HTML. Addresses were checked before."""

from dataclasses import dataclass, field
from datetime import datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from radius_mfa.mails.texts import Content


@dataclass(frozen=True, slots=True)
class Sender:
    """From whom mails come, and where replies go."""

    address: str
    name: str
    reply_to: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """The octets of a mail and its envelope; *utf8* where an address is more than ASCII."""

    sender: str
    recipient: str
    octets: bytes = field(repr=False)
    utf8: bool


def message(
    content: Content, sender: Sender, recipient: str, mail_id: str, now: datetime
) -> Message:
    """Return the mail to *recipient*; sent again, it has the same Message-ID."""
    mail_from, to = _on_the_wire(sender.address), _on_the_wire(recipient)
    utf8 = not (mail_from + to).isascii()
    # Text in a form that passes any server unchanged; names in headers are encoded, or plain UTF-8.
    form = (policy.SMTPUTF8 if utf8 else policy.SMTP).clone(cte_type="7bit")
    mail = EmailMessage(policy=form)
    mail["From"] = _mailbox(mail_from, sender.name)
    mail["To"] = _mailbox(to)
    if sender.reply_to:
        mail["Reply-To"] = _mailbox(_on_the_wire(sender.reply_to))
    mail["Subject"] = content.subject
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{mail_id}@{mail_from.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
    mail["X-Auto-Response-Suppress"] = "All"  # Exchange's word for the same
    mail.set_content(content.text, cte="quoted-printable")
    mail.add_alternative(content.html, subtype="html", cte="quoted-printable")
    mail["Content-Language"] = content.language
    return Message(mail_from, to, mail.as_bytes(), utf8)


def _mailbox(address: str, name: str = "") -> Address:
    local, _, domain = address.rpartition("@")
    return Address(name, local, domain)


def _on_the_wire(address: str) -> str:
    """Return *address* with its domain as DNS has it: that spares most servers SMTPUTF8."""
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        return address
