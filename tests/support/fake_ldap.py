"""An LDAP server that says what it is told to, octet by octet, also what no real one would say."""

import asyncio
from collections.abc import Sequence
from typing import Self


def ber(tag: int, *contents: bytes) -> bytes:
    """Return a BER element."""
    body = b"".join(contents)
    length = len(body)
    if length < 0x80:
        return bytes([tag, length]) + body
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + body


def result(tag: int, code: int = 0, diagnostic: bytes = b"", dn: bytes = b"") -> bytes:
    """Return an LDAPResult (RFC 4511 section 4.1.9) of the kind *tag*."""
    return ber(tag, ber(0x0A, bytes([code])), ber(0x04, dn), ber(0x04, diagnostic))


BIND_RESPONSE, SEARCH_DONE = 0x61, 0x65


def entry(dn: bytes, **attributes: Sequence[bytes]) -> bytes:
    parts = [
        ber(0x30, ber(0x04, name.encode()), ber(0x31, *(ber(0x04, one) for one in values)))
        for name, values in attributes.items()
    ]
    return ber(0x64, ber(0x04, dn), ber(0x30, *parts))


def reference(uri: bytes) -> bytes:
    return ber(0x73, ber(0x04, uri))


class FakeLdap:
    """Takes every bind of a right password, and answers searches for a user by *answers*."""

    def __init__(self, answers: Sequence[bytes] = (), password: bytes = b"right") -> None:
        self.answers = answers
        self.password = password
        self.binds: list[bytes] = []
        self.answers_binds = True
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    @property
    def uri(self) -> str:
        assert self._server is not None
        return f"ldap://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def section(self, **more: object) -> dict[str, object]:
        return {
            "name": "fake",
            "preset": "openldap",
            "servers": [self.uri],
            "start_tls": False,
            "base": "dc=fake",
            "id_attribute": "dn",
            **more,
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readexactly(2)
                length = head[1]
                if length & 0x80:
                    length = int.from_bytes(await reader.readexactly(length & 0x7F), "big")
                message = await reader.readexactly(length)
                for part in self._answered(message):
                    writer.write(part)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answered(self, message: bytes) -> list[bytes]:
        size = 2 + message[1]
        number, operation = message[:size], message[size:]
        if operation[0] == 0x60:
            self.binds.append(operation)
            right = self.password in operation
            right_or_wrong = result(BIND_RESPONSE, 0 if right else 49)
            answers: Sequence[bytes] = [right_or_wrong] if self.answers_binds else []
        elif operation[0] == 0x63 and b"objectClass" in operation and b"uid" not in operation:
            answers = [result(SEARCH_DONE)]  # the look at the root
        else:
            answers = self.answers
        return [ber(0x30, number, answer) for answer in answers]
