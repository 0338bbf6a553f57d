"""From a decision to octets; every reply here is verified by hand, as a NAS would."""

import dataclasses
import hashlib
from typing import Any

import pytest

from radius_mfa.errors import MalformedPacket, ReplyTooLong
from radius_mfa.policy.attributes import Encoded
from radius_mfa.policy.decision import Accept, Challenge, Decision, Reject, RejectReason
from radius_mfa.protocol.reply import (
    decision_reply,
    signed_reply,
    text_values,
    unsupported_reply,
)
from radius_mfa.protocol.wire import Code, Packet, parsed
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_CHALLENGE,
    ACCESS_REJECT,
    ACCESS_REQUEST,
    MESSAGE_AUTHENTICATOR,
    PROMPT,
    PROXY_STATE,
    REPLY_MESSAGE,
    STATE,
    STATUS_SERVER,
    USER_NAME,
    Reply,
    encode,
    request_authenticator,
    verified,
)

SECRET = b"a shared secret of the tests"
AUTHENTICATOR = bytes(range(16))
MESSAGE = "Access denied"
ACCEPT, REJECT = Accept("totp"), Reject(RejectReason.WRONG_CODE, "a hint for the operator")
USER = (USER_NAME, b"<alice>")


def request(
    *fields: tuple[int, bytes],
    code: int = ACCESS_REQUEST,
    identifier: int = 7,
    authenticator: bytes = AUTHENTICATOR,
) -> Packet:
    return parsed(encode(code, identifier, authenticator, fields))


def replied(asked: Packet, decision: Decision, message: str = MESSAGE) -> Reply:
    octets = decision_reply(asked, SECRET, decision, message)
    return verified(octets, asked.octets, SECRET)


def proxy_states(octets: int) -> list[tuple[int, bytes]]:
    """Return Proxy-States that take exactly *octets* on the wire."""
    sizes = [255] * (octets // 255)
    rest = octets % 255
    if rest == 1:
        sizes[-1], rest = 254, 2
    return [(PROXY_STATE, bytes(size - 2)) for size in [*sizes, rest] if size]


@dataclasses.dataclass
class Undecided:
    """What is neither Accept nor Reject, whatever it looks like."""

    method: str = "totp"
    reason: str = "wrong_code"


@pytest.mark.parametrize("decision", [None, True, 2, Undecided(), Accept, RejectReason.WRONG_CODE])
def test_no_decision_is_no_reply(decision: Any) -> None:
    """A09, rule 4: pyrad's own default is Access-Accept."""
    with pytest.raises(KeyError):
        decision_reply(request(USER), SECRET, decision, MESSAGE)


@pytest.mark.parametrize("reason", RejectReason)
def test_a_reject_is_a_reject_and_the_same_for_every_reason(reason: RejectReason) -> None:
    """A09, A15, rule 7: not one octet tells the cause; A08: it holds its message alone."""
    reply = replied(request(USER), Reject(reason, f"because of {reason}"))
    assert reply.code == ACCESS_REJECT
    assert [number for number, _ in reply.attributes] == [MESSAGE_AUTHENTICATOR, REPLY_MESSAGE]
    assert reply.all(REPLY_MESSAGE) == [MESSAGE.encode()]
    assert reply.octets == replied(request(USER), REJECT).octets


def test_a_reject_without_a_message_has_none() -> None:
    """T09: no attribute of length zero is sent."""
    reply = replied(request(USER), REJECT, "")
    assert reply.code == ACCESS_REJECT
    assert [number for number, _ in reply.attributes] == [MESSAGE_AUTHENTICATOR]


@pytest.mark.parametrize("method", ["totp", "", "Access-Reject"])
def test_an_accept_is_an_accept(method: str) -> None:
    """A09: and holds nothing that a reject says."""
    reply = replied(request(USER), Accept(method))
    assert reply.code == ACCESS_ACCEPT
    assert [number for number, _ in reply.attributes] == [MESSAGE_AUTHENTICATOR]


@pytest.mark.parametrize("decision", [ACCEPT, REJECT])
@pytest.mark.parametrize("identifier", [0, 1, 255])
@pytest.mark.parametrize("authenticator", [AUTHENTICATOR, bytes(16), b"\xff" * 16])
def test_a_reply_is_bound_to_its_request(
    decision: Decision, identifier: int, authenticator: bytes
) -> None:
    """T06, B05: Identifier, Response Authenticator, Message-Authenticator first."""
    asked = request(USER, identifier=identifier, authenticator=authenticator)
    octets = replied(asked, decision).octets
    assert octets[20] == MESSAGE_AUTHENTICATOR
    other = bytes(octet ^ 1 for octet in authenticator)
    for stranger in (
        request(USER, identifier=identifier ^ 1, authenticator=authenticator),
        request(USER, identifier=identifier, authenticator=other),
    ):
        with pytest.raises(AssertionError):
            verified(octets, stranger.octets, SECRET)
    with pytest.raises(AssertionError):
        verified(octets, asked.octets, SECRET + b"x")


@pytest.mark.parametrize("code", [Code.ACCESS_ACCEPT, Code.ACCESS_REJECT, Code.ACCESS_CHALLENGE])
def test_status_server_is_answered_like_a_login(code: Code) -> None:
    """S01, B05."""
    asked = request(code=STATUS_SERVER)
    reply = verified(signed_reply(asked, SECRET, code), asked.octets, SECRET)
    assert reply.code == code


@pytest.mark.parametrize("decision", [ACCEPT, REJECT])
def test_proxy_state_is_copied_unmodified_and_in_order(decision: Decision) -> None:
    """B09: all of them, also where others stand between, and last in the reply."""
    values = [b"p2", b"", b"p1", b"\0\xff", b"0x1234", b"p2", b"x" * 253]
    fields = [field for value in values for field in ((PROXY_STATE, value), (25, b"class"))]
    reply = replied(request(USER, *fields), decision)
    assert reply.all(PROXY_STATE) == values
    assert [value for _, value in reply.attributes[-len(values) :]] == values


def test_nothing_else_of_the_request_is_echoed() -> None:
    """B10: what an attacker writes into a request does not come back under our signature."""
    fields = [(number, b"<attacker>") for number in (1, 18, 24, 25, 26, 31, 32, 44, 200)]
    for decision in (ACCEPT, REJECT):
        assert b"<attacker>" not in replied(request(*fields), decision).octets


@pytest.mark.parametrize("decision", [ACCEPT, REJECT])
def test_4096_octets_are_the_most(decision: Decision) -> None:
    """T08: one octet more is no reply, and never a reply cut short."""
    most = 4096 - len(replied(request(), decision).octets)
    assert len(replied(request(*proxy_states(most)), decision).octets) == 4096
    for octets in (most + 1, 4096 - 20):
        with pytest.raises(ReplyTooLong):
            decision_reply(request(*proxy_states(octets)), SECRET, decision, MESSAGE)


def test_a_length_that_the_header_can_not_hold_is_too_long() -> None:
    """T08: 65,536 octets and more, where pyrad's own error is another one."""
    for values in (20, 300):
        with pytest.raises(ReplyTooLong):
            signed_reply(request(), SECRET, Code.ACCESS_ACCEPT, {25: [bytes(253)] * values})


def test_attributes_are_sent_octet_for_octet() -> None:
    """A17: no value is read as a number or as hexadecimal."""
    values = {25: [b"123", b"0xAB", "Größe".encode()], 11: [b"0x"], 26: [b"\0\0\0\x09\x01\x03x"]}
    asked = request((PROXY_STATE, b"p1"))
    reply = verified(signed_reply(asked, SECRET, Code.ACCESS_ACCEPT, values), asked.octets, SECRET)
    assert {number: reply.all(number) for number in values} == values
    assert reply.all(PROXY_STATE) == [b"p1"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("x", [1]),
        ("x" * 253, [253]),
        ("x" * 254, [253, 1]),
        ("x" * 506, [253, 253]),
        ("ä" * 126 + "x", [253]),
        ("ä" * 127, [252, 2]),
        ("x" + "ä" * 126, [253]),
        ("x" + "€" * 84, [253]),
        ("€" * 85, [252, 3]),
        ("\U0001f512" * 120, [252, 228]),
    ],
)
def test_long_text_is_split_between_characters(text: str, values: list[int]) -> None:
    """T09, C09: each value is UTF-8 by itself, and together they are the text."""
    found = text_values(text)
    assert [len(value) for value in found] == values
    assert "".join(value.decode() for value in found) == text


