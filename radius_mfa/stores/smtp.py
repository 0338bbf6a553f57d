"""The mail server: connects as the settings say, and tells its own faults from a mail's."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import aiosmtplib

from radius_mfa.errors import BackendUnavailable, ConfigurationError

Tls = Literal["starttls", "tls", "none"]

PORTS: dict[Tls, int] = {"starttls": 587, "tls": 465, "none": 25}

STEPS = 8
"""No connection and no mail takes longer than so many answers that are just not too late."""

MAX_REPLY_CHARACTERS = 200

PERMANENT = 500
"""Replies from here on say: do not try again (RFC 5321 section 4.2.1)."""


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """Where the mail server is, and how to speak to it."""

    host: str
    port: int = 0
    tls: Tls = "starttls"
    ca_file: Path | None = None
    verify_certificate: bool = True
    username: str = ""
    password: str = field(default="", repr=False)
    timeout_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail as it goes out; *utf8* where an address can't be written in ASCII."""

    sender: str
    recipient: str
    octets: bytes = field(repr=False)
    utf8: bool = False


class LetterRefused(Exception):
    """The mail server does not take this very mail, but may take others.

    *reply* is what it says; *permanent* that saying it again would not help.
    """

    def __init__(self, reply: str, *, permanent: bool) -> None:
        super().__init__(reply)
        self.reply = reply
        self.permanent = permanent


class SmtpServer:
    """The mail server of the settings."""

    def __init__(self, options: SmtpOptions) -> None:
        """Raise ConfigurationError for a file of certificates that can't be used."""
        self.options = options
        self._tls = None if options.tls == "none" else _tls_context(options)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["SmtpConnection"]:
        """Connect and log in; BackendUnavailable says what is in the way."""
        options = self.options
        client = aiosmtplib.SMTP(
            hostname=options.host,
            port=options.port or PORTS[options.tls],
            username=options.username or None,
            password=options.password or None,
            local_hostname=_own_name(),
            timeout=options.timeout_seconds,
            use_tls=options.tls == "tls",
            start_tls=options.tls == "starttls",
            tls_context=self._tls,
        )
        try:
            async with asyncio.timeout(options.timeout_seconds * STEPS):
                await client.connect()
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise BackendUnavailable("mail", _cause(error)) from None
        try:
            yield SmtpConnection(client, options.timeout_seconds * STEPS)
        finally:
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=1)
            client.close()


class SmtpConnection:
    """A connection that mails go over, one after another."""

    def __init__(self, client: aiosmtplib.SMTP, longest_seconds: float) -> None:
        self._client = client
        self._longest_seconds = longest_seconds

    async def send(self, letter: Letter) -> None:
        """Hand *letter* over.

        Raises LetterRefused where it is the letter, BackendUnavailable where it is the server.
        """
        options = ["SMTPUTF8"] if letter.utf8 else []
        try:
            async with asyncio.timeout(self._longest_seconds):
                await self._client.sendmail(
                    letter.sender, [letter.recipient], letter.octets, mail_options=options
                )
        except aiosmtplib.SMTPNotSupported:
            reply = "the mail server takes ASCII addresses alone (no SMTPUTF8)"
            raise LetterRefused(reply, permanent=True) from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refused(error.recipients[0]) from None
        except aiosmtplib.SMTPDataError as error:
            raise _refused(error) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise BackendUnavailable("mail", _cause(error)) from None


def _refused(error: aiosmtplib.SMTPResponseException) -> LetterRefused:
    return LetterRefused(_reply(error), permanent=error.code >= PERMANENT)


def _reply(error: aiosmtplib.SMTPResponseException) -> str:
    text = re.sub(r"[^ -~]+", " ", error.message).strip()
    return f"{error.code} {text[:MAX_REPLY_CHARACTERS]}"


def _cause(error: Exception) -> str:
    """Return in a few words what is wrong with the mail server; no text quotes the password."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        kind = next(
            (words for sort, words in _REPLIES.items() if isinstance(error, sort)), "it says"
        )
        return f"{kind}: {_reply(error)}"
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {one.verify_message}"
        for sort, words in _FAULTS.items():
            if isinstance(one, sort):
                return words
        for found, words in _OF_LIBRARY.items():
            if found in str(one):
                return words
    root = _chain(error)[-1]
    said = root.strerror if isinstance(root, OSError) else None
    return (said or "it has ended the connection").lower()


def _chain(error: BaseException) -> list[BaseException]:
    """Return *error* and what it came from."""
    cause = error.__cause__ or error.__context__
    return [error, *_chain(cause)] if cause is not None else [error]


_REPLIES = {
    aiosmtplib.SMTPAuthenticationError: "the login is refused",
    aiosmtplib.SMTPSenderRefused: "the sender is refused",
}

_FAULTS: dict[type[BaseException], str] = {
    ssl.SSLError: "no TLS on this port",
    socket.gaierror: "its name is not known",
    ConnectionRefusedError: "connection refused",
    TimeoutError: "no answer in time",
}

_OF_LIBRARY = {
    "STARTTLS extension not supported": "it offers no STARTTLS",
    "AUTH extension is not supported": "it offers no login",
    "No suitable authentication method": "it offers no login",
}
"""What aiosmtplib says where it has no exception of its own."""


def _own_name() -> str:
    """Return what this host calls itself to the server, without asking DNS."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9.-]+", name) else "localhost"


def _tls_context(options: SmtpOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:  # TLS errors, too
        raise ConfigurationError(
            f"{options.ca_file} can't be used: {error.strerror or 'no certificate in it'}",
            "mail.ca_file names certificates to trust, in PEM",
        ) from None
    if not options.verify_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
