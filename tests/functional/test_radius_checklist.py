"""The packet rules on the wire: what a real server keeps silent about, and what it serves.

Silent means: no reply, while Status-Server right behind it is answered; no line of a login, no
failure counted, no code consumed.
"""

import itertools
import os
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCESS_REQUEST,
    CHAP_PASSWORD,
    EAP_MESSAGE,
    MESSAGE_AUTHENTICATOR,
    PROXY_STATE,
    REPLY_MESSAGE,
    STATE,
    STATUS_SERVER,
    USER_NAME,
    USER_PASSWORD,
    Attributes,
    Nas,
    encode,
    hide,
    request_authenticator,
    signed,
)
from tests.support.server import PASSWORD, SECRET, RunningServer, Site

SERVICE_TYPE, CLASS, VENDOR_SPECIFIC = 6, 25, 26
CALL_CHECK, AUTHORIZE_ONLY = struct.pack("!I", 10), struct.pack("!I", 17)
MS_CHAP2_RESPONSE = b"\0\0\x01\x37\x19\x34" + bytes(50)

LENIENT = "127.0.1.1"

CLIENTS = [
    {"name": "lenient", "address": LENIENT, "require_message_authenticator": False},
    {"name": "strict", "address": ["127.0.0.0/24", "127.0.2.0/24"]},
    {"name": "status-only", "address": "127.0.3.0/24"},
]

