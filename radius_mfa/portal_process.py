"""The portal's process: its parts put together, its socket, its life."""

import asyncio
import contextlib
import hashlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from radius_mfa import __version__, tasks
from radius_mfa.app import WATCH_SECONDS, Stores, login, nas, open_stores, stop_signals, window
from radius_mfa.config import (
    EMBEDDED,
    LOOPBACK_NAMES,
    ClientSettings,
    Settings,
    joined_endpoint,
    split_endpoint,
)
from radius_mfa.config_view import digest, masked, toml_text
from radius_mfa.errors import BackendError, BackendUnavailable, ConfigurationError, Refused
from radius_mfa.portal.services import ConfiguredClient, Office, Policy, Services
from radius_mfa.portal.web import application
from radius_mfa.server import core_dumps
from radius_mfa.server.background import keep_doing
from radius_mfa.server.notices import Notices
from radius_mfa.stores import keys
from radius_mfa.stores.embedded_redis import EmbeddedRedis
from radius_mfa.stores.events import EventQueue, Publisher
from radius_mfa.stores.history_writer import HistoryWriter, Rank
from radius_mfa.stores.nodes import Node
from radius_mfa.stores.sessions import SessionStore
from radius_mfa.stores.user_list import UserList
from radius_mfa.tls_setup import server_context

log = structlog.get_logger()

CONNECTIONS = 512
"""Connections served at once; a browser over them is told to come again."""

HEAD_SECONDS = 10.0
"""How long a connection may take to say what it asks for."""

KEEP_ALIVE_SECONDS = 15
STOP_SECONDS = 5
BACKLOG = 256
SERVER_WAIT_SECONDS = 15.0
"""How long to wait for the server whose embedded Redis is used."""


async def serve(settings: Settings, events: EventQueue) -> None:
    """Serve the portal until SIGTERM or SIGINT; *events* is what the log publishes to."""
    portal = settings.portal
    if not portal.enabled:
        raise Refused("the portal is switched off", "to switch it on: enabled = true in [portal]")
    if not settings.allow_core_dumps:
        core_dumps.forbid()
    stopped = stop_signals()
    tls = _tls(settings)
    with _listening(settings) as listening:
        await _embedded_redis_runs(settings)
        async with (
            open_stores(settings, private_redis=True) as stores,
            _beside_the_pages(stores, settings, events) as notices,
        ):
            port = listening.getsockname()[1]
            app = application(services(settings, stores, port, notices))
            server = _Server(
                uvicorn.Config(
                    app,
                    http=_Protocol,
                    lifespan="off",
                    log_config=None,
                    log_level="error",  # below, it tells of what anybody can send
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    ws="none",
                    limit_concurrency=CONNECTIONS,
                    timeout_keep_alive=KEEP_ALIVE_SECONDS,
                    timeout_graceful_shutdown=STOP_SECONDS,
                )
            )
            server.config.load()
            server.config.ssl = tls
            serving = tasks.spawn(server.serve(sockets=[listening]))
            host = listening.getsockname()[0]
            log.info(
                "portal.started",
                version=__version__,
                listen=joined_endpoint(host, port),
                address=origin(settings, port),
            )
            stopping = tasks.spawn(stopped.wait())
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await serving
            await tasks.stop(stopping)
            log.info("portal.stopped")


class _Protocol(H11Protocol):
    """uvicorn's, which by itself waits for ever for the head of a request.

    All places could be taken by who never asks. The body's time is bounded with the page's.
    """

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._overdue = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Wait no longer once a head is whole, and for the whole of one that has begun."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_longer()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def _wait_no_longer(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to ``stop_signals``."""
        yield


def services(settings: Settings, stores: Stores, port: int, notices: Notices) -> Services:
    """Return what the pages work with; *port* is the one that is served."""
    portal = settings.portal
    sessions = SessionStore(
        stores.scripts,
        key_prefix=settings.redis.key_prefix,
        idle_seconds=portal.session_idle_seconds,
        absolute_seconds=portal.session_seconds,
    )
    policy = Policy(
        origin=origin(settings, port),
        hosts=_hosts(settings, port),
        trusted_proxies=tuple(ip_network(one) for one in portal.trusted_proxies),
        open_to_peers=portal.certificate_file is not None,
        csrf_key=hashlib.blake2b(stores.digest_key, digest_size=32, person=b"portal csrf").digest(),
        issuer=settings.totp.issuer,
        algorithm=settings.totp.algorithm,
        digits=settings.totp.digits,
        time_step_seconds=settings.totp.time_step_seconds,
        window=window(settings),
        reject_delay_seconds=settings.radius.reject_delay_seconds,
        sign_ins_per_minute=portal.sign_ins_per_minute,
    )
    office = Office(
        stores.admins,
        stores.attempts,
        stores.directory,
        stores.service,
        UserList(stores.database),
        stores.events,
        stores.clients_seen,
        stores.signed_clients,
        stores.nodes,
        stores.directories,
        tuple(_configured(client, settings) for client in settings.client),
        toml_text(masked(settings)),
        digest(settings),
    )
    return Services(
        policy,
        login(settings, stores),
        stores.enrolments,
        stores.recovery_codes,
        sessions,
        stores.history,
        office,
        notices.of,
    )


