"""Mutated datagrams, and a sender that never runs ahead of the server."""

import hashlib
import hmac
import os
import random
import socket
import struct

from tests.bench.traffic import SECRET
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    CALLING_STATION_ID,
    CHAP_PASSWORD,
    EAP_MESSAGE,
    NAS_IDENTIFIER,
    PROXY_STATE,
    STATUS_SERVER,
    USER_NAME,
    USER_PASSWORD,
    hide,
    packet_of,
)

WINDOW = 256
SIGNED_UP_TO = 38  # header and Message-Authenticator, which comes first
VICTIM = "victim"
LONGEST = 4200


class Mutants:
    """An endless supply: what once were requests, every third signed anew after its mutation."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._bases = [self._base(number) for number in range(400)]

    def _base(self, number: int) -> bytes:
        authenticator = self._random.randbytes(16)
        name = VICTIM if number % 2 else f"hostile{number}"
        typed = b"wrong\x00\xff\x1b[2J"[: number % 12] + b"123456"
        secret_field = (
            [
                (USER_PASSWORD, hide(typed, SECRET, authenticator)),
                (CHAP_PASSWORD, self._random.randbytes(17)),
                (EAP_MESSAGE, b"\x02\x00\x00\x05\x01"),
            ][min(2, number % 10)]
            if number % 10 < 3
            else (USER_PASSWORD, hide(typed, SECRET, authenticator))
        )
        fields = [
            (USER_NAME, name.encode()),
            secret_field,
            (NAS_IDENTIFIER, b"\r\n\x1b[31mevil\xff"),
            (CALLING_STATION_ID, b"198.51.100.%d" % (number % 250)),
            *[(PROXY_STATE, self._random.randbytes(number % 30))] * (number % 4),
            (26, b"\x00\x00\x00\x09\x01\x06evil"),
        ]
        code = STATUS_SERVER if number % 25 == 0 else ACCESS_REQUEST
        return packet_of(code, number % 256, authenticator, fields, SECRET)

    def next(self) -> bytes:
        """Return one datagram of 0 to 4200 octets."""
        chance = self._random
        kind = chance.randrange(12)
        if kind == 0:
            return chance.randbytes(chance.randrange(200))
        packet = bytearray(chance.choice(self._bases))
        packet[1] = chance.randrange(256)
        packet[4:20] = chance.randbytes(16)
        if kind == 1:
            packet[0] = chance.randrange(256)
        signed = kind > 7
        lowest = SIGNED_UP_TO if signed else 0
        for _ in range(chance.randrange(1, 4)):
            self._mutate(packet, lowest)
        if signed and len(packet) >= SIGNED_UP_TO:
            packet[2:4] = struct.pack("!H", min(len(packet), 0xFFFF))
            packet[22:38] = bytes(16)
            packet[22:38] = hmac.digest(SECRET, packet, "md5")
        return bytes(packet[:LONGEST])

    def _mutate(self, packet: bytearray, lowest: int) -> None:
        chance = self._random
        if len(packet) <= lowest:
            return
        at = chance.randrange(lowest, len(packet))
        match chance.randrange(6):
            case 0:
                packet[at] ^= 1 << chance.randrange(8)
            case 1:
                packet[at] = chance.randrange(256)
            case 2:
                packet[at:at] = chance.randbytes(chance.randrange(1, 8))
            case 3:
                del packet[at : at + chance.randrange(1, 8)]
            case 4:
                packet[at:] = b""
            case _:
                packet[at:at] = packet[lowest:] * chance.choice([1, 1, 1, 40])


class Storm:
    """Sends mutants in windows, each closed by a Status-Server whose reply is waited for.

    The server's socket is a queue: that reply says that all before it were taken. Two windows are
    open, so that the server never waits for us.
    """

    def __init__(self, server: tuple[str, int], seed: int, patience_seconds: float) -> None:
        self._mutants = Mutants(seed)
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for opened in self._sockets:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            opened.connect(server)
            opened.settimeout(patience_seconds)
        self._owed: list[dict[bytes, None]] = [{}, {}]
        self._fences = [b"", b""]
        self.sent = self.replies = 0
        self.findings: list[str] = []

    def send(self, count: int) -> None:
        """Send *count* datagrams and wait until the server has taken them."""
        while count > 0 and not self.findings:
            for number in range(2):
                self._await_fence(number)
                size = min(WINDOW - 1, max(0, count))
                self._send_window(number, size)
                count -= size
        for number in range(2):
            self._await_fence(number)

    def _send_window(self, number: int, size: int) -> None:
        opened, owed = self._sockets[number], self._owed[number]
        while len(owed) > 4 * WINDOW:
            del owed[next(iter(owed))]
        for _ in range(size):
            mutant = self._mutants.next()
            if mutant[:1] == bytes([STATUS_SERVER]):
                owed[mutant] = None
            opened.send(mutant)
        fence = packet_of(STATUS_SERVER, 255, os.urandom(16), [], SECRET)
        opened.send(fence)
        self._fences[number] = fence
        self.sent += size

    def _await_fence(self, number: int) -> None:
        fence, self._fences[number] = self._fences[number], b""
        while fence:
            try:
                reply = self._sockets[number].recv(4096)
            except (TimeoutError, ConnectionRefusedError) as error:
                self.findings.append(f"no reply to Status-Server: {type(error).__name__}")
                return
            if _answers(reply, fence):
                return
            self.replies += 1
            if reply[0] == ACCESS_ACCEPT and not any(
                _answers(reply, request) for request in self._owed[number]
            ):
                self.findings.append("an Access-Accept for a mutated datagram")

    def close(self) -> None:
        """Close the sockets."""
        for opened in self._sockets:
            opened.close()


def _answers(reply: bytes, request: bytes) -> bool:
    if reply[1:2] != request[1:2]:
        return False
    digest = hashlib.md5(
        reply[:4] + request[4:20] + reply[20:] + SECRET, usedforsecurity=False
    ).digest()
    return digest == reply[4:20]
