"""What a login leaves behind in the memory of the server."""

import asyncio
import gc
import os
import time
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from radius_mfa.app import Server, Stores
from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCESS_REQUEST,
    USER_NAME,
    USER_PASSWORD,
    hide,
    packet_of,
)
from tests.support.server import PASSWORD, SECRET, Site

WRONG = "canary-wrong-password"


def reachable_text(root: object, without: object) -> list[bytes]:
    """Return all text and octets that *root* keeps alive, by whatever path but *without*."""
    seen = {id(root), id(without)}
    left, found = [root], list[bytes]()
    while left:
        for child in _children(left.pop()):
            if id(child) in seen or isinstance(child, ModuleType | type | CodeType):
                continue
            seen.add(id(child))
            if isinstance(child, str):
                found.append(child.encode("utf-8", "surrogatepass"))
            elif isinstance(child, bytes | bytearray):
                found.append(bytes(child))
            else:
                left.append(child)
    return found


def _children(parent: object) -> list[Any]:
    children = gc.get_referents(parent)
    if isinstance(parent, FunctionType):  # of what it closes over, but not of its whole module
        children = [child for child in children if child is not parent.__globals__]
    return children


async def log_in(server: Server, password: str, identifier: int) -> int:
    """Send one login through the server's line; return the code of the reply."""
    secret, authenticator = SECRET.encode(), os.urandom(16)
    hidden = hide((password + totp.code()).encode(), secret, authenticator)
    fields = [(USER_NAME, b"alice"), (USER_PASSWORD, hidden)]
    request = packet_of(ACCESS_REQUEST, identifier, authenticator, fields, secret)
    peer, local = ("127.0.0.1", 40_000), ("127.0.0.1", 1812)
    reply = await server.handler.answer(request, peer, local, time.time())
    assert reply is not None
    return reply[0]


def test_nothing_that_lives_on_refers_to_what_was_typed(tmp_path: Path) -> None:
    """L06: neither the cache of replies nor that of credentials, nor a task that was left over."""

    async def work(stores: Stores) -> list[bytes]:
        server = Server(site.settings, stores)
        me = asyncio.current_task()
        tasks = asyncio.all_tasks()
        assert await log_in(server, WRONG, 1) == ACCESS_REJECT
        assert await log_in(server, PASSWORD, 2) == ACCESS_ACCEPT
        assert await log_in(server, PASSWORD, 3) == ACCESS_REJECT, "used"
        assert asyncio.all_tasks() <= tasks
        gc.collect()
        return reachable_text([server, asyncio.get_running_loop()], me)

    local = {"credential_cache_seconds": 600, "argon2_memory_kib": 8192, "argon2_iterations": 1}
    with Site(tmp_path, {"directory": {"local": local}}) as site:
        site.add_users(["alice"])
        kept = site.with_stores(work)
    assert b"Access denied" in kept
    assert b"alice" in kept
    code = totp.code().encode()
    told = [text for text in kept for secret in (PASSWORD, WRONG) if secret.encode() in text]
    assert told == []
    assert code not in kept