def _configured(client: ClientSettings, settings: Settings) -> ConfiguredClient:
    known = nas(client, settings)
    return ConfiguredClient(
        known.name,
        (*map(str, known.networks), *(f"TLS: {name}" for name in client.certificate_name)),
        known.mfa,
        known.require_message_authenticator,
        client.vendor or "",
    )


def origin(settings: Settings, port: int) -> str:
    """Return where browsers find the portal: scheme, host and port."""
    portal = settings.portal
    if portal.base_url:
        return portal.base_url
    return f"{'https' if portal.certificate_file else 'http'}://localhost:{port}"


def _hosts(settings: Settings, port: int) -> frozenset[str]:
    """Return what may stand in the Host of a request."""
    if settings.portal.base_url:
        return frozenset({urlsplit(settings.portal.base_url).netloc})
    return frozenset(joined_endpoint(one, port) for one in LOOPBACK_NAMES)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS of the settings, None where a proxy speaks it."""
    portal = settings.portal
    certificate, key = portal.certificate_file, portal.certificate_key_file
    if certificate is None and key is None:
        host, _ = split_endpoint(portal.listen)
        if not (ip_address(host).is_loopback or portal.trusted_proxies):
            raise ConfigurationError(
                f"the portal would serve {portal.listen} without TLS, and passwords go there",
                "set portal.certificate_file and certificate_key_file, or portal.trusted_proxies "
                "for a proxy that speaks TLS",
            )
        return None
    if certificate is None or key is None:
        raise ConfigurationError(
            "portal.certificate_file and portal.certificate_key_file go together",
            "set both, or neither",
        )
    context = server_context("portal", certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    host, port = split_endpoint(settings.portal.listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except OSError as error:
            raise ConfigurationError(
                f"the portal can't serve {settings.portal.listen}: {error.strerror}",
                "stop what serves there, or change portal.listen",
            ) from None
        listening.settimeout(0)
        yield listening
    finally:
        listening.close()


async def _embedded_redis_runs(settings: Settings) -> None:
    """Wait for the server whose embedded Redis the portal shares; BackendError where none runs."""
    if settings.redis.url.get_secret_value() != EMBEDDED:
        return
    running = EmbeddedRedis(settings.data_folder)
    with suppress(TimeoutError):
        async with asyncio.timeout(SERVER_WAIT_SECONDS):
            while not await running.answers():  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.2)
            return
    raise BackendError(
        "the embedded Redis does not answer: it belongs to the server, which does not run",
        "start it first: radius-mfa serve",
    )


@asynccontextmanager
async def _beside_the_pages(
    stores: Stores, settings: Settings, events: EventQueue
) -> AsyncIterator[Notices]:
    """Follow the keys and say which are known, so that a rotation minds what is encrypted here.

    Publish what happens here, and put on record what it brings to light. Write the history of
    logins, too: a process that answers logins has better things to do.
    """
    node_id, host = secrets.token_hex(8), f"{socket.gethostname()} (portal)"
    history_writer = HistoryWriter(
        stores.scripts,
        stores.events,
        stores.history,
        node_id=node_id,
        history_days=settings.events.history_days,
        rank=Rank.HAS_TIME,
    )
    publisher = Publisher(
        stores.scripts,
        stores.events,
        events,
        process=node_id,
        node=host,
        keep=settings.events.keep,
    )
    notices = Notices(stores.outbox.lock, stores.enrolments.refresh_mail)
    settings_digest = digest(settings)

    async def watch() -> None:
        while True:
            with suppress(BackendUnavailable, ConfigurationError):  # the server's log says it
                await keys.follow(stores.database, stores.key_ring)
            with suppress(BackendUnavailable):
                known = tuple(sorted(stores.key_ring.versions))
                node = Node(
                    node_id,
                    host,
                    known,
                    stores.key_ring.primary,
                    settings.allow_core_dumps,
                    settings_digest,
                )
                await stores.nodes.announce(node)
            await asyncio.sleep(WATCH_SECONDS)

    running = [
        tasks.spawn(watch()),
        tasks.spawn(keep_doing(publisher.step, "events")),
        tasks.spawn(keep_doing(history_writer.step, "history")),
        tasks.spawn(notices.run()),
    ]
    try:
        yield notices
    finally:
        await tasks.stop(*running)
        with contextlib.suppress(BackendUnavailable):
            await publisher.step()
            await stores.nodes.withdraw(node_id)
