"""One connection to Redis on which everybody's commands travel together.

What is asked in one turn of the loop leaves in one write, and replies are matched by their order,
which is Redis's promise. redis-py knows how to reach and greet the server; its own way of waiting
for a reply costs five times as much (docs/adr/0009-one-pipe-to-redis.md). Nothing is ever sent
twice: a command whose reply was lost may have run.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    DefaultParser,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

Command = tuple[Any, ...]
"""Texts, octets and numbers, as hiredis packs them."""


class RedisPipe(asyncio.Protocol):
    """An open connection. ``call`` gives a future; when the connection ends, all of them fail."""

    def __init__(self, timeout_seconds: float) -> None:
        """Give up the connection where a reply takes longer than *timeout_seconds*."""
        self._timeout = timeout_seconds
        self._reader = hiredis.Reader(replyError=DefaultParser.parse_error)
        self._unsent: list[tuple[asyncio.Future[Any], Command]] = []
        self._awaited: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._end: Exception | None = None

    def __len__(self) -> int:
        """Return how many commands wait for their reply."""
        return len(self._unsent) + len(self._awaited)

    @property
    def ended(self) -> bool:
        """Whether the connection is of no use any more."""
        return self._end is not None

    def call(self, command: Command) -> "asyncio.Future[Any]":
        """Return the reply to *command* as a future, an error that Redis gives as an exception."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._end is not None:
            future.set_exception(self._end)
            return future
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append((future, command))
        return future

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        now, packed = self._loop.time(), []
        for future, command in unsent:
            if future.done():  # the caller has given up
                continue
            try:
                packed.append(hiredis.pack_command(command))
            except Exception as error:  # noqa: BLE001 - what can't be sent is its caller's alone
                future.set_exception(error)
                continue
            self._awaited.append((future, now))
        if packed and self._transport is not None:
            self._transport.write(b"".join(packed))
            if self._watch is None:
                self._watch = self._loop.call_later(self._timeout, self._look)

    def _look(self) -> None:
        """Give the connection up where its oldest command has waited too long."""
        self._watch = None
        if self._awaited:
            late = self._loop.time() - self._awaited[0][1]
            if late >= self._timeout:
                self.close(TimeoutError())
            else:
                self._watch = self._loop.call_later(self._timeout - late, self._look)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (asyncio calls this)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class

    def data_received(self, data: bytes) -> None:
        """Hand out the replies in *data* (asyncio calls this)."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                future, _ = self._awaited.popleft()
                if not future.done():
                    if isinstance(reply, Exception):
                        future.set_exception(reply)
                    else:
                        future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.close(RedisConnectionError())

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits (asyncio calls this)."""
        self.close(exc or RedisConnectionError())

    def close(self, reason: Exception) -> None:
        """End the connection; whoever waits gets *reason*."""
        if self._end is not None:
            return
        self._end = reason
        if self._transport is not None:
            self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        waiting = [future for future, _ in (*self._awaited, *self._unsent)]
        self._awaited.clear()
        self._unsent.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(reason)


async def open_pipe(
    redis: "Redis", greeting: Sequence[Command], timeout_seconds: float
) -> RedisPipe:
    """Connect to where *redis* points, greet, and return the pipe.

    Raises RedisError, OSError or TimeoutError. *greeting* is sent before anything else.
    """
    target = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    pipe: RedisPipe | None = None
    try:
        async with asyncio.timeout(timeout_seconds):
            pipe = await _connected(target, timeout_seconds)
            await asyncio.gather(*map(pipe.call, [*_credentials(target), *greeting]))
    except BaseException as error:
        if pipe is not None:
            pipe.close(error if isinstance(error, Exception) else RedisConnectionError())
        raise
    return pipe


async def _connected(target: AbstractConnection, timeout_seconds: float) -> RedisPipe:
    loop = asyncio.get_running_loop()

    def pipe() -> RedisPipe:
        return RedisPipe(timeout_seconds)

    if isinstance(target, UnixDomainSocketConnection):
        return (await loop.create_unix_connection(pipe, target.path))[1]
    if not isinstance(target, Connection):
        raise RedisError(f"connections of {type(target).__name__} are not supported")
    tls = target.ssl_context.get() if isinstance(target, SSLConnection) else None
    return (await loop.create_connection(pipe, target.host, target.port, ssl=tls))[1]


def _credentials(target: AbstractConnection) -> list[Command]:
    commands: list[Command] = []
    if target.password:
        names = (target.username,) if target.username else ()
        commands.append(("AUTH", *names, target.password))
    if target.db:
        commands.append(("SELECT", target.db))
    return commands
