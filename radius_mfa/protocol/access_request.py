"""The AccessRequest value: what a NAS says of a login, decoded once and strictly."""

import hashlib
from dataclasses import field
from enum import StrEnum

from radius_mfa.policy.credentials import decoded
from radius_mfa.protocol.nas import Nas
from radius_mfa.protocol.wire import Attribute, Packet
from radius_mfa.values import value

_BLOCK_OCTETS = 16
_MAX_PASSWORD_OCTETS = 128  # RFC 2865 section 5.2


class Method(StrEnum):
    """How the credentials came; PAP alone can carry a password and a code."""

    PAP = "pap"
    CHAP = "chap"
    MS_CHAP = "ms-chap"
    EAP = "eap"
    CALL_CHECK = "call-check"
    AUTHORIZE_ONLY = "authorize-only"
    NONE = "none"


@value
class AccessRequest:
    """An Access-Request of a known NAS, its Message-Authenticator already judged.

    *user_name* is None where there is none or no charset of the NAS decodes it. *user_password*
    holds the octets as typed, without the padding; None where the attribute is absent or of an
    impossible length. *state* is None where there is no challenge to answer by PAP.
    """

    user_name: str | None
    user_name_octets: bytes
    user_password: bytes | None = field(repr=False)
    method: Method
    calling_station_id: str = ""
    nas_identifier: str = ""
    acct_session_id: bytes | None = None
    state: bytes | None = field(default=None, repr=False)


def access_request(packet: Packet, nas: Nas) -> AccessRequest:
    """Return the value of *packet*. A value wrong for its type is as good as absent (P08)."""
    name = packet.first(Attribute.USER_NAME) or b""
    hidden = packet.first(Attribute.USER_PASSWORD)
    how = method(packet)
    return AccessRequest(
        user_name=decoded(name, nas.split.password_charsets),
        user_name_octets=name,
        user_password=None
        if hidden is None
        else revealed_password(hidden, packet.authenticator, nas.shared_secret),
        method=how,
        calling_station_id=_legible(packet.first(Attribute.CALLING_STATION_ID)),
        nas_identifier=nas_identifier(packet),
        acct_session_id=packet.first(Attribute.ACCT_SESSION_ID),
        state=(packet.first(Attribute.STATE) or None) if how is Method.PAP else None,
    )


def nas_identifier(packet: Packet) -> str:
    """Return what the NAS calls itself, empty where it does not say."""
    return _legible(packet.first(Attribute.NAS_IDENTIFIER))


def revealed_password(hidden: bytes, authenticator: bytes, shared_secret: bytes) -> bytes | None:
    """Return the plain octets of a User-Password (RFC 2865 section 5.2), or None.

    Only the trailing NUL padding goes; inner NULs stay (checklist A04). None: the length is not
    a multiple of 16 between 16 and 128 (A02).
    """
    length = len(hidden)
    if length % _BLOCK_OCTETS or not _BLOCK_OCTETS <= length <= _MAX_PASSWORD_OCTETS:
        return None
    keystream, previous = b"", authenticator
    for at in range(0, length, _BLOCK_OCTETS):
        keystream += hashlib.md5(shared_secret + previous, usedforsecurity=False).digest()
        previous = hidden[at : at + _BLOCK_OCTETS]
    plain = int.from_bytes(hidden, "big") ^ int.from_bytes(keystream, "big")
    return plain.to_bytes(length, "big").rstrip(b"\0")


def method(packet: Packet) -> Method:
    """Return what *packet* asks for, and by which credentials.

    A service that is no login is never taken for one, whatever else the packet holds: without
    the State of an earlier login there is nobody to authorise (RFC 5080 section 2.1.1; A12).
    """
    service = packet.firsts.get(Attribute.SERVICE_TYPE)
    return _NO_LOGIN[service] if service in _NO_LOGIN else credentials(packet)


def credentials(packet: Packet) -> Method:
    """Return the kind of credentials in *packet*; User-Password beside another is not PAP (P15)."""
    present = packet.firsts
    if Attribute.EAP_MESSAGE in present:
        return Method.EAP
    if Attribute.CHAP_PASSWORD in present:
        return Method.CHAP
    if Attribute.USER_PASSWORD in present:
        return Method.PAP
    vendor_specific = packet.all(Attribute.VENDOR_SPECIFIC)
    if any(value.startswith(_MS_CHAP_RESPONSES) for value in vendor_specific):
        return Method.MS_CHAP
    return Method.NONE


_NO_LOGIN = {
    (10).to_bytes(4, "big"): Method.CALL_CHECK,
    (17).to_bytes(4, "big"): Method.AUTHORIZE_ONLY,
}
"""By Service-Type, RFC 2865 section 5.6 and RFC 5176 section 3.6."""

_MS_CHAP_RESPONSES = (b"\0\0\x01\x37\x01", b"\0\0\x01\x37\x19")
"""Vendor 311: MS-CHAP-Response and MS-CHAP2-Response (RFC 2548 section 2)."""


def _legible(octets: bytes | None) -> str:
    return (octets or b"").decode("utf-8", "backslashreplace")
