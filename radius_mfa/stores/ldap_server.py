"""One LDAP server: its connections for searches and for binds, and whether it is to be used.

The circuit breaker: a server that fails is left alone, at the first fault where another server
can stand in, and looked at from the side until it answers again. So no login is spent on trying,
and a server that hangs holds up a bounded number of them, once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import perf_counter

import structlog

from radius_mfa import tasks
from radius_mfa.stores.ldap_answers import Reply
from radius_mfa.stores.ldap_connection import Account, LdapConnection, open_connection
from radius_mfa.stores.ldap_transport import LdapFault, Target

log = structlog.get_logger()

MAX_OPENING = 4
"""Connections that one pool opens at a time."""

MAX_WAITING = 512
"""Operations that may wait for a connection; more are turned away at once."""

IDLE_SECONDS = 60.0
"""A connection that was not used for so long is not trusted: firewalls forget in silence."""

STRIKES = 3
"""Faults in a row after which a server without a stand-in is left alone."""

FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.5, 15.0
"""How long after a fault a server is looked at again; the time doubles."""

_MARGIN_SECONDS = 0.1
"""How much longer than its opening a connection is waited for: its own fault says more."""

_TURNS_TO_CLOSE = 3
"""Turns of the loop in which a TLS transport that was given up lets go of its socket."""

Observe = Callable[[str, str, str, float], None]
"""Told of every call: server, operation, kind of the fault or nothing, seconds."""


class Pool:
    """Connections of one kind to one server, opened as they are needed."""

    def __init__(
        self, open_one: Callable[[], Awaitable[LdapConnection]], size: int, timeout_seconds: float
    ) -> None:
        self._open_one = open_one
        self._size = size
        self._timeout = timeout_seconds
        self._idle: list[LdapConnection] = []
        self._waiting: deque[asyncio.Future[LdapConnection]] = deque()
        self._open = self._opening = 0
        self._tasks = tasks.TaskSet()
        self._closed = False

    async def take(self) -> LdapConnection:
        """Return a connection to give back, or raise LdapFault."""
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if connection.fault is None and loop.time() - connection.used_at < IDLE_SECONDS:
                return connection
            self._discard(connection)
        if len(self._waiting) >= MAX_WAITING:
            raise LdapFault("busy", f"{MAX_WAITING} operations wait for a connection")
        future: asyncio.Future[LdapConnection] = loop.create_future()
        self._waiting.append(future)
        self._grow()
        timer = loop.call_later(self._timeout + _MARGIN_SECONDS, self._turn_away, future)
        try:
            return await future
        except asyncio.CancelledError:
            self._unclaimed(future)
            raise
        finally:
            timer.cancel()

    def _turn_away(self, future: "asyncio.Future[LdapConnection]") -> None:
        if not future.done():
            self._waiting.remove(future)
            fault = LdapFault("busy", f"no free connection within {self._timeout:g} s")
            future.set_exception(fault)

    def _unclaimed(self, future: "asyncio.Future[LdapConnection]") -> None:
        """Take back a connection that was handed to somebody who has given up this moment."""
        if future in self._waiting:
            self._waiting.remove(future)
        if future.done() and not future.cancelled() and future.exception() is None:
            self.give(future.result())

    def give(self, connection: LdapConnection) -> None:
        """Take *connection* back, whatever has become of it."""
        if connection.fault is not None or self._closed:
            self._discard(connection)
        elif not self._hand_over(connection):
            self._idle.append(connection)

    def _hand_over(self, connection: LdapConnection) -> bool:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return True
        return False

    def _discard(self, connection: LdapConnection) -> None:
        connection.close()
        self._open -= 1
        self._grow()

    def _grow(self) -> None:
        """Open as many connections as are waited for, within the limits."""
        while (
            not self._closed
            and self._opening < min(len(self._waiting), MAX_OPENING)
            and self._open < self._size
        ):
            self._open += 1
            self._opening += 1
            self._tasks.spawn(self._add())

    async def _add(self) -> None:
        try:
            connection = await self._open_one()
        except LdapFault as fault:
            self._open -= 1
            self.fail(fault)
        except BaseException:
            self._open -= 1
            raise
        else:
            self.give(connection)
        finally:
            self._opening -= 1
            self._grow()

    def fail(self, fault: LdapFault) -> None:
        """Tell everybody who waits, and close what nobody uses."""
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(fault)
        idle, self._idle = self._idle, []
        for connection in idle:
            self._discard(connection)

    async def close(self) -> None:
        """Close what is idle, and each other connection when it is given back."""
        self._closed = True
        self.fail(LdapFault("closed", "the server is being shut down"))
        await self._tasks.stop()


class LdapServer:
    """A server of a directory; ``search`` and ``bind`` run one operation, or raise LdapFault."""

    def __init__(
        self,
        directory: str,
        target: Target,
        account: Account,
        pool_size: int,
        *,
        has_stand_in: bool,
    ) -> None:
        self.target = target
        self.up = True
        self.fault = ""
        self.observe: Observe = lambda *_call: None
        self._directory = directory
        self._account = account
        self._strikes_left = self._strikes = 1 if has_stand_in else STRIKES
        self._searches = Pool(lambda: self._opened(account), pool_size, target.timeout_seconds)
        self._binds = Pool(lambda: self._opened(None), pool_size, target.timeout_seconds)
        self._look: asyncio.Task[None] | None = None

    @property
    def uri(self) -> str:
        """The server's URL."""
        return self.target.uri

    async def search(self, ask: Callable[[LdapConnection], Awaitable[Reply]]) -> Reply:
        """Run *ask* on a connection of the search account.

        A connection that turns out to be dead gets a second try, on a fresh one: a search
        changes nothing.
        """
        try:
            return await self._run("search", self._searches, ask)
        except LdapFault as fault:
            if fault.kind != "connection" or not self.up:
                raise
            return await self._run("search", self._searches, ask)

    async def taken_for_bind(self) -> LdapConnection:
        """Return a connection to bind a user on; give it to ``bind``."""
        return await self._binds.take()

    async def bind(self, connection: LdapConnection, name: str, password: str) -> Reply:
        """Bind once, on a connection that ``taken_for_bind`` gave."""
        try:
            return await self._measured("bind", connection.bind(name, password))
        finally:
            self._binds.give(connection)

    async def _run(
        self, operation: str, pool: Pool, ask: Callable[[LdapConnection], Awaitable[Reply]]
    ) -> Reply:
        connection = await pool.take()
        try:
            return await self._measured(operation, ask(connection))
        finally:
            pool.give(connection)

    async def _measured(self, operation: str, answer: Awaitable[Reply]) -> Reply:
        began = perf_counter()
        try:
            result = await answer
        except LdapFault as fault:
            self._failed(operation, fault, perf_counter() - began)
            raise
        self._strikes_left = self._strikes
        self.observe(self.uri, operation, "", perf_counter() - began)
        return result

    async def _opened(self, account: Account | None) -> LdapConnection:
        try:
            return await open_connection(self.target, account)
        except LdapFault as fault:
            self._strikes_left = 0  # not even a connection: there is nothing to wait for
            self._failed("connect", fault, 0)
            raise

    def _failed(self, operation: str, fault: LdapFault, seconds: float) -> None:
        self.observe(self.uri, operation, fault.kind, seconds)
        if fault.kind in ("cancelled", "closed", "protocol"):
            return
        self.fault = str(fault)
        self._strikes_left -= 1
        if self._strikes_left <= 0 and self.up:
            self._leave_alone(fault)

    def _leave_alone(self, fault: LdapFault) -> None:
        self.up = False
        log.error(
            "directory.server_down",
            directory=self._directory,
            server=self.uri,
            cause=str(fault),
            hint=f"see: radius-mfa directory test {self._directory}",
        )
        for pool in (self._searches, self._binds):
            pool.fail(fault)
        self._look = tasks.spawn(self._look_again())

    async def _look_again(self) -> None:
        """Try a connection now and then; the first that opens makes the server usable again."""
        pause = FIRST_LOOK_SECONDS
        while not self.up:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_LOOK_SECONDS)
            try:
                connection = await open_connection(self.target, self._account)
            except LdapFault as fault:
                self.fault = str(fault)
                continue
            connection.close()
            self.up, self._strikes_left, self.fault = True, self._strikes, ""
            log.info("directory.server_up", directory=self._directory, server=self.uri)

    async def close(self) -> None:
        """Close every connection."""
        if self._look is not None:
            await tasks.stop(self._look)
        for pool in (self._searches, self._binds):
            await pool.close()
        for _ in range(_TURNS_TO_CLOSE):
            await asyncio.sleep(0)
