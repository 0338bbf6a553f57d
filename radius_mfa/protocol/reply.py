"""From a decision to signed octets.

The code is always set from the decision (rule 4: pyrad's own default is Access-Accept), the
Message-Authenticator always comes first (BlastRADIUS), Proxy-State is copied unmodified.
"""

import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pyrad.packet import AuthPacket

from radius_mfa.errors import ReplyTooLong
from radius_mfa.policy.decision import Accept, Decision, Reject
from radius_mfa.protocol.wire import MAX_PACKET_OCTETS, Attribute, Code, Packet

Attributes = Mapping[int, Sequence[bytes]]

NO_ATTRIBUTES: Attributes = MappingProxyType({})

MAX_VALUE_OCTETS = 253  # RFC 2865 section 5

CODE_OF_DECISION = {Accept: Code.ACCESS_ACCEPT, Reject: Code.ACCESS_REJECT}


def decision_reply(
    request: Packet, shared_secret: bytes, decision: Decision, reject_message: str
) -> bytes:
    """Return the reply that carries *decision*.

    A reject holds the one fixed *reject_message* whatever its reason (rule 7).
    """
    attributes = NO_ATTRIBUTES
    if isinstance(decision, Reject):
        attributes = {Attribute.REPLY_MESSAGE: text_values(reject_message)}
    return signed_reply(request, shared_secret, CODE_OF_DECISION[type(decision)], attributes)


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
) -> bytes:
    """Return the octets of a reply to *request*: Response Authenticator, Message-Authenticator.

    Raises ReplyTooLong over 4096 octets (RFC 2865 section 3).
    """
    reply = AuthPacket(
        code=int(code),
        id=request.identifier,
        secret=shared_secret,
        authenticator=request.authenticator,
    )
    reply.add_message_authenticator()
    for number, values in attributes.items():
        reply[int(number)] = list(values)
    proxy_states = request.all(Attribute.PROXY_STATE)
    if proxy_states:
        reply[int(Attribute.PROXY_STATE)] = proxy_states
    try:
        octets: bytes = reply.ReplyPacket()
    except struct.error:
        raise ReplyTooLong("the reply does not fit into a RADIUS packet") from None
    if len(octets) > MAX_PACKET_OCTETS:
        raise ReplyTooLong(f"the reply would be {len(octets)} octets long")
    return octets
