"""The NAS's side: what our own client sends, what it believes, and how it shows it."""

import hashlib
import hmac
import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radius_mfa.protocol import message_authenticator
from radius_mfa.protocol.access_request import Method, access_request
from radius_mfa.protocol.client import BadReplyError, ClientRequest
from radius_mfa.protocol.message_authenticator import Verdict
from radius_mfa.protocol.nas import Nas
from radius_mfa.protocol.reply import signed_reply
from radius_mfa.protocol.wire import Attribute, Code, parsed
from tests.support.radius import MESSAGE_AUTHENTICATOR, REPLY_MESSAGE, STATE, encode

SECRET = b"a shared secret of the tests"
NAS = Nas("asa", (ipaddress.ip_network("192.0.2.1"),), SECRET)
REPLIES = [Code.ACCESS_ACCEPT, Code.ACCESS_REJECT, Code.ACCESS_CHALLENGE]


def login() -> ClientRequest:
    attributes = {"User-Name": "alice", "Calling-Station-Id": "10.99.0.2", "NAS-Port": "3"}
    return ClientRequest(SECRET, Code.ACCESS_REQUEST, attributes, b"correct horse012345")


def reply_to(request: bytes, code: int, *fields: tuple[int, bytes], signed: bool = True) -> bytes:
    """Return a reply by hand; without *signed* there is no Message-Authenticator in it."""
    first = [(MESSAGE_AUTHENTICATOR, bytes(16))] if signed else []
    reply = encode(code, request[1], request[4:20], [*first, *fields])
    if signed:
        reply = reply[:22] + hmac.digest(SECRET, reply, "md5") + reply[38:]
    response = hashlib.md5(reply + SECRET).digest()  # noqa: S324 - the protocol's
    return reply[:4] + response + reply[20:]


def test_a_reply_with_any_bit_changed_is_refused() -> None:
    """T06: forged, or of another shared secret."""
    request = login()
    good = reply_to(request.octets, Code.ACCESS_REJECT, (REPLY_MESSAGE, b"no"))
    assert request.reply(good).code is Code.ACCESS_REJECT
    for bit in range(8 * len(good)):
        broken = bytearray(good)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadReplyError):
            request.reply(bytes(broken))


@pytest.mark.parametrize("code", REPLIES)
def test_a_reply_without_message_authenticator_is_refused(code: Code) -> None:
    """BlastRADIUS: the Response Authenticator alone can be forged."""
    request = login()
    with pytest.raises(BadReplyError):
        request.reply(reply_to(request.octets, code, signed=False))


def test_a_reply_to_another_request_is_refused() -> None:
    request, other = login(), login()
    with pytest.raises(BadReplyError):
        request.reply(reply_to(other.octets, Code.ACCESS_ACCEPT))
    with pytest.raises(BadReplyError):
        request.reply(request.octets)


def test_a_reply_under_another_secret_is_refused() -> None:
    """And says what to compare; the error holds no secret."""
    request = login()
    reply = signed_reply(parsed(request.octets), SECRET + b"x", Code.ACCESS_ACCEPT)
    with pytest.raises(BadReplyError, match="compare the shared secrets"):
        request.reply(reply)


@pytest.mark.parametrize("code", [0, 4, 5, 13, 255])
def test_a_code_that_is_no_reply_is_refused(code: int) -> None:
    request = login()
    with pytest.raises(BadReplyError):
        request.reply(reply_to(request.octets, code))


def test_a_proxy_state_that_was_not_sent_is_refused() -> None:
    """B11: it is the room that a forged reply needs."""
    request = login()
    with pytest.raises(BadReplyError):
        request.reply(reply_to(request.octets, Code.ACCESS_ACCEPT, (33, b"p1")))


@settings(deadline=None)
@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda b: b"\x02\x07\x00\x50" + b))
def test_any_octets_are_refused(octets: bytes) -> None:
    """Whatever answers on the port is no traceback."""
    with pytest.raises(BadReplyError):
        login().reply(octets)


def test_a_login_is_signed_and_hidden() -> None:
    """Read by the server's own rooms: Message-Authenticator first, password as typed."""
    packet = parsed(login().octets)
    assert packet.attributes[0][0] == MESSAGE_AUTHENTICATOR
    assert message_authenticator.check(packet, NAS) is Verdict.VALID
    request = access_request(packet, NAS)
    assert request.user_name == "alice"
    assert request.user_password == b"correct horse012345"
    assert request.calling_station_id == "10.99.0.2"
    assert request.method is Method.PAP
    assert b"horse" not in packet.octets


