"""Composition root and lifecycle: settings in, running parts out."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_network
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import start_http_server

from radius_mfa import __version__, tasks, vendors
from radius_mfa.authentication.enrolment import EnrolmentService
from radius_mfa.authentication.login import Login
from radius_mfa.authentication.refusal import REJECT_JITTER
from radius_mfa.config import EMBEDDED, ClientSettings, Settings, joined_endpoint, split_endpoint
from radius_mfa.config_view import digest
from radius_mfa.errors import BackendError, BackendUnavailable, ConfigurationError
from radius_mfa.group_check import unknown_groups
from radius_mfa.ldap_setup import ldap_directories
from radius_mfa.policy.access import Mode
from radius_mfa.policy.challenge import TEXTS, ChallengePolicy
from radius_mfa.policy.credentials import SplitPolicy
from radius_mfa.policy.lockout import LockoutPolicy
from radius_mfa.policy.totp import Window
from radius_mfa.policy_setup import policies
from radius_mfa.protocol.duplicates import DuplicateCache
from radius_mfa.protocol.nas import CertificateTable, Nas, NasTable
from radius_mfa.server import core_dumps, memory
from radius_mfa.server.background import keep_doing
from radius_mfa.server.discards import DiscardLog
from radius_mfa.server.faults import fault
from radius_mfa.server.handler import AnswerPolicy, Handler
from radius_mfa.server.metrics import Metrics
from radius_mfa.server.notices import Notices
from radius_mfa.server.outages import Outage, cure
from radius_mfa.server.radsec import RadsecListener
from radius_mfa.server.udp import UdpListener
from radius_mfa.stores import installation, keyring, keys, schema
from radius_mfa.stores.admins import AdminStore
from radius_mfa.stores.attempts import RedisAttempts
from radius_mfa.stores.bulk import Bulk
from radius_mfa.stores.clients_seen import ClientsSeen, ClientTraffic, TrafficWriter
from radius_mfa.stores.directories import Directories
from radius_mfa.stores.directory_local import LocalDirectory
from radius_mfa.stores.embedded_redis import EmbeddedRedis, FolderInUseError
from radius_mfa.stores.enrolments import EnrolmentCodec, EnrolmentStore
from radius_mfa.stores.events import EventQueue, EventStream, Publisher
from radius_mfa.stores.hashing import Hashing, HashParameters
from radius_mfa.stores.history_writer import HistoryWriter
from radius_mfa.stores.key_rotation import KeyRotation
from radius_mfa.stores.keyring import KeyRing
from radius_mfa.stores.login_history import LoginHistory
from radius_mfa.stores.nodes import Node, Nodes
from radius_mfa.stores.outbox import Outbox
from radius_mfa.stores.records import Database, open_engine
from radius_mfa.stores.recovery_codes import RecoveryCodeStore
from radius_mfa.stores.redis_scripts import RedisScripts, connect, load_scripts
from radius_mfa.stores.signed_clients import SignedClients
from radius_mfa.tls_setup import radsec_context

if TYPE_CHECKING:
    from radius_mfa.server.mail_sender import MailSender

log = structlog.get_logger()

WATCH_SECONDS = 2.0
"""How often the backends are asked whether they are there."""

MAX_CLOCK_SKEW_SECONDS = 5.0
"""Clocks of this host and of Redis further apart than this are worth a warning."""

DRAIN_MARGIN_SECONDS = 1.0
"""How much longer a stopping server waits than the logins in flight may take."""

FOLDER_WAIT_SECONDS = 5.0
"""How long to wait for a command line that has the data folder for a moment."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The backends, open and checked."""

    scripts: RedisScripts
    attempts: RedisAttempts
    database: Database
    enrolments: EnrolmentStore
    directory: LocalDirectory
    directories: Directories
    key_ring: KeyRing
    digest_key: bytes = field(repr=False)
    nodes: Nodes
    key_rotation: KeyRotation
    bulk: Bulk
    recovery_codes: RecoveryCodeStore
    service: EnrolmentService
    events: EventStream
    history: LoginHistory
    clients_seen: ClientsSeen
    outbox: Outbox
    admins: AdminStore
    signed_clients: SignedClients


