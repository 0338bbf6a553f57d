"""The NAS's side of the conversation: requests of our own, and what their replies say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyrad.packet import AuthPacket, PacketError

from radius_mfa.protocol.dictionary import dictionary
from radius_mfa.protocol.wire import Attribute, Code


@dataclass(frozen=True, slots=True)
class Reply:
    """A verified reply; *attributes* are (name, values in text) in the order sent."""

    code: Code
    attributes: tuple[tuple[str, tuple[str, ...]], ...]
    octets: bytes = field(repr=False, compare=False)

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values of the attribute *name*, in their order."""
        return dict(self.attributes).get(name, ())

    @property
    def state(self) -> bytes | None:
        """The State of a challenge of this server, which is printable; None for another reply."""
        values = self.values("State") if self.code is Code.ACCESS_CHALLENGE else ()
        return values[0].encode() if values else None


class BadReplyError(Exception):
    """The reply does not verify: another shared secret, or a forgery."""


class ClientRequest:
    """An Access-Request or a Status-Server, signed with Message-Authenticator unless told not."""

    def __init__(
        self,
        shared_secret: bytes,
        code: Code = Code.ACCESS_REQUEST,
        attributes: Mapping[str, str | Sequence[str]] | None = None,
        user_password: bytes | None = None,
        *,
        state: bytes | None = None,
        signed: bool = True,
    ) -> None:
        """*attributes* are by dictionary name; *user_password* is hidden as RFC 2865 says.

        *state* is that of the challenge which this answers, octet for octet.
        """
        self._packet = AuthPacket(
            code=int(code),
            secret=shared_secret,
            authenticator=AuthPacket.CreateAuthenticator(),
            dict=dictionary(),
        )
        if signed:
            self._packet.add_message_authenticator()
        for name, value in (attributes or {}).items():
            self._packet[name] = value if isinstance(value, str) else list(value)
        if user_password is not None:
            hidden = self._packet.PwCrypt(user_password)
            self._packet[int(Attribute.USER_PASSWORD)] = [hidden]

        if state is not None:
            self._packet[int(Attribute.STATE)] = [state]

    @property
    def octets(self) -> bytes:
        """The request as it goes on the wire; the same at every call."""
        octets: bytes = self._packet.RequestPacket()
        return octets

    def reply(self, octets: bytes) -> Reply:
        """Return the reply in *octets*; raises BadReplyError unless it is signed and ours."""
        try:
            packet = self._packet.CreateReply(packet=octets)
            packet.request_authenticator = self._packet.authenticator  # hidden values hang on it
            verified = self._packet.VerifyReply(packet, octets, enforce_ma=True)
            code = Code(packet.code)
        except (PacketError, ValueError):
            verified = False
        if not verified:
            raise BadReplyError("the reply does not verify: compare the shared secrets")
        return Reply(code, tuple(_legible(packet)), octets)


def _legible(packet: AuthPacket) -> list[tuple[str, tuple[str, ...]]]:
    shown = []
    for name in packet.keys():  # noqa: SIM118 - pyrad names attributes in keys() alone
        if name in ("Message-Authenticator", int(Attribute.MESSAGE_AUTHENTICATOR)):
            continue
        try:
            values = tuple(_text(name, value) for value in packet[name])
        except (ValueError, KeyError, PacketError):  # a value wrong for its type
            values = ("(malformed)",)
        shown.append((str(name), values))
    return shown


def _text(name: object, value: object) -> str:
    """Return a value as people read it; what travels hidden stays hidden (rule 8)."""
    attribute = dictionary().attributes.get(name)
    if attribute is not None and attribute.encrypt:
        return "***"
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return text if text.isprintable() and "\ufffd" not in text else f"0x{value.hex()}"
    return str(value)
