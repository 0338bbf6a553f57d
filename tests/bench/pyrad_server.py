"""The rival that anyone could write in an afternoon: pyrad's ServerAsync, pyotp, redis-py.

It checks password, code and replay, and nothing else: no lockout, no duplicates, no log, no
policy, and a synchronous call to Redis that stops everybody. Usage: pyrad_server.py PORT USERS
REDIS-URL, where USERS is a JSON file of name to [password, base32 seed].
"""

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pyotp
import redis
from pyrad.dictionary import Dictionary
from pyrad.packet import AccessReject
from pyrad.server import RemoteHost
from pyrad.server_async import ServerAsync

from tests.bench.traffic import SECRET


class Rival(ServerAsync):  # type: ignore[misc]  # pyrad ships no types
    """Password followed by six digits, the code once."""

    def __init__(self, users: dict[str, list[str]], url: str, **options: Any) -> None:
        super().__init__(**options)
        self._users = users
        self._redis = redis.Redis.from_url(url)

    def handle_auth_packet(self, protocol: Any, packet: Any, address: Any) -> None:
        reply = self.CreateReplyPacket(packet)
        if not self._right(packet["User-Name"][0], packet.PwDecrypt(packet["User-Password"][0])):
            reply.code = AccessReject
        protocol.send_response(reply, address)

    def _right(self, name: str, typed: str) -> bool:
        password, code = typed[:-6], typed[-6:]
        known = self._users.get(name)
        if known is None or known[0] != password:
            return False
        if not pyotp.TOTP(known[1]).verify(code, valid_window=1):
            return False
        return bool(self._redis.set(f"used:{name}:{code}", 1, nx=True, ex=120))

    def handle_acct_packet(self, protocol: Any, packet: Any, address: Any) -> None: ...
    def handle_coa_packet(self, protocol: Any, packet: Any, address: Any) -> None: ...
    def handle_disconnect_packet(self, protocol: Any, packet: Any, address: Any) -> None: ...


async def main(port: int, users: dict[str, list[str]], url: str) -> None:
    folder = Path(__file__).parents[2] / "dictionaries"
    host = RemoteHost("127.0.0.1", SECRET, "bench")
    rival = Rival(
        users,
        url,
        auth_port=port,
        hosts={"127.0.0.1": host},
        dictionary=Dictionary(str(folder / "dictionary")),
    )
    await rival.initialize_transports(enable_auth=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable()
    known = json.loads(Path(sys.argv[2]).read_text("utf-8"))
    asyncio.run(main(int(sys.argv[1]), known, sys.argv[3]))
