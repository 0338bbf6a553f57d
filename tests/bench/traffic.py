"""The load: pre-encoded logins of distinct users, a window kept open, every reply verified."""

import base64
import hashlib
import hmac
import os
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    CALLING_STATION_ID,
    MESSAGE_AUTHENTICATOR,
    NAS_IDENTIFIER,
    USER_NAME,
    USER_PASSWORD,
    encode,
    hide,
    signed,
)

SECRET = b"bench-shared-secret-of-32-octets"
PASSWORD = "Passw0rd!"
IDENTIFIERS = 256
HEADER_OCTETS = 20
REPLY_SECONDS = 5.0
SOCKETS = 32
STEP_SECONDS, SPARE_SECONDS = 30, 12


def user_name(index: int) -> str:
    """Return the name of user *index*."""
    return f"u{index:06d}"


def seed(index: int) -> bytes:
    """Return the TOTP seed of user *index*, 20 octets."""
    return hashlib.sha1(f"bench {index}".encode(), usedforsecurity=False).digest()


def base32_seed(index: int) -> str:
    """Return the TOTP seed of user *index* in base32."""
    return base64.b32encode(seed(index)).decode()


def code(index: int, time_step: int) -> str:
    """Return the six digits of user *index* in *time_step*."""
    digest = hmac.digest(seed(index), time_step.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


def time_step() -> int:
    """Return the present time step of 30 s."""
    return int(time.time()) // STEP_SECONDS


def next_step() -> None:
    """Wait for a time step that no login has used yet."""
    step = time_step()
    while time_step() == step:
        time.sleep(0.05)


def room_in_step() -> None:
    """Wait until the time step has time enough for a run."""
    if STEP_SECONDS - time.time() % STEP_SECONDS < SPARE_SECONDS:
        next_step()


def turns(users: int, logins: int) -> Iterator[range]:
    """Return whose turn it is, *logins* at a time; all over again in a fresh time step."""
    while True:
        for first in range(0, users - logins + 1, logins):
            yield range(first, first + logins)
        next_step()


def warm_up(users: int, server: tuple[str, int], pid: int, realm: str = "") -> None:
    """Log everybody in once, in a time step that is over afterwards: caches are warm then.

    Ends the bench where more than one in a hundred is not let in.
    """
    batch = 500
    for first in range(0, users, batch):
        chosen = range(first, min(first + batch, users))
        result = run(encoded(chosen, time_step(), SOCKETS, realm), server, 16, SOCKETS, pid)
        if result.accepts < len(chosen) * 0.99:
            sys.exit(f"{result.rejects} rejected, {result.lost} lost while warming up")
    next_step()


def encoded(users: Iterable[int], step: int, sockets: int, realm: str = "") -> list[bytes]:
    """Return the Access-Request of each user; request i leaves from socket i modulo *sockets*.

    *realm* follows each user's name.
    """
    requests = []
    for number, index in enumerate(users):
        authenticator = os.urandom(16)
        typed = (PASSWORD + code(index, step)).encode()
        fields = [
            (MESSAGE_AUTHENTICATOR, bytes(16)),
            (USER_NAME, (user_name(index) + realm).encode()),
            (USER_PASSWORD, hide(typed, SECRET, authenticator)),
            (NAS_IDENTIFIER, b"bench"),
            (CALLING_STATION_ID, b"198.51.100.%d" % (index % 250)),
        ]
        identifier = (number // sockets) % IDENTIFIERS
        requests.append(signed(encode(ACCESS_REQUEST, identifier, authenticator, fields), SECRET))
    return requests


@dataclass(frozen=True)
class Result:
    """What one run saw; times in seconds, CPU seconds of the server's process."""

    seconds: float
    cpu_seconds: float
    accepts: int
    rejects: int
    lost: int
    latencies: list[float]

    @property
    def logins_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the server per reply."""
        return self.cpu_seconds / max(1, len(self.latencies)) * 1e6

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latency in milliseconds."""
        ordered = sorted(self.latencies) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


def run(
    requests: Sequence[bytes], server: tuple[str, int], window: int, sockets: int, pid: int
) -> Result:
    """Send *requests*, *window* at a time, and verify every reply.

    A request without a reply in REPLY_SECONDS is lost, and is not sent again.
    """
    selector = selectors.DefaultSelector()
    opened = []
    for number in range(sockets):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(0)
        sock.connect(server)
        selector.register(sock, selectors.EVENT_READ, number)
        opened.append(sock)
    sent_at: dict[tuple[int, int], tuple[int, float]] = {}
    order: deque[tuple[int, int, float]] = deque()
    codes: dict[int, int] = {}
    latencies: list[float] = []
    upcoming, lost, total = 0, 0, len(requests)
    cpu_before, began = cpu_seconds(pid), time.perf_counter()

    while len(latencies) + lost < total:
        while upcoming < total and len(sent_at) < window:
            number, identifier = upcoming % sockets, requests[upcoming][1]
            now = time.perf_counter()
            opened[number].send(requests[upcoming])
            sent_at[number, identifier] = (upcoming, now)
            order.append((number, identifier, now))
            upcoming += 1
        for key, _ in selector.select(timeout=0.5):
            while True:
                try:
                    reply = opened[key.data].recv(4096)
                except BlockingIOError:
                    break
                index, at = sent_at.pop((key.data, reply[1]))
                latencies.append(time.perf_counter() - at)
                reply_code = verified_code(reply, requests[index])
                codes[reply_code] = codes.get(reply_code, 0) + 1
        now = time.perf_counter()
        while order and (order[0][2] < now - REPLY_SECONDS or order[0][:2] not in sent_at):
            number, identifier, _ = order.popleft()
            expired = sent_at.get((number, identifier))
            if expired is not None and expired[1] < now - REPLY_SECONDS:
                del sent_at[number, identifier]
                lost += 1

    seconds, cpu = time.perf_counter() - began, cpu_seconds(pid) - cpu_before
    for sock in opened:
        sock.close()
    selector.close()
    accepts = codes.get(ACCESS_ACCEPT, 0)
    return Result(seconds, cpu, accepts, len(latencies) - accepts, lost, latencies)


def verified_code(reply: bytes, request: bytes) -> int:
    """Return the code of *reply*; AssertionError unless it answers *request*.

    A Message-Authenticator is verified where there is one: FreeRADIUS 3.2.1 sends none.
    """
    response = hashlib.md5(
        reply[:4] + request[4:20] + reply[20:] + SECRET, usedforsecurity=False
    ).digest()
    assert response == reply[4:20], "Response Authenticator"
    assert reply[1] == request[1], "Identifier"
    if len(reply) > HEADER_OCTETS and reply[HEADER_OCTETS] == MESSAGE_AUTHENTICATOR:
        unsigned = reply[:4] + request[4:20] + reply[20:22] + bytes(16) + reply[38:]
        assert hmac.digest(SECRET, unsigned, "md5") == reply[22:38], "Message-Authenticator"
    return reply[0]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, user and system."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
