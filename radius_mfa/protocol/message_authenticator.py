"""Message-Authenticator: verify first, then decide by the NAS's policy (RFC 3579 section 3.2).

The table at the end is the whole of the policy; nothing else may look at the attribute.
"""

import hmac
from enum import Enum, auto

from radius_mfa.errors import (
    BadMessageAuthenticator,
    Discard,
    MalformedPacket,
    MissingMessageAuthenticator,
    UnsignedProxyState,
)
from radius_mfa.hmacs import of_shared_secret
from radius_mfa.protocol.access_request import Method, credentials
from radius_mfa.protocol.nas import Nas
from radius_mfa.protocol.wire import HEADER_OCTETS, Attribute, Code, Packet

VALUE_OCTETS = 16  # an HMAC-MD5; with its header the attribute is 18 octets (RFC 2869 5.14)


class Verdict(Enum):
    """What the Message-Authenticator of a packet says."""

    ABSENT = auto()
    VALID = auto()
    INVALID = auto()


def verdict(packet: Packet, shared_secret: bytes) -> Verdict:
    """Return what the packet's Message-Authenticator proves, wherever it stands.

    Raises MalformedPacket for one of the wrong length (checklist B02).
    """
    value = packet.first(Attribute.MESSAGE_AUTHENTICATOR)
    if value is None:
        return Verdict.ABSENT
    if len(value) != VALUE_OCTETS:
        raise MalformedPacket("a Message-Authenticator is 18 octets long")
    at = _value_position(packet.octets)
    zeroed = packet.octets[:at] + bytes(VALUE_OCTETS) + packet.octets[at + VALUE_OCTETS :]
    expected = of_shared_secret(shared_secret).digest(zeroed)
    return Verdict.VALID if hmac.compare_digest(expected, value) else Verdict.INVALID


def _value_position(octets: bytes) -> int:
    position = HEADER_OCTETS
    while octets[position] != Attribute.MESSAGE_AUTHENTICATOR:
        position += octets[position + 1]
    return position + 2


def check(packet: Packet, nas: Nas) -> Verdict:
    """Raise the Discard that the NAS's policy asks for, or return the verdict.

    Status-Server (RFC 5997 section 3), EAP-Message (RFC 3579 section 3.1) and a request without
    credentials (RFC 3579 section 3.3, note 1) need a valid one whatever the policy says
    (checklist S02, B07, P16).
    """
    found = verdict(packet, nas.shared_secret)
    discard = _refusal(packet, nas, found)
    if discard is not None:
        raise discard
    return found


def _refusal(packet: Packet, nas: Nas, found: Verdict) -> Discard | None:
    if found is Verdict.VALID:
        return None
    if found is Verdict.INVALID:
        return BadMessageAuthenticator("wrong shared secret, or a forged packet")
    why_required = _why_required(packet, nas)
    if why_required:
        return MissingMessageAuthenticator(f"{why_required} without Message-Authenticator")
    if nas.limit_proxy_state and packet.first(Attribute.PROXY_STATE) is not None:
        return UnsignedProxyState("Proxy-State without Message-Authenticator")
    return None


def _why_required(packet: Packet, nas: Nas) -> str:
    if packet.code is Code.STATUS_SERVER:
        return "Status-Server"
    if packet.first(Attribute.EAP_MESSAGE) is not None:
        return "EAP-Message"
    if credentials(packet) is Method.NONE:
        return "a request without credentials"
    return "a request of this client" if nas.require_message_authenticator else ""