sources = (f"127.0.2.{host}" for host in itertools.count(1))
"""A source of its own for each test: the log tells the first discard of a source only."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with Site(tmp_path_factory.mktemp("checklist"), clients=CLIENTS) as site:
        site.add_spare_users(60)
        yield site.start()


@pytest.fixture
def source() -> str:
    return next(sources)


@pytest.fixture
def nas(server: RunningServer, source: str) -> Iterator[Nas]:
    with server.nas(source) as opened:
        yield opened


@dataclass
class Login:
    """Right credentials of a user whom no other test uses, as attributes."""

    user: str
    typed: str
    authenticator: bytes

    @property
    def fields(self) -> list[tuple[int, bytes]]:
        hidden = hide(self.typed.encode(), SECRET.encode(), self.authenticator)
        return [(USER_NAME, self.user.encode()), (USER_PASSWORD, hidden)]

    def packet(self, *more: tuple[int, bytes], identifier: int = 7) -> bytes:
        """Return the login with *more* attributes, unsigned; a zeroed signature stands first."""
        fields = [(MESSAGE_AUTHENTICATOR, bytes(16)), *self.fields, *more]
        return encode(ACCESS_REQUEST, identifier, self.authenticator, fields)

    def signed(self, *more: tuple[int, bytes], identifier: int = 7) -> bytes:
        return signed(self.packet(*more, identifier=identifier), SECRET.encode())


@pytest.fixture
def login(server: RunningServer) -> Login:
    return Login(server.site.fresh_user(), PASSWORD + totp.code(), os.urandom(16))


def assert_nothing_happened(server: RunningServer, nas: Nas, login: Login) -> None:
    """No login was logged or counted for the user, and the very same credentials are good."""
    assert server.lines("login.accepted", user=login.user) == []
    assert server.lines("login.rejected", user=login.user) == []
    assert server.site.failures(login.user) == 0
    assert nas.login(login.user, login.typed).code == ACCESS_ACCEPT


def of_length(packet: bytes, length: int) -> bytes:
    """Return *packet* with another Length field, signed as it then stands."""
    return signed(packet[:2] + struct.pack("!H", length) + packet[4:], SECRET.encode())


def filled(login: Login, octets: int) -> bytes:
    """Return the login in a packet of exactly *octets*."""
    rest = octets - len(login.packet())
    sizes = [100] * (rest // 100 - 1) + [100 + rest % 100]
    packet = login.signed(*((200, bytes(size - 2)) for size in sizes))
    assert len(packet) == octets
    return packet


# Packets that break the format

Shape = Callable[[Login], list[bytes]]
"""Makes packets of one kind that all hold the login."""


def short_of_a_header(login: Login) -> list[bytes]:
    whole = login.signed()
    return [b"", b"\1", whole[:4], whole[:19]]


def shorter_than_its_length(login: Login) -> list[bytes]:
    whole = login.signed()
    return [whole[:20], whole[:-1], of_length(login.packet(), len(whole) + 1)]


def length_under_20(login: Login) -> list[bytes]:
    return [of_length(login.packet(), length) for length in (0, 19)]


def over_4096_octets(login: Login) -> list[bytes]:
    return [filled(login, octets) for octets in (4097, 4098, 8000)]


def with_a_broken_attribute(*tails: str) -> Shape:
    """Return a shape: right credentials, then each of *tails* (hexadecimal), all signed."""

    def shape(login: Login) -> list[bytes]:
        whole = login.packet()
        broken = [whole + bytes.fromhex(tail) for tail in tails]
        return [of_length(packet, len(packet)) for packet in broken]

    return shape


def with_padding_behind_a_broken_attribute(login: Login) -> list[bytes]:
    (broken,) = with_a_broken_attribute("c8 40 00")(login)
    return [broken + bytes(255)]


def an_attribute_of_one_octet(login: Login) -> list[bytes]:
    """Its length, read as the next attribute's type, would begin the user's own name."""
    fields = [(MESSAGE_AUTHENTICATOR, bytes(16)), login.fields[1]]
    name = bytes([len(login.user) + 2]) + login.user.encode()
    packet = encode(ACCESS_REQUEST, 7, login.authenticator, fields) + b"\xc8\x01" + name
    return [of_length(packet, len(packet))]


def many_attributes(number: int) -> Shape:
    return lambda login: [login.signed(*[(200, b"")] * (number - 3))]


def with_a_second(number: int, *, other: bool) -> Shape:
    def shape(login: Login) -> list[bytes]:
        first = dict(login.fields).get(number, b"16 octets long..")
        second = b"another of them." if other else first
        once = [] if number in (USER_NAME, USER_PASSWORD) else [(number, first)]
        return [login.signed(*once, (PROXY_STATE, b"p"), (number, second))]

    return shape


MALFORMED = {
    "p01-shorter-than-a-header": short_of_a_header,
    "p01-shorter-than-its-length": shorter_than_its_length,
    "p01-length-under-20": length_under_20,
    "p03-over-4096-octets": over_4096_octets,
    "p05-attribute-length-0-or-1": with_a_broken_attribute(
        "c8 00", "c8 01", "c8 00 61", "01 01 61"
    ),
    "p05-one-octet-long": an_attribute_of_one_octet,
    "p05-a-lone-octet": with_a_broken_attribute("c8", "01"),
    "p06-an-attribute-past-the-end": with_a_broken_attribute("c8 03", "18 ff 00", "21 08 7031"),
    "p06-padding-completes-nothing": with_padding_behind_a_broken_attribute,
    "p07-attribute-type-0": with_a_broken_attribute("00 02", "00 03 61"),
    "p13-201-attributes": many_attributes(201),
    "p13-2000-attributes": many_attributes(2000),
    "p14-user-name-twice": with_a_second(USER_NAME, other=False),
    "p14-another-user-name": with_a_second(USER_NAME, other=True),
    "p14-another-user-password": with_a_second(USER_PASSWORD, other=True),
    "p14-state-twice": with_a_second(STATE, other=False),
    "p14-another-state": with_a_second(STATE, other=True),
    "p14-chap-password-twice": with_a_second(CHAP_PASSWORD, other=True),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_packet_is_silent_and_changes_nothing(
    server: RunningServer, nas: Nas, source: str, login: Login, name: str
) -> None:
    """P01, P03, P05, P06, P07, P13, P14: though signed, and with the right credentials in it."""
    nas.assert_silent(*MALFORMED[name](login))
    line = server.line("packet.discarded", source=source)
    assert line["reason"] == "malformed_packet"
    assert_nothing_happened(server, nas, login)


@pytest.mark.parametrize("where", ["strict", "lenient"])
def test_every_other_code_is_silent(
    server: RunningServer, source: str, login: Login, where: str
) -> None:
    """P04, B08: all 254 of them, with every authenticator right, and with a wrong signature.

    Accounting-Request, CoA-Request and Disconnect-Request are not served, so none is answered
    whatever its Message-Authenticator says.
    """
    secret = SECRET.encode()
    with server.nas(LENIENT if where == "lenient" else source) as nas:
        packets = []
        for code in sorted(set(range(256)) - {ACCESS_REQUEST, STATUS_SERVER}):
            right = bytes([code]) + login.packet()[1:]
            for packet in (signed(right, secret), signed(right, secret + b"x")):
                packets += [packet, request_authenticator(packet, secret)]
        nas.assert_silent(*packets)
        line = server.line("packet.discarded", reason="unexpected_code")
        assert line["detail"].startswith("code ")
        assert_nothing_happened(server, nas, login)


# Packets that are odd, and right


def padded(login: Login) -> bytes:
    return login.signed() + os.urandom(40)


def of_4096_octets_exactly(login: Login) -> bytes:
    return filled(login, 4096)


def with_values_wrong_for_their_type(login: Login) -> bytes:
    return login.signed(
        (4, b"\xc0\xa8\x01"), (5, b"\0\0\0\3\0"), (SERVICE_TYPE, b"\x08"), (95, b"x")
    )


def with_unknown_attributes(login: Login) -> bytes:
    vendor = (VENDOR_SPECIFIC, struct.pack("!IBB", 99_999, 1, 3) + b"x")
    return login.signed(*((number, b"\1\2") for number in range(100, 256)), vendor)


def in_any_order(login: Login) -> bytes:
    fields = [*login.fields, (MESSAGE_AUTHENTICATOR, bytes(16)), (32, b"gw")]
    fields += [(VENDOR_SPECIFIC, b"\0\0\0\x09\x01\x03x"), (200, b"x")] * 2
    random.shuffle(fields)
    return signed(encode(ACCESS_REQUEST, 7, login.authenticator, fields), SECRET.encode())


def with_odd_vendor_specifics(login: Login) -> bytes:
    odd = ("", "00", "000000", "00000009", "0000000901", "000000090100", "000000090101")
    values = [*odd, "0000000901ff", "00000137190200", "ffffffff0002", "00000009010378 0000"]
    return login.signed(*((VENDOR_SPECIFIC, bytes.fromhex(value)) for value in values))


def with_200_attributes(login: Login) -> bytes:
    return login.signed(*[(200, b"")] * 197)


ODD = {
    "p02-padding": padded,
    "p03-4096-octets": of_4096_octets_exactly,
    "p08-wrong-for-their-type": with_values_wrong_for_their_type,
    "p09-unknown-attributes": with_unknown_attributes,
    "p10-any-order": in_any_order,
    "p12-odd-vendor-specifics": with_odd_vendor_specifics,
    "p13-200-attributes": with_200_attributes,
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_packet_is_served(server: RunningServer, nas: Nas, login: Login, name: str) -> None:
    """P02, P03, P08, P09, P10, P12, P13: what breaks no rule is no reason to refuse a login."""
    packet = ODD[name](login)
    reply = nas.ask(packet)
    assert reply.code == ACCESS_ACCEPT
    assert nas.ask(packet).octets == reply.octets
    assert len(server.lines("login.accepted", user=login.user)) == 1


def test_a_name_is_never_cut_at_a_nul(server: RunningServer, nas: Nas, login: Login) -> None:
    r"""P11: `bob\0x` is not bob, and bob's code stays good; nor is a password cut."""
    for name in (f"{login.user}\0x", f"{login.user}\0", f"\0{login.user}"):
        assert nas.login(name, login.typed).code == ACCESS_REJECT
    code = login.typed.removeprefix(PASSWORD)
    assert nas.login(login.user, f"{PASSWORD}\0{code}").code == ACCESS_REJECT
    assert server.line("login.rejected", user=login.user)["reason"] == "wrong_password"
    assert nas.login(login.user, login.typed).code == ACCESS_ACCEPT


