"""Sends the mails that wait, one after another, beside the logins and never in their way.

Each node runs one; a mail is sent by whoever claimed it. A mail server that fails is told once
for each cause, and tried again after growing waits, while the mails wait.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import structlog

from radius_mfa.errors import BackendUnavailable
from radius_mfa.mails.message import Sender, message
from radius_mfa.mails.texts import Texts
from radius_mfa.policy.lockout import UNTIL_UNLOCKED
from radius_mfa.policy.mail import Fate, Kind, still_so, wait_seconds
from radius_mfa.server.faults import fault
from radius_mfa.server.metrics import Metrics
from radius_mfa.server.outages import Outage, cure
from radius_mfa.stores.outbox import Mail, Outbox
from radius_mfa.stores.smtp import Letter, LetterRefused, SmtpConnection, SmtpServer

log = structlog.get_logger()

ROUND_SECONDS = 5.0
"""How often the queue is looked at."""

HOUR_SECONDS = 3600


class Writer:
    """Writes mails: what they say, from whom they are, and where they link to."""

    def __init__(self, texts: Texts, sender: Sender, portal: str) -> None:
        self._texts = texts
        self._sender = sender
        self._portal = portal

    def letter(self, mail: Mail, address: str, now: float) -> Letter:
        """Return *mail* as it goes to *address* at *now* (Unix seconds)."""
        return self._letter(mail.kind, _values(mail), address, mail.mail_id, now)

    def test_letter(self, address: str, mail_id: str, now: float) -> Letter:
        """Return a mail to *address* that tells nobody anything."""
        name = address.rpartition("@")[0]
        return self._letter(Kind.TEST, {"name": name}, address, mail_id, now)

    def _letter(
        self, kind: Kind, values: dict[str, Any], address: str, mail_id: str, now: float
    ) -> Letter:
        common = {"service": self._sender.name, "portal": self._portal, "now": _moment(now)}
        content = self._texts.content(kind, {**values, **common})
        made = message(content, self._sender, address, mail_id, _moment(now))
        return Letter(made.sender, made.recipient, made.octets, made.utf8)


class MailSender:
    """The sender of one node."""

    def __init__(
        self,
        outbox: Outbox,
        server: SmtpServer,
        writer: Writer,
        metrics: Metrics,
        *,
        retry_hours: float = 72,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._server = server
        self._writer = writer
        self._metrics = metrics
        self._retry_seconds = retry_hours * HOUR_SECONDS
        self._clock = clock
        self._outage = Outage()
        self._faults = 0
        self._paused_until = 0.0

    async def run(self) -> None:
        """Send mails until cancelled."""
        while True:
            try:
                await self.round()
            except BackendUnavailable:
                pass  # the database: its own watch tells
            except Exception as error:  # noqa: BLE001 - a sender that ended would be silent for ever
                log.error("mail.failed", **fault(error))  # noqa: TRY400 - no traceback for an operator
            await asyncio.sleep(ROUND_SECONDS)

    async def round(self) -> None:
        """Queue the reminders that are due, and send what waits as long as the server takes it."""
        now = self._clock()
        await self._outbox.remind(now)
        await self._outbox.forget(now)
        if now >= self._paused_until:
            await self._send_all()
        self._metrics.mails_waiting.set(await self._outbox.waiting())

    async def _send_all(self) -> None:
        async with AsyncExitStack() as stack:
            connection: SmtpConnection | None = None
            while (mail := await self._outbox.claim(self._clock())) is not None:
                if await self._needless(mail):
                    continue
                fresh = connection is None
                try:
                    if connection is None:
                        connection = await stack.enter_async_context(self._server.connection())
                    await self._send(mail, connection)
                except BackendUnavailable as error:
                    if error.backend != "mail":
                        raise
                    if fresh:
                        await self._pause(mail, error)
                        return
                    connection = None  # servers take so many mails over one, and no more
                    await self._outbox.put_back(mail, self._clock(), error.cause)
                else:
                    self._works()

    async def _needless(self, mail: Mail) -> bool:
        """Return whether there is nothing to send any more, and note why."""
        now = self._clock()
        if mail.address is None:
            note = "the user has no mail address any more"
        elif not still_so(mail.kind, mail.requirement, now, confirmed=mail.confirmed):
            note = "it is not true any more"
        else:
            return False
        await self._end(mail, Fate.DROPPED, note)
        log.info("mail.dropped", **_of(mail), cause=note)
        return True

    async def _send(self, mail: Mail, connection: SmtpConnection) -> None:
        assert mail.address is not None  # noqa: S101 - such mails are needless
        letter = self._writer.letter(mail, mail.address, self._clock())
        try:
            await connection.send(letter)
        except LetterRefused as refusal:
            await self._refused(mail, refusal)
        else:
            await self._end(mail, Fate.SENT)
            log.info("mail.sent", **_of(mail))

    async def _refused(self, mail: Mail, refusal: LetterRefused) -> None:
        if refusal.permanent:
            await self._end(mail, Fate.REFUSED, refusal.reply)
            hint = "is the address right? then: radius-mfa mail retry"
            log.warning("mail.refused", **_of(mail), reply=refusal.reply, hint=hint)
        elif not await self._given_up(mail, refusal.reply):
            wait = wait_seconds(mail.tries)
            await self._outbox.put_back(mail, self._clock() + wait, refusal.reply)
            if mail.tries == 1:
                log.warning("mail.deferred", **_of(mail), reply=refusal.reply)

    async def _given_up(self, mail: Mail, cause: str) -> bool:
        """Return whether a mail that can't be sent has waited for long enough, and note it."""
        if self._clock() < mail.queued_at.timestamp() + self._retry_seconds:
            return False
        await self._end(mail, Fate.GIVEN_UP, cause)
        hint = "when the cause is mended: radius-mfa mail retry"
        log.error("mail.given_up", **_of(mail), cause=cause, hint=hint)
        return True

    async def _end(self, mail: Mail, fate: Fate, note: str = "") -> None:
        await self._outbox.ended(mail, fate, self._clock(), note)
        self._metrics.mails.labels(mail.kind.value, fate.value.replace(" ", "_")).inc()

    async def _pause(self, mail: Mail, error: BackendUnavailable) -> None:
        """Leave the mail server alone for a while; *mail* waits with the others."""
        self._faults += 1
        self._paused_until = self._clock() + wait_seconds(self._faults)
        self._metrics.backend_up.labels("mail").set(0)
        if self._outage.is_news(error):
            log.error("mail.server_down", cause=error.cause, hint=cure(error))
        if not await self._given_up(mail, error.cause):
            await self._outbox.put_back(mail, self._clock(), error.cause)

    def _works(self) -> None:
        self._faults = 0
        self._metrics.backend_up.labels("mail").set(1)
        if self._outage.ends():
            log.info("mail.server_up")


def _of(mail: Mail) -> dict[str, Any]:
    """Return the fields of a log line about *mail*; the address is not among them."""
    return {"kind": mail.kind.value, "user": mail.name, "mail": mail.mail_id, "tries": mail.tries}


def _values(mail: Mail) -> dict[str, Any]:
    """Return what the text may tell of; a value that a kind does not have is empty."""
    detail, asked = mail.detail, mail.requirement
    until = detail.get("locked_until", UNTIL_UNLOCKED)
    return {
        "name": mail.name,
        "at": _moment(detail["at"]),
        "device": detail.get("device", ""),
        "codes_left": mail.recovery_codes,
        "locked_until": "" if until == UNTIL_UNLOCKED else _moment(until / 1000),
        "starts": "" if asked.required_from is None else _moment(asked.required_from),
        "enrol_by": "" if asked.enrol_by is None or mail.confirmed else _moment(asked.enrol_by),
    }


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
