"""The servers that run now, each with the keys it knows: they announce themselves in Redis.

Changing a key has to wait for all of them: what one node encrypts the others must read.
"""

from dataclasses import asdict, dataclass

import orjson

from radius_mfa.stores.redis_scripts import RedisScripts

ANNOUNCED_MS = 10_000
"""How long a node that was killed counts as running: several looks of its watch."""


@dataclass(frozen=True, slots=True)
class Node:
    """A running server process, and the versions of the keys that it knows and encrypts with.

    *settings* is a digest of those in force, secrets apart: to see which nodes differ.
    """

    node_id: str
    host: str
    knows: tuple[int, ...]
    encrypts_with: int
    core_dumps: bool
    settings: str = ""


class Nodes:
    """The register of running servers."""

    def __init__(self, scripts: RedisScripts, key_prefix: str) -> None:
        self._scripts = scripts
        self._prefix = f"{key_prefix}{{nodes}}:"  # one slot of a Redis Cluster
        self._register = self._prefix + "all"

    async def announce(self, node: Node) -> None:
        """Say that *node* runs; holds for ``ANNOUNCED_MS``."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        pipeline.set(self._prefix + node.node_id, orjson.dumps(asdict(node)), px=ANNOUNCED_MS)
        pipeline.sadd(self._register, node.node_id)
        await self._scripts.guarded(pipeline.execute())

    async def withdraw(self, node_id: str) -> None:
        """Say that a node has stopped."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        pipeline.delete(self._prefix + node_id)
        pipeline.srem(self._register, node_id)
        await self._scripts.guarded(pipeline.execute())

    async def running(self) -> list[Node]:
        """Return the nodes that run, by host."""
        redis = self._scripts.redis
        known = await self._scripts.guarded(redis.smembers(self._register))
        ids = sorted(node_id.decode() for node_id in known)
        if not ids:
            return []
        texts = await self._scripts.guarded(redis.mget([self._prefix + one for one in ids]))
        gone = [one for one, found in zip(ids, texts, strict=True) if found is None]
        if gone:
            await self._scripts.guarded(redis.srem(self._register, *gone))
        nodes = [_node(octets) for octets in texts if octets is not None]
        return sorted(nodes, key=lambda node: (node.host, node.node_id))


def _node(octets: bytes) -> Node:
    fields = orjson.loads(octets)
    return Node(**{**fields, "knows": tuple(fields["knows"])})