@asynccontextmanager
async def open_stores(settings: Settings, *, private_redis: bool = False) -> AsyncIterator[Stores]:
    """Open every backend, bring the schema up to date, check the keys.

    With *private_redis* an embedded Redis that runs already is used, and one that does not is
    started for as long as the block lasts: that is how command lines work beside a server.
    Raises OperatorError with the cure for whatever is missing.
    """
    prepare_data_folder(settings.data_folder)
    key_ring = keyring.load(settings.key_ring_file)
    async with AsyncExitStack() as stack:
        url = await _redis_url(settings, stack, private=private_redis)
        password = settings.redis.password
        redis = connect(
            url,
            password=password.get_secret_value() if password else None,
            timeout_seconds=settings.redis.timeout_seconds,
        )
        scripts = await stack.enter_async_context(
            RedisScripts(redis, load_scripts(), timeout_seconds=settings.redis.timeout_seconds)
        )
        codec = EnrolmentCodec(key_ring)
        attempts = RedisAttempts(
            scripts,
            encode=codec.encode,
            decode=codec.decode,
            lockout=_lockout_policy(settings),
            key_prefix=settings.redis.key_prefix,
            enrolment_cache_seconds=settings.redis.enrolment_cache_seconds,
        )
        database = Database(
            open_engine(
                settings.database_url,
                pool_size=settings.database.pool_size,
                timeout_seconds=settings.database.timeout_seconds,
            ),
            mails=bool(settings.mail.host),
        )
        stack.push_async_callback(database.close)
        with backends_named():
            await schema.upgrade(database)
            await keys.check(database, key_ring)
            digest_key = await keys.digest_key(database, key_ring)
            await installation.open_epoch(database, attempts, time.time())
        hashing = _hashing(settings)
        stack.callback(hashing.close)
        enrolments = EnrolmentStore(database, key_ring, attempts.invalidate)
        directory = LocalDirectory(
            enrolments,
            hashing,
            credential_cache_seconds=settings.directory.local.credential_cache_seconds,
        )
        directories = Directories(
            directory,
            ldap_directories(settings),
            local_realms=settings.directory.local.realms,
        )
        stack.push_async_callback(directories.close)
        nodes = Nodes(scripts, settings.redis.key_prefix)
        key_rotation = KeyRotation(database, key_ring, nodes, attempts.forget_enrolments)
        yield Stores(
            scripts,
            attempts,
            database,
            enrolments,
            directory,
            directories,
            key_ring,
            digest_key,
            nodes,
            key_rotation,
            Bulk(database, key_ring, attempts.invalidate),
            RecoveryCodeStore(enrolments, key_ring),
            EnrolmentService(enrolments, attempts),
            EventStream(scripts, settings.redis.key_prefix),
            LoginHistory(database),
            ClientsSeen(database),
            Outbox(database),
            AdminStore(enrolments),
            SignedClients(database),
        )


@contextmanager
def backends_named() -> Iterator[None]:
    """Turn a backend that does not answer into an error with its cure."""
    try:
        yield
    except BackendUnavailable as error:
        raise BackendError(f"{error.backend} does not answer: {error.cause}", cure(error)) from None


