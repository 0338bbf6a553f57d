"""Sessions of the portal, and how often somebody tries, in Redis: all nodes of a portal share them.

A session is known by a random token that the browser alone holds: Redis has its hash, so a copy of
Redis opens no session. Times are Unix seconds.
"""

import hashlib
import secrets
from dataclasses import asdict, dataclass, field, replace

import orjson

from radius_mfa.stores.redis_scripts import RedisScripts

TOKEN_OCTETS = 32

HALF_WAY_SECONDS = 300
"""How long a proven password waits for its code."""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody's session. *user* is their key, *name* what people call them.

    *kind* says at which door it was begun, such as ``user``. It *began_at* the password: a later
    one ends it. It is *half_way* while the second factor is still to come. *proved_at* is when that
    was proven last, None where it never was.
    *data* is for pages; nothing in it is a secret.
    """

    kind: str
    user: str
    name: str
    began_at: float
    address: str = ""
    agent: str = ""
    half_way: bool = False
    proved_at: float | None = None
    data: dict[str, str] = field(default_factory=dict)
    token: str = field(default="", repr=False)
    idle_seconds: float = 0

    @property
    def session_id(self) -> str:
        """What names the session to others than the browser that has it."""
        return token_digest(self.token)


def fresh_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(TOKEN_OCTETS)


def token_digest(token: str) -> str:
    """Return the name of a token in Redis."""
    return hashlib.blake2b(token.encode(), digest_size=16, person=b"portal session").hexdigest()


class SessionStore:
    """Begins, finds and ends sessions. Each method may raise BackendUnavailable."""

    def __init__(
        self,
        scripts: RedisScripts,
        *,
        key_prefix: str,
        idle_seconds: int,
        absolute_seconds: int,
    ) -> None:
        """End sessions *idle_seconds* after their last use, *absolute_seconds* after they began."""
        self._scripts = scripts
        self._redis = scripts.redis
        self._prefix = f"{key_prefix}portal:"
        self._idle_seconds = idle_seconds
        self._absolute_seconds = absolute_seconds

    async def begin(self, session: Session) -> Session:
        """Put *session* on record under a new token, and return it with that."""
        begun = replace(session, token=fresh_token())
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(self._key(begun.session_id), _octets(begun), ex=self._lifetime(begun))
        if not begun.half_way:
            ends = int(begun.began_at) + self._absolute_seconds
            pipeline.zadd(self._index(begun), {begun.session_id: ends})
            pipeline.zremrangebyscore(self._index(begun), "-inf", int(begun.began_at))
            pipeline.expire(self._index(begun), self._absolute_seconds)
        await self._scripts.guarded(pipeline.execute())
        return begun

    async def find(self, token: str, now: float, *, used: bool = True) -> Session | None:
        """Return the session of *token*, or None where there is none.

        It is *used* this moment, unless nobody has clicked.
        """
        key = self._key(token_digest(token))
        octets = await self._scripts.guarded(self._redis.get(key))
        if octets is None:
            return None
        session = _session(octets, token)
        left = session.began_at + self._absolute_seconds - now
        if left < 1:
            await self.end(session)
            return None
        if used and not session.half_way:
            seconds = min(self._idle_seconds, int(left))
            await self._scripts.guarded(self._redis.expire(key, seconds))
        return session

    async def save(self, session: Session) -> None:
        """Keep what has changed of *session*, unless it has ended meanwhile."""
        key = self._key(session.session_id)
        await self._scripts.guarded(self._redis.set(key, _octets(session), xx=True, keepttl=True))

    async def end(self, session: Session) -> None:
        """End *session*."""
        await self.end_by_id(session.kind, session.user, session.session_id)

    async def end_by_id(self, kind: str, user: str, session_id: str) -> bool:
        """End a session of *user* by its id; return whether it was one of theirs."""
        index = self._index_of(kind, user)
        known = await self._scripts.guarded(self._redis.zrem(index, session_id))
        key = self._key(session_id)
        octets = await self._scripts.guarded(self._redis.get(key))
        if octets is None or _session(octets).user != user or _session(octets).kind != kind:
            return bool(known)
        return bool(await self._scripts.guarded(self._redis.delete(key)))

    async def of(self, kind: str, user: str, now: float) -> list[tuple[str, Session]]:
        """Return the sessions of *user* with their ids, the one used last first."""
        index = self._index_of(kind, user)
        ids = [
            one.decode() for one in await self._scripts.guarded(self._redis.zrange(index, 0, -1))
        ]
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in ids:
            pipeline.get(self._key(session_id))
            pipeline.ttl(self._key(session_id))
        replies = await self._scripts.guarded(pipeline.execute()) if ids else []
        found, gone = [], []
        for session_id, octets, left in zip(ids, replies[::2], replies[1::2], strict=True):
            if octets is None:
                gone.append(session_id)
                continue
            session = _session(octets)
            until_absolute = session.began_at + self._absolute_seconds - now
            idle = max(0.0, min(self._idle_seconds, until_absolute) - left)
            found.append((session_id, replace(session, idle_seconds=idle)))
        if gone:
            await self._scripts.guarded(self._redis.zrem(index, *gone))
        return sorted(found, key=lambda one: one[1].idle_seconds)

    async def end_all(self, kind: str, user: str, but: str = "") -> int:
        """End the sessions of *user*, all but the one with the id *but*; return how many."""
        index = self._index_of(kind, user)
        ids = [
            one.decode() for one in await self._scripts.guarded(self._redis.zrange(index, 0, -1))
        ]
        ending = [one for one in ids if one != but]
        if not ending:
            return 0
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in ending:
            pipeline.delete(self._key(session_id))
            pipeline.zrem(index, session_id)
        return sum((await self._scripts.guarded(pipeline.execute()))[::2])

    async def tries(self, what: str, source: str, seconds: int) -> int:
        """Count a try of *what* by *source*; return how many there were within *seconds*."""
        key = f"{self._prefix}tries:{what}:{source}"
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.set(key, 0, ex=seconds, nx=True)
        pipeline.incr(key)
        return int((await self._scripts.guarded(pipeline.execute()))[1])

    def _lifetime(self, session: Session) -> int:
        if session.half_way:
            return HALF_WAY_SECONDS
        return min(self._idle_seconds, self._absolute_seconds)

    def _key(self, session_id: str) -> str:
        return f"{self._prefix}session:{session_id}"

    def _index(self, session: Session) -> str:
        return self._index_of(session.kind, session.user)

    def _index_of(self, kind: str, user: str) -> str:
        return f"{self._prefix}sessions:{kind}:{user}"


def _octets(session: Session) -> bytes:
    fields = asdict(session)
    del fields["token"], fields["idle_seconds"]
    return orjson.dumps(fields)


def _session(octets: bytes, token: str = "") -> Session:
    return Session(**orjson.loads(octets), token=token)
