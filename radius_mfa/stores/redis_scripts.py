"""Lua scripts over one Redis, by name; its faults in one form.

Nothing is ever retried here: a script whose reply was lost may have run, and only the NAS may ask
again.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Mapping, Sequence
from importlib import resources
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.connection import DefaultParser
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from radius_mfa import tasks
from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores.redis_pipe import Command, RedisPipe, open_pipe

PLAIN_CONNECTIONS = 8
"""Connections for commands that are no scripts, which only the watch and command lines need."""

MAX_PENDING_CALLS = 10_000

Argument = str | bytes | int | float


def connect(url: str, *, password: str | None, timeout_seconds: float) -> "Redis":
    """Return a client that gives up after *timeout_seconds* and never repeats a command."""
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": PLAIN_CONNECTIONS,
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
    """Runs scripts by name. Use as an async context manager: it owns its connection."""

    def __init__(
        self, redis: "Redis", sources: Mapping[str, str], *, timeout_seconds: float = 1.0
    ) -> None:
        self.redis = redis
        self._timeout_seconds = timeout_seconds
        self._greeting = [("SCRIPT", "LOAD", source) for source in sources.values()]
        self._digests = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in sources.items()
        }
        self._pipe: RedisPipe | None = None
        self._opening: asyncio.Task[RedisPipe] | None = None
        self._callers = 0
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._closed = True
        if self._opening is not None:
            await tasks.stop(self._opening)
        if self._pipe is not None:
            self._pipe.close(_ClosedError())
        await self.redis.aclose()

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:  # noqa: ANN401 - a script returns what it likes
        """Run script *name* once, and return its reply.

        Raises BackendUnavailable where Redis is down, slow, read-only, loading or full.
        """
        if self._callers >= MAX_PENDING_CALLS:
            raise BackendUnavailable("redis", "too many calls are waiting")
        command = ("EVALSHA", self._digests[name], len(keys), *keys, *args)
        self._callers += 1
        try:
            pipe = self._pipe
            if pipe is None or pipe.ended:
                pipe = await self._opened()
            try:
                return await pipe.call(command)
            except NoScriptError:  # it has run none of it
                return await self._after_loading(pipe, command)
        except Exception as error:  # noqa: BLE001 - whatever it is, there was no definite answer
            raise unavailable(error) from None
        finally:
            self._callers -= 1

    async def _after_loading(self, pipe: RedisPipe, command: Command) -> Any:  # noqa: ANN401 - see run
        *_, reply = await asyncio.gather(*map(pipe.call, [*self._greeting, command]))
        return reply

    async def _opened(self) -> RedisPipe:
        """Return an open pipe; everybody who wants one waits for the same."""
        if self._closed:
            raise _ClosedError
        if self._opening is None or self._opening.done():
            opening = open_pipe(self.redis, self._greeting, self._timeout_seconds)
            self._opening = tasks.spawn(opening)
        try:
            self._pipe = await asyncio.shield(self._opening)
        except asyncio.CancelledError:
            if self._closed:
                raise _ClosedError from None
            raise
        return self._pipe

    async def guarded(self, command: Awaitable[Any]) -> Any:  # noqa: ANN401 - see run
        """Return the reply of a plain *command* of ``redis``; raises BackendUnavailable as run."""
        try:
            return await command
        except (RedisError, OSError, TimeoutError) as error:
            raise unavailable(error) from None


class _ClosedError(Exception):
    """The store was closed while somebody waited for it."""


def unavailable(error: Exception) -> BackendUnavailable:
    """Return *error* as a BackendUnavailable that names its kind and quotes nothing.

    redis-py wraps what went wrong while it connected, like a wrong password, or in a pipeline;
    Redis 6 wraps what went wrong in a script, like a full memory.
    """
    if isinstance(error, _ClosedError):
        return BackendUnavailable("redis", "the connection is closed")
    root = error.__cause__ or error.__context__
    if type(error) is RedisConnectionError and isinstance(root, (RedisError, OSError)):
        return BackendUnavailable("redis", type(root).__name__)
    if type(error) is ResponseError:
        text = _WRAPPING.sub("", str(error))
        code = _ERROR_CODE.match(text)
        error = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]
        if type(error) is ResponseError and code:
            return BackendUnavailable("redis", code[0])
    return BackendUnavailable("redis", type(error).__name__)


_WRAPPING = re.compile(
    r"^Error running script .*?: -(?=[A-Z]+ )|^Command # .*? of pipeline caused error: \(['\"]",
    re.DOTALL,
)
_ERROR_CODE = re.compile(r"[A-Z]{4,20}(?= )")
"""What Redis's errors of a kind of their own begin with, like MISCONF."""
