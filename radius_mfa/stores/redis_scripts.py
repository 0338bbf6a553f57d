"""Lua scripts over one Redis: calls made in one turn of the loop travel together.

redis-py costs about 45 us for a call of its own and about 15 us in a pipeline. Nothing is ever
retried here: a script whose reply was lost may have run, and only the NAS may ask again.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from radius_mfa import tasks
from radius_mfa.errors import BackendUnavailable

SENDERS = 2  # one waits for replies while the other sends
MAX_PENDING_CALLS = 10_000

Argument = str | bytes | int | float


def connect(url: str, *, password: str | None, timeout_seconds: float) -> "Redis":
    """Return a client that gives up after *timeout_seconds* and never repeats a command."""
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": SENDERS + 6,
    }
    if password:
        options["password"] = password
    return Redis.from_url(url, **options)


def load_scripts() -> dict[str, str]:
    """Return the sources of the scripts in ``lua/``, by name."""
    folder = resources.files("radius_mfa.stores") / "lua"
    return {
        item.name.removesuffix(".lua"): item.read_text("utf-8")
        for item in folder.iterdir()
        if item.name.endswith(".lua")
    }


class RedisScripts:
    """Runs scripts by name. Use as an async context manager: it owns its senders."""

    def __init__(self, redis: "Redis", sources: Mapping[str, str]) -> None:
        self.redis = redis
        self._sources = dict(sources)
        self._digests = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in sources.items()
        }
        self._pending: list[_Call] = []
        self._wanted = asyncio.Event()
        self._senders: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        self._senders = [tasks.spawn(self._send()) for _ in range(SENDERS)]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        senders, self._senders = self._senders, []
        await tasks.stop(*senders)
        _fail(self._pending, _closed())
        await self.redis.aclose()

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:  # noqa: ANN401 - a script returns what it likes
        """Run script *name* once, and return its reply.

        Raises BackendUnavailable where Redis is down, slow, read-only, loading or full.
        """
        if not self._senders:
            raise _closed()
        if len(self._pending) >= MAX_PENDING_CALLS:
            raise BackendUnavailable("redis", "too many calls are waiting")
        command = ("EVALSHA", self._digests[name], len(keys), *keys, *args)
        call = _Call(command)
        self._pending.append(call)
        self._wanted.set()
        return await call.future

    async def guarded(self, command: Awaitable[Any]) -> Any:  # noqa: ANN401 - see run
        """Return the reply of a plain *command* of ``redis``; raises BackendUnavailable as run."""
        try:
            return await command
        except (RedisError, OSError, TimeoutError) as error:
            raise unavailable(error) from None

    async def _send(self) -> None:
        while True:
            await self._wanted.wait()
            calls, self._pending = self._pending, []
            self._wanted.clear()
            calls = [call for call in calls if not call.future.done()]
            if calls:
                await self._execute(calls)

    async def _execute(self, calls: list["_Call"]) -> None:
        try:
            replies = await self._pipelined(calls)
            unknown = [
                call
                for call, reply in zip(calls, replies, strict=True)
                if isinstance(reply, NoScriptError)
            ]
            for call, reply in zip(calls, replies, strict=True):
                if call not in unknown:
                    call.finish(reply)
            if unknown:  # Redis was restarted: it has run none of these
                for source in self._sources.values():
                    await self.redis.script_load(source)
                for call, reply in zip(unknown, await self._pipelined(unknown), strict=True):
                    call.finish(reply)
        except asyncio.CancelledError:
            _fail(calls, _closed())
            raise
        except Exception as error:  # noqa: BLE001 - a sender that ended would leave callers waiting
            _fail(calls, unavailable(error))

    async def _pipelined(self, calls: list["_Call"]) -> list[Any]:
        pipeline = self.redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*call.command)
        return await pipeline.execute(raise_on_error=False)


class _Call:
    """One script call that waits for its reply."""

    __slots__ = ("command", "future")

    def __init__(self, command: tuple[Argument, ...]) -> None:
        self.command = command
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def finish(self, reply: Any) -> None:  # noqa: ANN401 - a script returns what it likes
        if isinstance(reply, Exception):
            _fail([self], unavailable(reply))
        elif not self.future.done():  # the caller may have been cancelled
            self.future.set_result(reply)


def _fail(calls: Iterable[_Call], error: BackendUnavailable) -> None:
    for call in calls:
        if not call.future.done():
            # One for each: a traceback grows with every caller that it is raised in.
            call.future.set_exception(BackendUnavailable(error.backend, error.cause))


def _closed() -> BackendUnavailable:
    return BackendUnavailable("redis", "the connection is closed")


def unavailable(error: Exception) -> BackendUnavailable:
    """Return *error* as a BackendUnavailable that names its kind and quotes nothing.

    redis-py wraps what went wrong while it connected, like a wrong password.
    """
    root = error.__cause__ or error.__context__
    if type(error) is RedisConnectionError and isinstance(root, (RedisError, OSError)):
        return BackendUnavailable("redis", type(root).__name__)
    return BackendUnavailable("redis", type(error).__name__)