@pytest.mark.parametrize("typed", [b"", b"x" * 16, b"x" * 17, b"\xff" * 128])
def test_a_password_of_any_length_is_hidden(typed: bytes) -> None:
    """A04, A05: also an empty one is sent, so that its reject can be seen."""
    packet = parsed(ClientRequest(SECRET, user_password=typed).octets)
    assert access_request(packet, NAS).user_password == typed


def test_a_request_keeps_its_octets_and_no_two_are_alike() -> None:
    """D01: what is sent again is a retransmission; a new request is a new one."""
    request = login()
    assert request.octets == request.octets
    authenticators = {parsed(login().octets).authenticator for _ in range(50)}
    assert len(authenticators) == 50


def test_an_unsigned_request_holds_no_message_authenticator() -> None:
    """So that what a client must refuse can be tried on it."""
    request = ClientRequest(SECRET, signed=False, user_password=b"typed")
    assert Attribute.MESSAGE_AUTHENTICATOR not in parsed(request.octets).firsts


def test_a_status_server_is_signed_and_empty() -> None:
    """S01, S02."""
    request = ClientRequest(SECRET, Code.STATUS_SERVER)
    packet = parsed(request.octets)
    assert packet.code is Code.STATUS_SERVER
    assert [number for number, _ in packet.attributes] == [Attribute.MESSAGE_AUTHENTICATOR]
    assert message_authenticator.check(packet, NAS) is Verdict.VALID
    reply = request.reply(signed_reply(packet, SECRET, Code.ACCESS_ACCEPT))
    assert (reply.code, reply.attributes) == (Code.ACCESS_ACCEPT, ())


@pytest.mark.parametrize("code", REPLIES)
def test_what_the_server_signs_is_believed(code: Code) -> None:
    request = login()
    octets = signed_reply(parsed(request.octets), SECRET, code, {REPLY_MESSAGE: [b"hello"]})
    reply = request.reply(octets)
    assert reply.code is code
    assert reply.attributes == (("Reply-Message", ("hello",)),)
    assert request.reply(octets + bytes(10)) == reply, "padding is no matter"
    assert (reply.values("Reply-Message"), reply.values("Class")) == (("hello",), ())


def test_attributes_are_shown_by_name_in_the_order_sent() -> None:
    """And what is wrong for its type is shown as that, not as a traceback."""
    request = login()
    octets = reply_to(
        request.octets,
        Code.ACCESS_ACCEPT,
        (18, b"one"),
        (6, struct.pack("!I", 8)),
        (8, bytes([192, 0, 2, 7])),
        (18, "zwölf".encode()),
        (25, b"group"),
        (27, b"\0\0\x0e"),
        (26, struct.pack("!IBB", 99_999, 1, 3) + b"x"),
        (26, b"odd"),
        (200, b"?"),
        (201, b"\0\xff"),
    )
    assert request.reply(octets).attributes == (
        ("Reply-Message", ("one", "zwölf")),
        ("Service-Type", ("Authenticate-Only",)),
        ("Framed-IP-Address", ("192.0.2.7",)),
        ("Class", ("group",)),
        ("Session-Timeout", ("(malformed)",)),
        ("(99999, 1)", ("x",)),
        ("Vendor-Specific", ("odd",)),
        ("200", ("?",)),
        ("201", ("0x00ff",)),
    )


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 255).filter(lambda number: number not in (33, 80)),
            st.binary(max_size=24),
        ),
        max_size=8,
    )
)
def test_a_signed_reply_is_shown_whatever_it_holds(fields: list[tuple[int, bytes]]) -> None:
    request = login()
    reply = request.reply(reply_to(request.octets, Code.ACCESS_ACCEPT, *fields))
    assert reply.code is Code.ACCESS_ACCEPT
    assert bool(reply.attributes) is bool(fields)


def test_the_state_of_a_challenge_comes_back_in_the_answer() -> None:
    """Octet for octet; a State in another reply is none to answer."""
    request = login()
    challenge = request.reply(reply_to(request.octets, 11, (STATE, b"a-state-of-ours")))
    assert challenge.state == b"a-state-of-ours"
    assert request.reply(reply_to(request.octets, 11)).state is None
    assert request.reply(reply_to(request.octets, 2, (STATE, b"a-state-of-ours"))).state is None
    answer = ClientRequest(SECRET, user_password=b"123456", state=challenge.state)
    assert parsed(answer.octets).first(Attribute.STATE) == b"a-state-of-ours"
