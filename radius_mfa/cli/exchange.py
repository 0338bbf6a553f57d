"""Sends a request of our own to a running server and waits for the reply."""

import socket
from pathlib import Path
from typing import Annotated, Self

import typer

from radius_mfa.app import nas_table
from radius_mfa.cli.common import read_secret
from radius_mfa.config import ClientSettings, Settings, endpoint, split_endpoint
from radius_mfa.errors import BackendError, OperatorError, Refused, UnknownNas
from radius_mfa.log import printable
from radius_mfa.protocol.client import BadReplyError, ClientRequest, Reply

TRIES = 3

MAX_TYPED_OCTETS = 128  # RFC 2865 section 5.2

ServerOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS[:PORT]", help="Default: the first of radius.listen."),
]
TypedFileOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        readable=False,
        help="File with password and code as typed at the VPN, one line for each prompt; - is "
        "standard input. Default: ask.",
    ),
]


class Line:
    """A socket to one server. Use as a context manager.

    What is asked twice on it comes from one port, as the retransmission of a gateway does.
    """

    def __init__(self, server: tuple[str, int], source: str = "") -> None:
        """Ask *server* from the address *source*, or from the one that the system chooses."""
        self.server = server
        self._socket = _socket_to(server, source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    @property
    def source(self) -> str:
        """The address that packets leave from."""
        return str(self._socket.getsockname()[0])

    def ask(self, request: ClientRequest, timeout_seconds: float) -> Reply:
        """Return the reply; the same packet goes out up to three times.

        Raises BackendError where nothing comes back, Refused for a reply that does not verify.
        """
        reply = self.asked(request, timeout_seconds)
        if reply is None:
            raise no_server(
                self.server,
                f"no reply in {timeout_seconds:g} s",
                "its log says why: an unknown address, another shared secret, "
                "a backend that is down",
            )
        return reply

    def asked(self, request: ClientRequest, timeout_seconds: float) -> Reply | None:
        """Return the reply, as ``ask`` does; None where nothing comes back."""
        for _ in range(TRIES):
            reply = self.asked_once(request, timeout_seconds / TRIES)
            if reply is not None:
                return reply
        return None

    def asked_once(self, request: ClientRequest, timeout_seconds: float) -> Reply | None:
        """Return the reply to one packet; None where nothing comes back."""
        self._socket.settimeout(timeout_seconds)
        try:
            self._socket.send(request.octets)
            return request.reply(self._socket.recv(4096))
        except TimeoutError:
            return None
        except ConnectionRefusedError:
            raise no_server(
                self.server, "nothing listens there", "is radius-mfa serve running?"
            ) from None
        except OSError as error:
            raise no_server(self.server, error.strerror or "unreachable") from None
        except BadReplyError as error:
            raise Refused(str(error), "is it this server's configuration?") from None


def exchange(request: ClientRequest, server: tuple[str, int], timeout_seconds: float) -> Reply:
    """Return the reply of *server*, as ``Line.ask`` does."""
    with Line(server) as line:
        return line.ask(request, timeout_seconds)


def answer_to(reply: Reply, file: Path | None, line: int, charset: str) -> bytes:
    """Return what is typed at a challenge, or what stands in *line* of *file*; maybe nothing."""
    text = " ".join(printable(value) for value in reply.values("Reply-Message"))
    return octets_of(read_secret(text or "Code", file, line=line), charset)


def octets_of(typed: str, charset: str) -> bytes:
    """Return what goes into User-Password, as the client's gateway would send it."""
    try:
        octets = typed.encode(charset)
    except UnicodeEncodeError:
        raise Refused(
            f"the password does not fit into {charset}", "see password_charsets of the client"
        ) from None
    if len(octets) > MAX_TYPED_OCTETS:
        raise Refused(
            f"password and code are {len(octets)} octets long: RADIUS carries {MAX_TYPED_OCTETS}"
        )
    return octets


def no_server(server: tuple[str, int], why: str, cure: str = "") -> OperatorError:
    """Return the error for a server that does not answer."""
    return BackendError(f"no answer from {place(server)}: {why}", cure)


def place(server: tuple[str, int]) -> str:
    """Return where a server is, in words."""
    return f"{server[0]} port {server[1]}"


def server_address(
    text: str | None, settings: Settings, option: str = "--server"
) -> tuple[str, int]:
    """Return the server to ask: the one named by *option*, or this configuration's own."""
    if text is not None:
        try:
            return split_endpoint(endpoint(text))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=option) from None
    host, port = split_endpoint(settings.radius.listen[0])
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - compared


def client_for(server: tuple[str, int], name: str | None, settings: Settings) -> ClientSettings:
    """Return the client to play: the one named, or the one that holds our own address."""
    if name is not None:
        return over_udp(client_named(name, settings))
    source = our_address(server)
    try:
        found = nas_table(settings).find(source)
    except UnknownNas:
        raise Refused(
            f"no client holds {source}, from which this command would ask",
            f"make one: radius-mfa client add localhost {source}",
        ) from None
    return client_named(found.name, settings)


def client_named(name: str, settings: Settings) -> ClientSettings:
    """Return the client called *name*, or raise Refused."""
    for client in settings.client:
        if client.name == name:
            return client
    raise Refused(f"there is no client {name}", "see: radius-mfa client list")


def over_udp(client: ClientSettings) -> ClientSettings:
    """Return *client*, or raise Refused where its gateway can't be played, for it speaks TLS."""
    if not client.address:
        raise Refused(
            f"{client.name} speaks RADIUS over TLS, and gateways are played over UDP only",
            "log in at the gateway itself, and look at: radius-mfa tail",
        )
    return client


def our_address(server: tuple[str, int]) -> str:
    """Return the address from which a packet to *server* would leave."""
    with Line(server) as line:
        return line.source


def _socket_to(server: tuple[str, int], source: str = "") -> socket.socket:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    try:
        opened = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        raise no_server(server, error.strerror or "unreachable") from None
    try:
        if source:
            opened.bind((source, 0))
    except OSError as error:
        opened.close()
        raise Refused(
            f"this machine can't send from {source}: {error.strerror}",
            "name an address of its own; ip address shows them",
        ) from None
    try:
        opened.connect(server)
    except (OSError, OverflowError) as error:
        opened.close()
        why = error.strerror if isinstance(error, OSError) else None
        raise no_server(server, why or "unreachable") from None
    return opened
