"""What Hypothesis sends: no datagram does anything but raise a Discard, or be read whole."""

import ipaddress
import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from radius_mfa.errors import BadMessageAuthenticator, Discard
from radius_mfa.policy.decision import Accept, Reject, RejectReason
from radius_mfa.protocol import message_authenticator
from radius_mfa.protocol.access_request import access_request
from radius_mfa.protocol.message_authenticator import Verdict
from radius_mfa.protocol.nas import Nas
from radius_mfa.protocol.reply import decision_reply
from radius_mfa.protocol.wire import MAX_ATTRIBUTES, SINGLE_INSTANCE, Packet, parsed
from tests.support.radius import encode, packet_of, verified

SECRET = b"a shared secret of the tests"
LENIENT = Nas(
    "lenient", (ipaddress.ip_network("0.0.0.0/0"),), SECRET, require_message_authenticator=False
)
SLOW_MACHINES_TOO = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)

Field = tuple[int, bytes]

authenticators = st.binary(min_size=16, max_size=16)
values = st.binary(max_size=20) | st.binary(max_size=253)
fields: st.SearchStrategy[list[Field]] = st.lists(
    st.tuples(st.integers(1, 255), values),
    max_size=15,
    unique_by=lambda field: field[0] if field[0] in SINGLE_INSTANCE else object(),
)
unsigned_fields = fields.map(lambda found: [field for field in found if field[0] != 80])
headed = st.builds(
    lambda code, length, body: struct.pack("!BBH", code, 1, length) + body,
    st.sampled_from([1, 12]),
    st.integers(0, 80) | st.integers(0, 0xFFFF),
    st.binary(max_size=120),
)
datagrams = st.binary(max_size=100) | headed


def read_to_the_end(datagram: bytes) -> Packet | None:
    """Return what the protocol room makes of *datagram*, from first check to reply."""
    try:
        packet = parsed(datagram)
        message_authenticator.check(packet, LENIENT)
        access_request(packet, LENIENT)
        decision_reply(packet, SECRET, Reject(RejectReason.WRONG_CODE), "Access denied")
    except Discard:
        return None
    return packet


def written_again(packet: Packet) -> bytes:
    return encode(packet.code, packet.identifier, packet.authenticator, packet.attributes)


@SLOW_MACHINES_TOO
@given(datagrams)
def test_any_datagram_is_discarded_or_read_whole(datagram: bytes) -> None:
    """P17: nothing but a Discard is ever raised, and what is read is what was sent."""
    packet = read_to_the_end(datagram)
    if packet is not None:
        assert written_again(packet) == packet.octets == datagram[: len(packet.octets)]


@SLOW_MACHINES_TOO
@given(
    code=st.sampled_from([1, 12]),
    identifier=st.integers(0, 255),
    authenticator=authenticators,
    sent=fields,
    padding=st.binary(max_size=40),
)
def test_no_attribute_of_a_valid_packet_is_lost(
    code: int, identifier: int, authenticator: bytes, sent: list[Field], padding: bytes
) -> None:
    """P02, P09, P10: every attribute, in the order sent, and nothing of the padding."""
    datagram = encode(code, identifier, authenticator, sent)
    assume(len(datagram) <= 4096)
    packet = parsed(datagram + padding)
    assert (packet.code, packet.identifier) == (code, identifier)
    assert packet.authenticator == authenticator
    assert packet.attributes == tuple(sent)
    assert packet.octets == datagram


def flipped(packet: bytes, at: int, octet: int) -> bytes:
    return packet[:at] + bytes([packet[at] ^ octet]) + packet[at + 1 :]


def inserted(packet: bytes, at: int, octet: int) -> bytes:
    return packet[:at] + bytes([octet]) + packet[at:]


def deleted(packet: bytes, at: int, _octet: int) -> bytes:
    return packet[:at] + packet[at + 1 :]


def cut(packet: bytes, at: int, _octet: int) -> bytes:
    return packet[:at]


def doubled(packet: bytes, at: int, octet: int) -> bytes:
    return packet[:at] + packet[at : at + octet] * 2 + packet[at + octet :]


@SLOW_MACHINES_TOO
@given(
    authenticator=authenticators,
    sent=unsigned_fields,
    place=st.sampled_from(["first", "last", "none"]),
    mutations=st.lists(
        st.tuples(
            st.sampled_from([flipped, inserted, deleted, cut, doubled]),
            st.integers(0, 4095),
            st.integers(1, 255),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_a_mutated_packet_is_discarded_or_read_whole(
    authenticator: bytes,
    sent: list[Field],
    place: str,
    mutations: list[tuple[Callable[[bytes, int, int], bytes], int, int]],
) -> None:
    """P17: a datagram that was a good packet once raises nothing but a Discard either."""
    datagram = packet_of(1, 7, authenticator, sent, SECRET, place)
    for mutate, at, octet in mutations:
        if datagram:
            datagram = mutate(datagram, at % len(datagram), octet)
    packet = read_to_the_end(datagram)
    if packet is not None:
        assert written_again(packet) == packet.octets == datagram[: len(packet.octets)]


@SLOW_MACHINES_TOO
@given(
    authenticator=authenticators,
    sent=unsigned_fields,
    place=st.sampled_from(["first", "last"]),
    bit=st.integers(0, 8 * 4096),
)
def test_a_flipped_bit_is_never_taken_for_valid(
    authenticator: bytes, sent: list[Field], place: str, bit: int
) -> None:
    """B01: any one bit of a signed packet, in header, attributes or signature."""
    datagram = packet_of(1, 7, authenticator, sent, SECRET, place)
    assume(len(datagram) <= 4096)
    assert message_authenticator.check(parsed(datagram), LENIENT) is Verdict.VALID
    broken = flipped(datagram, bit // 8 % len(datagram), 1 << bit % 8)
    try:
        verdict = message_authenticator.verdict(parsed(broken), SECRET)
    except Discard:
        return
    assert verdict is not Verdict.VALID


@SLOW_MACHINES_TOO
@given(authenticator=authenticators, sent=unsigned_fields, secret=st.binary(max_size=64))
def test_another_secret_verifies_nothing(
    authenticator: bytes, sent: list[Field], secret: bytes
) -> None:
    """B01."""
    assume(secret.rstrip(b"\0") != SECRET)  # HMAC pads a key with NULs
    datagram = packet_of(1, 7, authenticator, sent, secret)
    assume(len(datagram) <= 4096)
    with pytest.raises(BadMessageAuthenticator):
        message_authenticator.check(parsed(datagram), LENIENT)


@SLOW_MACHINES_TOO
@given(
    code=st.sampled_from([1, 12]),
    identifier=st.integers(0, 255),
    authenticator=authenticators,
    sent=fields,
    decision=st.sampled_from([Accept("totp"), Reject(RejectReason.WRONG_CODE)]),
)
def test_every_reply_verifies_and_holds_each_proxy_state(
    code: int, identifier: int, authenticator: bytes, sent: list[Field], decision: Accept | Reject
) -> None:
    """T06, B05, B09: whatever the request held."""
    datagram = encode(code, identifier, authenticator, sent)
    assume(len(datagram) <= 4096 - 18 - 15 and len(sent) <= MAX_ATTRIBUTES)
    octets = decision_reply(parsed(datagram), SECRET, decision, "Access denied")
    reply = verified(octets, datagram, SECRET)
    assert reply.code == (2 if isinstance(decision, Accept) else 3)
    assert reply.all(33) == [value for number, value in sent if number == 33]
