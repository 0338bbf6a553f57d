"""The packets of RFC 2865 section 7, octet for octet."""

import hashlib
import ipaddress

import pytest

from radius_mfa.policy.decision import Accept, Reject, RejectReason
from radius_mfa.protocol.access_request import AccessRequest, Method, access_request
from radius_mfa.protocol.nas import Nas
from radius_mfa.protocol.reply import decision_reply, signed_reply
from radius_mfa.protocol.wire import Code, parsed
from tests.support.radius import verified

SECRET = b"xyzzy5461"
NAS = Nas("example", (ipaddress.ip_network("192.168.1.16"),), SECRET)

TELNET_REQUEST = bytes.fromhex(
    "01 00 0038 0f403f9473978057bd83d5cb98f4227a"
    "01 06 6e656d6f  02 12 0dbe708d93d413ce3196e43f782a0aee"
    "04 06 c0a80110  05 06 00000003"
)
TELNET_ACCEPT = bytes.fromhex(
    "02 00 0026 86fe220e7624ba2a1005f6bf9b55e0b206 06 00000001  0f 06 00000000  0e 06 c0a80103"
)
CHAP_REQUEST = bytes.fromhex(
    "01 01 0047 2aee86f08d0d55969ca5978e0d3367a2"
    "01 08 666c6f707379  03 13 16e97557c316185895f293ff6344077275"
    "04 06 c0a80110  05 06 00000014  06 06 00000002  07 06 00000001"
)
CHAP_ACCEPT = bytes.fromhex(
    "02 01 0038 15efbc7dab26cfa3dc34d9c03c8601a4"
    "06 06 00000002  07 06 00000001  08 06 fffffffe  0a 06 00000002  0d 06 00000001"
    "0c 06 000005dc"
)
CHALLENGED_REQUEST = bytes.fromhex(
    "01 02 0039 f3a47a1f6a6d76710b947ab93041a039"
    "01 07 6d6f707379  02 12 33657573778289b570885e15084825c5"
    "04 06 c0a80110  05 06 00000007"
)
CHALLENGE = bytes.fromhex(
    "0b 02 004e 36f3c8764ae8c71157403c0c71ff9c45"
    "12 30 4368616c6c656e67652033323736393433302e2020456e74657220726573706f6e73652061742070"
    "726f6d70742e  18 0a 3332373639343330"
)
ANSWER = bytes.fromhex(
    "01 03 0043 b122556d428a13d0d6253807c457ecf0"
    "01 07 6d6f707379  02 12 692c1f205fc081b919b95195f561a581"
    "04 06 c0a80110  05 06 00000007  18 0a 3332373639343330"
)
ANSWER_REJECT = bytes.fromhex("03 03 0014 a42f4fca45916c4e09c8340f9e746aa0")


def read(octets: bytes) -> AccessRequest:
    return access_request(parsed(octets), NAS)


def test_7_1_user_telnet_to_a_host() -> None:
    """A01."""
    request = read(TELNET_REQUEST)
    assert request.user_name == "nemo"
    assert request.user_password == b"arctangent"
    assert request.method is Method.PAP


def test_7_2_framed_user_with_chap() -> None:
    """A01, A11: there is no password to split a code from, and none is made up."""
    request = read(CHAP_REQUEST)
    assert request.user_name == "flopsy"
    assert request.user_password is None
    assert request.method is Method.CHAP
    identifier, response = CHAP_REQUEST[30:31], CHAP_REQUEST[31:47]
    proof = hashlib.md5(identifier + b"arctangent" + CHAP_REQUEST[4:20])  # noqa: S324
    assert proof.digest() == response, "the example as the RFC prints it"


@pytest.mark.parametrize(
    ("octets", "password"), [(CHALLENGED_REQUEST, b"challenge"), (ANSWER, b"99101462")]
)
def test_7_3_user_with_a_challenge_card(octets: bytes, password: bytes) -> None:
    """A01."""
    request = read(octets)
    assert request.user_name == "mopsy"
    assert request.user_password == password


@pytest.mark.parametrize(
    ("request_octets", "reply"),
    [
        (TELNET_REQUEST, TELNET_ACCEPT),
        (CHAP_REQUEST, CHAP_ACCEPT),
        (CHALLENGED_REQUEST, CHALLENGE),
        (ANSWER, ANSWER_REJECT),
    ],
    ids=["7.1", "7.2", "7.3 challenge", "7.3 reject"],
)
def test_ours_differ_from_the_replies_of_the_rfc_by_the_message_authenticator_alone(
    request_octets: bytes, reply: bytes
) -> None:
    """A01, T06, B05: same code, Identifier and attributes, and both authenticators fit."""
    request = parsed(request_octets)
    signed = hashlib.md5(reply[:4] + request.authenticator + reply[20:] + SECRET)  # noqa: S324
    assert signed.digest() == reply[4:20], "the example as the RFC prints it"
    attributes = {}
    at = 20
    while at < len(reply):
        attributes[reply[at]] = [reply[at + 2 : at + reply[at + 1]]]
        at += reply[at + 1]
    ours = signed_reply(request, SECRET, Code(reply[0]), attributes)
    assert verified(ours, request_octets, SECRET).code == reply[0]
    assert ours[:2] + ours[38:] == reply[:2] + reply[20:]


@pytest.mark.parametrize(
    ("decision", "code"), [(Accept("totp"), 2), (Reject(RejectReason.WRONG_CODE), 3)]
)
def test_a_login_of_the_rfc_gets_its_reply(decision: Accept | Reject, code: int) -> None:
    ours = decision_reply(parsed(TELNET_REQUEST), SECRET, decision, "Access denied")
    assert verified(ours, TELNET_REQUEST, SECRET).code == code
