"""What a login brings to light about its user, put on record behind the login's back.

A lock is told by mail; a mail address that the directory has changed is noted. Neither takes time
of a login, and what can't be put on record for too long is dropped rather than kept in memory.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from radius_mfa.authentication.login import Outcome
from radius_mfa.errors import BackendUnavailable, OperatorError
from radius_mfa.policy.decision import Accept
from radius_mfa.server.faults import fault
from radius_mfa.stores.interfaces import Identity

log = structlog.get_logger()

MAX_WAITING = 1_000
"""Notices that may wait for the database."""

AGAIN_SECONDS = 2.0
"""After this the database is asked again."""

REMEMBERED_USERS = 20_000


class Notices:
    """Takes notices from logins, and puts them on record one after another."""

    def __init__(
        self,
        lock: Callable[[str, int, float], Awaitable[None]],
        refresh: Callable[[Identity], Awaitable[None]],
    ) -> None:
        self._lock = lock
        self._refresh = refresh
        self._waiting: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(MAX_WAITING)
        self._addresses: OrderedDict[str, str] = OrderedDict()
        self._dropped = False

    def of(self, outcome: Outcome, user: Identity, now: float) -> None:
        """Take note of a login of *user* that was decided just now."""
        if outcome.locked_until:
            self._put(partial(self._lock, user.key, outcome.locked_until, now))
        elif isinstance(outcome.decision, Accept) and user.dn:
            self._address(user)

    def _address(self, user: Identity) -> None:
        if self._addresses.get(user.key) == user.mail:
            return
        if self._put(partial(self._refresh, user)):
            self._addresses[user.key] = user.mail
            if len(self._addresses) > REMEMBERED_USERS:
                self._addresses.popitem(last=False)

    def _put(self, notice: Callable[[], Awaitable[None]]) -> bool:
        try:
            self._waiting.put_nowait(notice)
        except asyncio.QueueFull:
            if not self._dropped:
                log.warning(
                    "notices.dropped",
                    hint="the database does not keep up: mails about locks are missing",
                )
            self._dropped = True
            return False
        self._dropped = False
        return True

    async def run(self) -> None:
        """Put notices on record until cancelled."""
        while True:
            await self._recorded(await self._waiting.get())

    async def _recorded(self, notice: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await notice()
            except BackendUnavailable:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            except OperatorError:
                pass  # the user was deleted meanwhile
            except Exception as error:  # noqa: BLE001 - a fault of one is not to end the others
                log.error("notice.failed", **fault(error))  # noqa: TRY400 - no traceback for an operator
            return
