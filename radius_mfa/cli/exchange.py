"""Sends a request of our own to a running server and waits for the reply."""

import socket

import typer

from radius_mfa.app import nas_table
from radius_mfa.config import ClientSettings, Settings, endpoint, split_endpoint
from radius_mfa.errors import BackendError, OperatorError, Refused, UnknownNas
from radius_mfa.protocol.client import BadReplyError, ClientRequest, Reply

TRIES = 3


def exchange(request: ClientRequest, server: tuple[str, int], timeout_seconds: float) -> Reply:
    """Return the reply of *server*; the same packet goes out up to three times.

    Raises BackendError where nothing comes back.
    """
    with _socket_to(server) as opened:
        opened.settimeout(timeout_seconds / TRIES)
        for _ in range(TRIES):
            try:
                opened.send(request.octets)
                return request.reply(opened.recv(4096))
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                raise no_server(
                    server, "nothing listens there", "is radius-mfa serve running?"
                ) from None
            except OSError as error:
                raise no_server(server, error.strerror or "unreachable") from None
            except BadReplyError as error:
                raise Refused(str(error), "is it this server's configuration?") from None
    raise no_server(
        server,
        f"no reply in {timeout_seconds:g} s",
        "its log says why: an unknown address, another shared secret, a backend that is down",
    )


def no_server(server: tuple[str, int], why: str, cure: str = "") -> OperatorError:
    """Return the error for a server that does not answer."""
    return BackendError(f"no answer from {server[0]} port {server[1]}: {why}", cure)


def server_address(text: str | None, settings: Settings) -> tuple[str, int]:
    """Return the server to ask: the one named, or this configuration's own."""
    if text is not None:
        try:
            return split_endpoint(endpoint(text))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--server") from None
    host, port = split_endpoint(settings.radius.listen[0])
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - compared


def client_for(server: tuple[str, int], name: str | None, settings: Settings) -> ClientSettings:
    """Return the client to play: the one named, or the one that holds our own address."""
    if name is not None:
        return client_named(name, settings)
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


def our_address(server: tuple[str, int]) -> str:
    """Return the address from which a packet to *server* would leave."""
    with _socket_to(server) as opened:
        return str(opened.getsockname()[0])


def _socket_to(server: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    try:
        opened = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        raise no_server(server, error.strerror or "unreachable") from None
    try:
        opened.connect(server)
    except (OSError, OverflowError) as error:
        opened.close()
        why = error.strerror if isinstance(error, OSError) else None
        raise no_server(server, why or "unreachable") from None
    return opened
