"""From a decision to signed octets.

The code is always set from the decision (rule 4), the Message-Authenticator always comes first
(BlastRADIUS), Proxy-State is copied unmodified and in order.
"""

import hashlib
import hmac
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from radius_mfa.errors import MalformedPacket, ReplyTooLong
from radius_mfa.hmacs import of_shared_secret
from radius_mfa.policy.attributes import Encoded
from radius_mfa.policy.decision import Accept, Challenge, Decision, Reject
from radius_mfa.protocol.wire import (
    HEADER_OCTETS,
    LENGTH_END,
    MAX_PACKET_OCTETS,
    Attribute,
    Code,
    Packet,
)

Attributes = Mapping[int, Sequence[bytes]]

NO_ATTRIBUTES: Attributes = MappingProxyType({})

MAX_VALUE_OCTETS = 253  # RFC 2865 section 5

NO_ECHO = bytes(4)  # RFC 2869 section 5.10: pam_radius_auth hides what is typed

CODE_OF_DECISION = {
    Accept: Code.ACCESS_ACCEPT,
    Reject: Code.ACCESS_REJECT,
    Challenge: Code.ACCESS_CHALLENGE,
}


def decision_reply(
    request: Packet,
    shared_secret: bytes,
    decision: Decision,
    reject_message: str,
    *,
    granted: Sequence[Encoded] = (),
    challenge_text: str = "",
) -> bytes:
    """Return the reply that carries *decision*, and what was *granted* with an Accept.

    A reject holds the one fixed *reject_message* whatever its reason (rule 7); *challenge_text*
    asks for the code.
    """
    attributes = NO_ATTRIBUTES
    if isinstance(decision, Reject):
        attributes, granted = {Attribute.REPLY_MESSAGE: text_values(reject_message)}, ()
    elif isinstance(decision, Challenge):
        granted = ()
        attributes = {
            Attribute.REPLY_MESSAGE: text_values(challenge_text),
            Attribute.STATE: [decision.state.encode()],
            Attribute.PROMPT: [NO_ECHO],
        }
    code = CODE_OF_DECISION[type(decision)]
    return signed_reply(request, shared_secret, code, attributes, granted)


def text_values(text: str) -> list[bytes]:
    """Return *text* as values that fit an attribute each, no character cut in two (T09)."""
    octets, values = text.encode(), list[bytes]()
    while octets:
        values.append(octets[:MAX_VALUE_OCTETS].decode("utf-8", "ignore").encode())
        octets = octets[len(values[-1]) :]
    return values


def signed_reply(
    request: Packet,
    shared_secret: bytes,
    code: Code,
    attributes: Attributes = NO_ATTRIBUTES,
    encoded: Sequence[Encoded] = (),
) -> bytes:
    """Return the octets of a reply to *request*: Response Authenticator, Message-Authenticator.

    Raises ReplyTooLong over 4096 octets (RFC 2865 section 3), ValueError for a value that no
    attribute holds.
    """
    proxy_states = request.all(Attribute.PROXY_STATE)
    parts = [_UNSIGNED]
    if encoded:
        parts += _on_the_wire(encoded, shared_secret, request.authenticator)
    for number, values in (*attributes.items(), (Attribute.PROXY_STATE, proxy_states)):
        parts += [bytes((number, len(value) + _ATTRIBUTE_HEADER)) + value for value in values]
    body = b"".join(parts)
    length = HEADER_OCTETS + len(body)
    if length > MAX_PACKET_OCTETS:
        raise ReplyTooLong(f"the reply would be {length} octets long")
    header = _HEADER.pack(code, request.identifier, length)
    # RFC 3579 section 3.2, then RFC 2865 section 3: each over the Request Authenticator
    signature = of_shared_secret(shared_secret).digest(header + request.authenticator + body)
    body = _MESSAGE_AUTHENTICATOR + signature + body[len(_UNSIGNED) :]
    authenticator = hashlib.md5(
        header + request.authenticator + body + shared_secret, usedforsecurity=False
    ).digest()
    return header + authenticator + body


def unsupported_reply(request: bytes, shared_secret: bytes) -> bytes | None:
    """Return the refusal of a *request* of a kind that we do not serve, or None for another.

    Over TLS all kinds share a port, and the peer can't learn otherwise that nobody is in
    (RFC 6614 section 2.5). Raises MalformedPacket where the Request Authenticator is wrong.
    """
    refusal = _REFUSALS.get(request[0])
    if refusal is None:
        return None
    unsigned = request[:LENGTH_END] + bytes(_AUTHENTICATOR_OCTETS) + request[HEADER_OCTETS:]
    expected = hashlib.md5(unsigned + shared_secret, usedforsecurity=False).digest()
    authenticator = request[LENGTH_END:HEADER_OCTETS]
    if not hmac.compare_digest(expected, authenticator):  # RFC 2866 section 3
        raise MalformedPacket("a Request Authenticator is wrong")
    header = _HEADER.pack(refusal, request[1], HEADER_OCTETS + len(_UNSUPPORTED))
    signature = hashlib.md5(
        header + authenticator + _UNSUPPORTED + shared_secret, usedforsecurity=False
    ).digest()
    return header + signature + _UNSUPPORTED


_REFUSALS = {
    4: 5,  # Accounting-Request: Accounting-Response
    40: 42,  # Disconnect-Request: Disconnect-NAK
    43: 45,  # CoA-Request: CoA-NAK
}
_UNSUPPORTED = bytes((101, 6)) + (406).to_bytes(4, "big")  # RFC 5176 section 3.5: Error-Cause
_AUTHENTICATOR_OCTETS = 16


def _on_the_wire(
    attributes: Sequence[Encoded], shared_secret: bytes, authenticator: bytes
) -> Iterator[bytes]:
    """Yield octets; the salts of a packet must differ (RFC 2868 section 3.5), so they count up."""
    salt = int.from_bytes(os.urandom(_SALT_OCTETS), "big")
    for number, one in enumerate(attributes):
        yield one.octets
        if one.to_hide:
            yield _hidden(one.to_hide, shared_secret, authenticator, salt + number)


def hidden_octets(length: int) -> int:
    """Return how many octets *length* of them take once hidden, salt and padding included."""
    return _SALT_OCTETS + -(-length // _BLOCK_OCTETS) * _BLOCK_OCTETS


def _hidden(plain: bytes, shared_secret: bytes, authenticator: bytes, salt: int) -> bytes:
    """Return *plain* as RFC 2868 section 3.5 hides it, behind the salt that it was hidden with."""
    salted = (salt % _SALT_MARK | _SALT_MARK).to_bytes(_SALT_OCTETS, "big")
    plain += bytes(-len(plain) % _BLOCK_OCTETS)
    cipher, previous = b"", authenticator + salted
    for at in range(0, len(plain), _BLOCK_OCTETS):
        key = hashlib.md5(shared_secret + previous, usedforsecurity=False).digest()
        block = int.from_bytes(key, "big") ^ int.from_bytes(plain[at : at + _BLOCK_OCTETS], "big")
        previous = block.to_bytes(_BLOCK_OCTETS, "big")
        cipher += previous
    return salted + cipher


_SALT_OCTETS = 2
_SALT_MARK = 0x8000  # "the most significant bit (leftmost) of the Salt field MUST be set"
_BLOCK_OCTETS = 16
_ATTRIBUTE_HEADER = 2
_HEADER = struct.Struct("!BBH")
_MESSAGE_AUTHENTICATOR = bytes((Attribute.MESSAGE_AUTHENTICATOR, 18))
_UNSIGNED = _MESSAGE_AUTHENTICATOR + bytes(16)