# Requests that are no login by password and code


NO_LOGIN = {
    "p15-chap-password-beside": ([(CHAP_PASSWORD, bytes(17))], True, "chap"),
    "p15-eap-message-beside": ([(EAP_MESSAGE, b"\2\1\0\x0a\1alice")], True, "eap"),
    "p15-all-three": ([(EAP_MESSAGE, b"\2\1\0\5\1"), (CHAP_PASSWORD, bytes(17))], True, "eap"),
    "p16-nothing": ([], False, "none"),
    "p16-a-state-of-nobody": ([(STATE, b"no such State")], False, "none"),
    "p16-ms-chap": ([(VENDOR_SPECIFIC, MS_CHAP2_RESPONSE)], False, "ms-chap"),
    "a11-chap": ([(CHAP_PASSWORD, bytes(17)), (60, bytes(16))], False, "chap"),
    "a12-call-check": ([(SERVICE_TYPE, CALL_CHECK)], False, "call-check"),
    "a12-authorize-only": ([(SERVICE_TYPE, AUTHORIZE_ONLY)], False, "authorize-only"),
    "a12-call-check-with-password": ([(SERVICE_TYPE, CALL_CHECK)], True, "call-check"),
    "a12-authorize-only-with-password": ([(SERVICE_TYPE, AUTHORIZE_ONLY)], True, "authorize-only"),
}


@pytest.mark.parametrize("name", NO_LOGIN)
def test_what_is_no_login_by_password_and_code_is_rejected(
    server: RunningServer, nas: Nas, login: Login, name: str
) -> None:
    """P15, P16, A11, A12: a plain Access-Reject, no user data, nothing counted or consumed."""
    more, with_password, method = NO_LOGIN[name]
    fields: Attributes = [*login.fields[: 1 + with_password], *more]
    reply = nas.ask(nas.request(ACCESS_REQUEST, 9, login.authenticator, fields, "first"))
    assert reply.code == ACCESS_REJECT
    assert reply.attributes[1:] == [(REPLY_MESSAGE, b"Access denied")]
    line = server.line("login.rejected", user=login.user)
    assert (line["reason"], line["method"]) == ("unsupported_method", method)
    assert line["hint"] == f"the NAS sends {method}: set it to PAP"
    assert server.site.failures(login.user) == 0
    assert nas.login(login.user, login.typed).code == ACCESS_ACCEPT


