"""What can go wrong, sorted by who is owed an answer: nobody, the NAS, or the operator."""

from collections.abc import Sequence


class Discard(Exception):
    """A packet owed no reply.

    *reason* names the rule in a word for metrics and the log, *event* is the name of the log's
    line; the text never quotes the packet.
    """

    reason = "discarded"
    event = "packet.discarded"


class UnknownNas(Discard):
    """No client is configured for the source address (RFC 2865 section 3)."""

    reason = "unknown_nas"


class MalformedPacket(Discard):
    """The octets break the packet format (RFC 2865 sections 3 and 5)."""

    reason = "malformed_packet"


class UnexpectedCode(Discard):
    """The packet code is not one this port serves (RFC 2865 section 3)."""

    reason = "unexpected_code"


class MissingMessageAuthenticator(Discard):
    """The NAS must send Message-Authenticator, and did not."""

    reason = "missing_message_authenticator"


class BadMessageAuthenticator(Discard):
    """The Message-Authenticator does not verify: wrong shared secret, or a forgery."""

    reason = "bad_message_authenticator"


class UnsignedProxyState(Discard):
    """Proxy-State without Message-Authenticator: the shape of the BlastRADIUS attack."""

    reason = "unsigned_proxy_state"


class DuplicateInFlight(Discard):
    """A retransmission of a request that is still being worked on (RFC 5080 section 2.2.2)."""

    reason = "duplicate_in_flight"


class StatusServerRefused(Discard):
    """Status-Server is switched off for this NAS, or a backend is down (RFC 5997 section 4.2)."""

    reason = "status_server_refused"


class Overloaded(Discard):
    """More requests are in flight than the server may hold; the NAS will ask again."""

    reason = "overloaded"


class ReplyTooLong(Discard):
    """The reply would exceed 4096 octets (RFC 2865 section 3)."""

    reason = "reply_too_long"


class ConnectionRefused(Discard):
    """A connection over TLS that is closed as it comes."""

    event = "connection.refused"


class HandshakeFailed(ConnectionRefused):
    """No TLS, or no certificate that a configured authority signed (RFC 6614 section 2.3)."""

    reason = "handshake_failed"


class UnknownCertificate(ConnectionRefused):
    """The certificate is good, and of no client, or of two."""

    reason = "unknown_certificate"


class TooManyConnections(ConnectionRefused):
    """As many connections are open as may be."""

    reason = "too_many_connections"


class BackendUnavailable(Exception):
    """A backend gave no definite answer, so the NAS gets none and fails over.

    *backend* is one of ``redis``, ``database``, ``directory``, ``hashing``, ``keyring``, ``mail``;
    *cause* names the fault without any value that came from the wire.
    """

    def __init__(self, backend: str, cause: str) -> None:
        super().__init__(f"{backend}: {cause}")
        self.backend = backend
        self.cause = cause


class HalfDone(BackendUnavailable):
    """A backend went away on the way: *done* was done, *left* was not, or may not be."""

    def __init__(self, error: BackendUnavailable, done: Sequence[str], left: Sequence[str]) -> None:
        said = f"done for {len(done)} before that, not for the other {len(left)}"
        super().__init__(error.backend, f"{error.cause}: {said}")
        self.done = done
        self.left = left


class OperatorError(Exception):
    """Something an operator can mend: one line that says what happened, and the cure."""

    exit_code = 1

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


class Refused(OperatorError):
    """The command was understood and is refused."""


class ConfigurationError(OperatorError):
    """The settings, the key ring or the database schema can't be used as they are."""

    exit_code = 3


class BackendError(OperatorError):
    """A backend that the command needs can't be reached."""

    exit_code = 4
