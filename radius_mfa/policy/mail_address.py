"""What a user's mail address may be: what SMTP can carry, and nothing that could be a header."""

import re
import unicodedata

MAX_OCTETS = 254
"""Of an address (RFC 5321 section 4.5.3.1.3, without the brackets)."""

MAX_LOCAL_OCTETS = 64

_LOCAL = re.compile(r"[^\s\x00-\x20\x7f\"(),:;<>@\[\\\]]+")
"""RFC 5321's Dot-string with RFC 6531's letters; a Quoted-string is nobody's address."""

_LABEL = re.compile(r"[^\W_]([\w-]{0,61}[^\W_])?")


class InvalidMailAddressError(ValueError):
    """A text that is no mail address; its message says why and does not quote it."""


def mail_address(text: str) -> str:
    """Return *text* as an address to send to, in NFC, or raise InvalidMailAddressError."""
    address = unicodedata.normalize("NFC", text.strip())
    local, at, domain = address.rpartition("@")
    if not at or not local:
        raise InvalidMailAddressError("a mail address is of the form alice@corp.example")
    if len(local.encode()) > MAX_LOCAL_OCTETS or len(address.encode()) > MAX_OCTETS:
        raise InvalidMailAddressError(f"a mail address is {MAX_OCTETS} octets long at most")
    if not address.isprintable() or not _LOCAL.fullmatch(local) or ".." in f".{local}.":
        raise InvalidMailAddressError("the part before the @ is not one that mail servers take")
    if not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        raise InvalidMailAddressError("the part behind the @ is not the name of a domain")
    return address