@pytest.mark.parametrize(
    "more", [[], [(STATE, b"no such State")], [(SERVICE_TYPE, CALL_CHECK)]], ids=str
)
def test_a_request_without_credentials_or_signature_is_silent_at_any_client(
    server: RunningServer, login: Login, more: list[tuple[int, bytes]]
) -> None:
    """P16: RFC 3579 section 3.3, note 1; with a password the same client is served unsigned."""
    with server.nas(LENIENT) as nas:
        bare: Attributes = [*login.fields[:1], *more]
        nas.assert_silent(nas.request(ACCESS_REQUEST, 9, login.authenticator, bare, "none"))
        assert server.lines("login.rejected", user=login.user) == []
        unsigned = nas.request(ACCESS_REQUEST, 10, login.authenticator, login.fields, "none")
        assert nas.ask(unsigned).code == ACCESS_ACCEPT


def test_a_reject_is_final(server: RunningServer, nas: Nas, login: Login) -> None:
    """A10: it opens no conversation: no State, and none that a NAS invents continues it."""
    reply = nas.login(login.user, PASSWORD)
    assert reply.code == ACCESS_REJECT
    assert [number for number, _ in reply.attributes] == [MESSAGE_AUTHENTICATOR, REPLY_MESSAGE]
    code = login.typed.removeprefix(PASSWORD)
    for state in (b"", b"x", b"\0" * 16, b"A" * 22):
        assert nas.login(login.user, code, [(STATE, state)]).code == ACCESS_REJECT
    assert {line["reason"] for line in server.lines("login.rejected", user=login.user)} == {
        "wrong_code",
        "empty_password",  # for an empty attribute is none
        "state_forged",
    }


# Replies


def proxy_states(octets: int) -> list[tuple[int, bytes]]:
    """Return Proxy-States that take exactly *octets* on the wire."""
    sizes = [100] * (octets // 100 - 1) + [100 + octets % 100]
    return [(PROXY_STATE, bytes(size - 2)) for size in sizes]


def test_a_reply_over_4096_octets_is_not_sent(
    server: RunningServer, nas: Nas, source: str, login: Login
) -> None:
    """T08: it is silence, with a line that says why; one of 4096 octets is whole.

    A reject is longer than the request it answers where that holds no credentials.
    """
    room = 4096 - 20 - 18 - len("Access denied") - 2
    fits, too_long = (
        nas.request(ACCESS_REQUEST, octets % 256, os.urandom(16), proxy_states(octets), "first")
        for octets in (room, room + 1)
    )
    assert len(nas.ask(fits).octets) == 4096
    nas.assert_silent(too_long, too_long)
    line = server.line("packet.discarded", source=source)
    assert line["reason"] == "reply_too_long"
    whole = nas.login(login.user, login.typed, proxy_states(3900))
    assert (whole.code, len(whole.octets)) == (ACCESS_ACCEPT, 20 + 18 + 3900)


def test_status_server_is_answered_a_hundred_times_a_second(server: RunningServer) -> None:
    """S03: the rest is silence; other clients, and logins of this one, go on."""
    user = server.site.fresh_user()
    with server.nas("127.0.3.1") as busy, server.nas("127.0.3.2") as same, server.nas() as other:
        answered = 0
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            for _ in range(20):
                busy.send(busy.status_server())
            answered += len(busy.replies(0.02))
        assert 100 <= answered <= 300, "two seconds touch three of the clock"
        assert same.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert other.ask(other.status_server()).code == ACCESS_ACCEPT


# The reply cache


def test_a_reply_is_kept_as_long_as_configured(site: Site) -> None:
    """D03: the very octets 4 s later; 6 s later the packet is a new one, of the same login.

    Its verdict is shared (D09), so the answer is right all the same.
    """
    site.sections = {"radius": {"reply_cache_seconds": 5}}
    site.write_config()
    site.add_users(["alice"])
    server = site.start()
    with server.nas() as nas:
        request = nas.access_request("alice", PASSWORD + totp.code())
        reply = nas.ask(request)
        answered = time.monotonic()
        wait_until(answered + 4)
        assert nas.ask(request).octets == reply.octets
        assert len(server.lines("reply.resent")) == 1
        wait_until(answered + 5.5)
        assert nas.ask(request).octets == reply.octets
        assert len(server.lines("reply.resent")) == 1
    assert "verdict" in server.lines("login.accepted")[1]


def wait_until(moment: float) -> None:
    threading.Event().wait(max(0.0, moment - time.monotonic()))