def test_a_reject_message_may_be_longer_than_an_attribute() -> None:
    """T09: a hundred and twenty characters of the setting can be 480 octets."""
    message = "\U0001f512" * 120
    reply = replied(request(USER), REJECT, message)
    assert b"".join(reply.all(REPLY_MESSAGE)).decode() == message


def test_a_challenge_asks_and_carries_its_state_and_nothing_that_was_granted() -> None:
    """C01: Reply-Message, State, and Prompt = No-Echo; attributes go with an Accept alone."""
    decision = Challenge("a-state-of-ours", RejectReason.WRONG_CODE, "a hint for the operator")
    asked = request(USER)
    octets = decision_reply(
        asked,
        SECRET,
        decision,
        MESSAGE,
        granted=[Encoded(bytes((11, 5)) + b"vpn")],
        challenge_text="Your code?",
    )
    reply = verified(octets, asked.octets, SECRET)
    assert reply.code == ACCESS_CHALLENGE
    assert reply.attributes[1:] == [
        (REPLY_MESSAGE, b"Your code?"),
        (STATE, b"a-state-of-ours"),
        (PROMPT, bytes(4)),
    ]


@pytest.mark.parametrize(("code", "answered"), [(4, 5), (40, 42), (43, 45)])
def test_what_is_not_served_over_tls_is_refused_in_words(code: int, answered: int) -> None:
    """R01: with Error-Cause 406, signed as its request is."""
    request = request_authenticator(encode(code, 7, bytes(16), [USER]), SECRET)
    reply = unsupported_reply(request, SECRET)
    assert reply is not None
    expected = encode(answered, 7, request[4:20], [(101, (406).to_bytes(4, "big"))])
    digest = hashlib.md5(expected + SECRET).digest()  # noqa: S324 - the protocol's
    assert reply == expected[:4] + digest + expected[20:]


@pytest.mark.parametrize("code", [4, 40, 43])
def test_a_forged_request_of_another_kind_is_malformed(code: int) -> None:
    """R04: a wrong Request Authenticator ends the connection."""
    with pytest.raises(MalformedPacket):
        unsupported_reply(encode(code, 7, bytes(16), [USER]), SECRET)


@pytest.mark.parametrize("code", [1, 2, 12, 255])
def test_other_kinds_are_somebody_elses(code: int) -> None:
    """R01: logins and Status-Server are served, and nobody knows the rest."""
    assert unsupported_reply(encode(code, 7, bytes(16), []), SECRET) is None