def prepare_data_folder(folder: Path) -> None:
    """Make the data folder, for its owner only, or raise ConfigurationError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
        cause = "permission denied"
    except OSError as error:
        writable, cause = False, error.strerror or "unknown"
    if not writable:
        raise ConfigurationError(
            f"the data folder {folder} can't be written: {cause}",
            "let the server's user write there, or set data_folder",
        )


async def _redis_url(settings: Settings, stack: AsyncExitStack, *, private: bool) -> str:
    url = settings.redis.url.get_secret_value()
    if url != EMBEDDED:
        return url
    if not private:
        embedded = EmbeddedRedis(settings.data_folder)
        await _started(embedded)
        stack.push_async_callback(embedded.stop)
        return embedded.url
    running = EmbeddedRedis(settings.data_folder)
    embedded = EmbeddedRedis(settings.data_folder, "command.sock")
    try:
        await _started(embedded, unless_answers=running)
    except FolderInUseError:
        return running.url
    stack.push_async_callback(embedded.stop)
    return embedded.url


async def _started(embedded: EmbeddedRedis, unless_answers: EmbeddedRedis | None = None) -> None:
    """Start *embedded*, waiting a while for a command line to leave the folder.

    Raises FolderInUseError for a folder that stays in use, at once if its server answers.
    """
    deadline = time.monotonic() + FOLDER_WAIT_SECONDS
    while True:
        try:
            await embedded.start()
        except FolderInUseError:
            if unless_answers is not None and await unless_answers.answers():
                raise
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


def _hashing(settings: Settings) -> Hashing:
    local = settings.directory.local
    return Hashing(
        HashParameters(local.argon2_memory_kib, local.argon2_iterations, local.argon2_parallelism),
        threads=local.hash_threads,
        queue=local.hash_queue,
    )


def _lockout_policy(settings: Settings) -> LockoutPolicy:
    lockout = settings.lockout
    return LockoutPolicy(
        failures_by_source=lockout.failures_by_source,
        failures_by_user=lockout.failures_by_user,
        window_ms=lockout.window_seconds * 1000,
        lock_ms=lockout.lock_seconds * 1000,
        max_lock_ms=lockout.max_lock_seconds * 1000,
    )


def nas_table(settings: Settings, signed: Collection[str] = ()) -> NasTable:
    """Return the table of the configured clients; those that are *signed* sign every request."""
    return NasTable(
        replace(known, require_message_authenticator=True) if known.name in signed else known
        for known in [nas(client, settings) for client in settings.client]
    )


def nas(client: ClientSettings, settings: Settings) -> Nas:
    """Return a ``[[client]]`` as the protocol knows it, defaults filled in."""
    defaults = settings.radius
    require, status = client.require_message_authenticator, client.status_server
    return Nas(
        name=client.name,
        networks=tuple(ip_network(address) for address in client.address),
        shared_secret=client.secret.get_secret_value().encode(),
        require_message_authenticator=(
            defaults.require_message_authenticator if require is None else require
        ),
        limit_proxy_state=client.limit_proxy_state,
        status_server=defaults.status_server if status is None else status,
        split=SplitPolicy(
            client.code_position,
            client.separator,
            tuple(client.password_charsets),
            static_challenge=client.static_challenge,
        ),
        mfa=client.mfa,
        prompt=client.prompt,
        challenge_text=(TEXTS | settings.challenge.texts)[client.language],
        failover_grace_seconds=client.failover_grace_seconds,
        reject_on_backend_failure=client.on_backend_failure == "reject",
    )


def certificate_table(settings: Settings) -> CertificateTable:
    """Return the table of the clients that speak RADIUS over TLS."""
    return CertificateTable(
        {
            name: nas(client, settings)
            for client in settings.client
            for name in client.certificate_name
        }
    )


def _endpoints(listen: Iterable[str]) -> Iterator[tuple[tuple[str, int], bool]]:
    """Yield each endpoint, and whether it serves IPv4 too: [::] does where 0.0.0.0 does not."""
    endpoints = [split_endpoint(one) for one in listen]
    for host, port in endpoints:
        yield (host, port), host == "::" and ("0.0.0.0", port) not in endpoints  # noqa: S104 - compared, not bound


def login(settings: Settings, stores: Stores) -> Login:
    """Return what decides logins: those of clients, and those at the portal, which is none."""
    return Login(
        stores.attempts,
        stores.enrolments,
        stores.directories,
        stores.recovery_codes,
        digest_key=stores.digest_key,
        window=window(settings),
        counted_factors=frozenset(settings.lockout.count),
        policies=policies(settings),
        challenges=ChallengePolicy(settings.challenge.lifetime_seconds, settings.challenge.tries),
    )


def window(settings: Settings) -> Window:
    """Return which codes are accepted around the present one."""
    return Window(settings.totp.lookback_steps, settings.totp.lookforward_steps)


def _mail_sender(settings: Settings, stores: Stores, metrics: Metrics) -> "MailSender | None":
    """Return who sends mails, where a mail server is configured."""
    if not settings.mail.host:
        return None
    from radius_mfa import mail_setup  # noqa: PLC0415 - a library that others can do without
    from radius_mfa.server.mail_sender import MailSender  # noqa: PLC0415

    return MailSender(
        stores.outbox,
        mail_setup.smtp_server(settings),
        mail_setup.writer(settings),
        metrics,
        retry_hours=settings.mail.retry_hours,
    )


class Server:
    """A running server: listeners over open stores."""

    def __init__(
        self, settings: Settings, stores: Stores, events: EventQueue | None = None
    ) -> None:
        """Serve over *stores*; *events* is the queue that the log publishes to."""
        self._settings = settings
        self._stores = stores
        self._events = EventQueue() if events is None else events
        self.metrics = Metrics()
        self.metrics.events_lost.set_function(lambda: self._events.lost)
        self._redis_outage, self._database_outage = Outage(), Outage()
        self._node_id = secrets.token_hex(8)
        self._settings_digest = digest(settings)
        self._unfit_keys = ""
        self._signed_clients: frozenset[str] = frozenset()
        self._told_keys = self._keys
        self._watch_directories()
        stores.directory.hashing.observe = self.metrics.hashing_seconds.observe
        self._traffic_writer = TrafficWriter(ClientTraffic(), stores.clients_seen)
        self._notices = Notices(stores.outbox.lock, stores.enrolments.refresh_mail)
        self._mail_sender = _mail_sender(settings, stores, self.metrics)
        radius = settings.radius
        self.handler = Handler(
            nas_table(settings),
            login(settings, stores),
            policy=AnswerPolicy(
                radius.reject_message,
                radius.reject_delay_seconds,
                radius.login_deadline_seconds,
                radius.max_requests_in_flight,
            ),
            duplicates=DuplicateCache(radius.reply_cache_seconds),
            metrics=self.metrics,
            traffic=self._traffic_writer.traffic,
            backends_up=lambda: self._redis_outage.over,
            notices=self._notices,
        )
        self.listeners: list[UdpListener | RadsecListener] = []
        self._publisher = Publisher(
            stores.scripts,
            stores.events,
            self._events,
            process=self._node_id,
            node=socket.gethostname(),
            keep=settings.events.keep,
        )
        self._history_writer = HistoryWriter(
            stores.scripts,
            stores.events,
            stores.history,
            node_id=self._node_id,
            history_days=settings.events.history_days,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        """Serve until the block ends; then take no more requests, and finish those in flight."""
        with ExitStack() as closing:
            self._listen(closing)
            await self._follow_signed_clients()
            await self._announce()  # a key rotation that begins now waits for this node
            watches = [
                tasks.spawn(self._watch("redis", self._redis_outage, self._look_at_redis)),
                tasks.spawn(self._watch("database", self._database_outage, self._look_at_database)),
                tasks.spawn(keep_doing(self._publisher.step, "events")),
                tasks.spawn(keep_doing(memory.give_back, "memory")),
                tasks.spawn(keep_doing(self._history_writer.step, "history")),
                tasks.spawn(self._look_at_groups()),
                tasks.spawn(keep_doing(self._traffic_writer.step, "clients seen")),
                tasks.spawn(self._notices.run()),
            ]
            if self._mail_sender is not None:
                watches.append(tasks.spawn(self._mail_sender.run()))
            try:
                for listener in self.listeners:
                    listener.start()
                self._say_started()
                yield self
            finally:
                for listener in self.listeners:
                    listener.stop()
                await tasks.stop(*watches)
                await self._drained()
                with contextlib.suppress(BackendUnavailable):
                    await self._traffic_writer.step()
                with contextlib.suppress(BackendUnavailable):
                    await self._publisher.step()
                    await self._stores.nodes.withdraw(self._node_id)
                log.info("server.stopped")

    def _listen(self, closing: ExitStack) -> None:
        discard_log = DiscardLog(self.metrics)
        opened: Iterator[UdpListener | RadsecListener]
        opened = chain(self._over_udp(discard_log), self._over_tls(discard_log))
        for listener in opened:
            closing.callback(listener.close)
            self.listeners.append(listener)
        if self._settings.metrics.listen:
            self._serve_metrics(*split_endpoint(self._settings.metrics.listen), closing)

    def _over_udp(self, discard_log: DiscardLog) -> Iterator[UdpListener]:
        radius = self._settings.radius
        for endpoint, dual_stack in _endpoints(radius.listen):
            yield UdpListener(
                endpoint,
                self.handler.answer,
                receive_buffer_bytes=radius.receive_buffer_bytes,
                discard_log=discard_log,
                dual_stack=dual_stack,
            )

    def _over_tls(self, discard_log: DiscardLog) -> Iterator[RadsecListener]:
        radsec = self._settings.radsec
        if not radsec.listen:
            return
        context, table = radsec_context(radsec), certificate_table(self._settings)
        for endpoint, dual_stack in _endpoints(radsec.listen):
            yield RadsecListener(
                endpoint,
                self.handler.answer,
                context=context,
                table=table,
                max_connections=radsec.max_connections,
                reply_cache_seconds=self._settings.radius.reply_cache_seconds,
                metrics=self.metrics,
                discard_log=discard_log,
                dual_stack=dual_stack,
            )

    def _watch_directories(self) -> None:
        for directory in self._stores.directories.ldap:
            for server in directory.servers:
                server.observe = partial(self.metrics.count_call, directory.name)
                up = self.metrics.directory_server_up.labels(directory.name, server.uri)
                up.set_function(partial(getattr, server, "up"))

    def _serve_metrics(self, host: str, port: int, closing: ExitStack) -> None:
        try:
            metrics_server, _thread = start_http_server(port, host, self.metrics.registry)
        except OSError as error:
            raise ConfigurationError(
                f"metrics can't be served on {host}:{port}: {error.strerror}",
                "change metrics.listen",
            ) from None
        closing.callback(metrics_server.server_close)
        closing.callback(metrics_server.shutdown)

    def _say_started(self) -> None:
        log.info(
            "server.started",
            version=__version__,
            listen=self._served(UdpListener),
            **({"listen_tls": tls} if (tls := self._served(RadsecListener)) else {}),
            clients=len(self._settings.client),
            core_dumps=core_dumps.word(allowed=self._settings.allow_core_dumps),
        )
        for client in self._settings.client:
            optional = not nas(client, self._settings).require_message_authenticator
            if client.address and optional and client.name not in self._signed_clients:
                log.warning(
                    "client.message_authenticator_optional",
                    nas=client.name,
                    hint="its requests may be forged on the way (BlastRADIUS): "
                    + (_NEVER_SIGNS if vendors.never_signs(client.vendor) else _SIGN),
                )
            if client.mfa is Mode.OFF:
                log.warning(
                    "client.second_factor_off",
                    nas=client.name,
                    hint="its users log in with the password alone, enrolled or not: mfa = "
                    '"enrolled" would ask those who have a device',
                )

        for rule in self._settings.rule:
            if rule.mfa is Mode.OFF:
                log.warning(
                    "rule.second_factor_off",
                    rule=rule.name,
                    hint="whom it matches logs in with the password alone, enrolled or not",
                )

    @property
    def endpoints(self) -> list[tuple[str, int]]:
        """Addresses and ports that are served."""
        return [listener.local for listener in self.listeners]

    def _served(self, kind: type) -> str:
        """Return the addresses and ports of one kind of listener, as people write them."""
        return ", ".join(
            joined_endpoint(*one.local) for one in self.listeners if isinstance(one, kind)
        )

    async def _watch(
        self, backend: str, outage: Outage, look: Callable[[], Awaitable[bool]]
    ) -> None:
        """Look now and then whether a backend answers; one that hangs holds up its own watch."""
        while True:
            try:
                up = await look()
            except Exception as error:  # noqa: BLE001 - a watch that ended would say "up" for ever
                up = False
                outage.is_news(BackendUnavailable(backend, "unknown"))  # and not: it is well
                log.error("watch.failed", backend=backend, **fault(error))  # noqa: TRY400 - no traceback for an operator
            self.metrics.backend_up.labels(backend).set(up)
            await asyncio.sleep(WATCH_SECONDS)

    async def _look_at_redis(self) -> bool:
        """Return whether Redis answers and can write; notice one that has lost its memory."""
        outage = self._redis_outage
        try:
            now = time.time()
            await self._stores.attempts.notice_lost_memory(now)
            skew = await self._stores.attempts.clock() - now
            await self._announce()
        except BackendUnavailable as error:
            if outage.is_news(error):
                log.error("redis.down", cause=error.cause, hint=cure(error))  # noqa: TRY400 - see above
            return False
        if outage.ends():
            log.info("redis.up")
        if abs(skew) > MAX_CLOCK_SKEW_SECONDS:
            log.warning(
                "clock.skew",
                seconds=round(skew, 1),
                hint="the clocks of this host and of Redis differ: one-time codes need NTP",
            )
        return True

    async def _look_at_database(self) -> bool:
        """Return whether the database answers: logins that are cached go on without it."""
        outage = self._database_outage
        try:
            await self._follow_signed_clients()
            await keys.follow(self._stores.database, self._stores.key_ring)
        except BackendUnavailable as error:
            if outage.is_news(error):
                log.error("database.down", cause=error.cause, hint=cure(error))  # noqa: TRY400 - see above
            return False
        except ConfigurationError as error:
            if error.message != self._unfit_keys:
                log.error("keyring.unfit", cause=error.message, hint=error.cure)  # noqa: TRY400
            self._unfit_keys = error.message
        else:
            self._unfit_keys = ""
        if outage.ends():
            log.info("database.up")
        if self._keys != self._told_keys:
            knows, encrypts_with = self._told_keys = self._keys
            log.info("keyring.changed", knows=list(knows), encrypts_with=encrypts_with)
        return True

    async def _follow_signed_clients(self) -> None:
        """Require Message-Authenticator of whom admins say so, in the portal of any node."""
        signed = await self._stores.signed_clients.all()
        if signed == self._signed_clients:
            return
        for name in sorted(signed ^ self._signed_clients):
            log.info("client.signature", nas=name, required=name in signed)
        self._signed_clients = signed
        self.handler.serve(nas_table(self._settings, signed))

    async def _look_at_groups(self) -> None:
        """Say once which groups of the rules nobody has; the logins go on meanwhile."""
        stores = self._stores
        try:
            unknown = await unknown_groups(self._settings, stores.directories, stores.enrolments)
        except BackendUnavailable as error:
            log.warning("rule.groups_not_checked", backend=error.backend, cause=error.cause)
            return
        for one in unknown:
            log.warning("rule.unknown_group", named_by=one.where, group=one.group, hint=one.hint)

    @property
    def _keys(self) -> tuple[tuple[int, ...], int]:
        """The versions of the keys that this process knows, and the one that encrypts."""
        key_ring = self._stores.key_ring
        return tuple(sorted(key_ring.versions)), key_ring.primary

    async def _announce(self) -> None:
        """Say in Redis that this node runs, and which keys it knows."""
        host, core_dumps_allowed = socket.gethostname(), self._settings.allow_core_dumps
        await self._stores.nodes.announce(
            Node(self._node_id, host, *self._keys, core_dumps_allowed, self._settings_digest)
        )

    async def _drained(self) -> None:
        """Wait until every request taken has had its reply, reject delay and all."""
        radius = self._settings.radius
        reject_seconds = radius.reject_delay_seconds * (1 + REJECT_JITTER)
        longest = max(radius.login_deadline_seconds, reject_seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest + DRAIN_MARGIN_SECONDS):
                for listener in self.listeners:
                    await listener.idle()


async def serve(settings: Settings, log_lines_lost: Callable[[], int], events: EventQueue) -> None:
    """Serve until SIGTERM or SIGINT.

    *log_lines_lost* is for the metrics; *events* is the queue that the log publishes to.
    """
    memory.use_one_arena()
    if not settings.allow_core_dumps:
        core_dumps.forbid()
    stopped = stop_signals()
    async with open_stores(settings) as stores:
        server = Server(settings, stores, events)
        server.metrics.log_lines_lost.set_function(log_lines_lost)
        async with server.running():
            memory.settle()
            await stopped.wait()


_SIGN = "switch on Message-Authenticator there, then require it here"
_NEVER_SIGNS = "these gateways can't sign: reach them over loopback, IPsec or WireGuard alone"


def stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped
