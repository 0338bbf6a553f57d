"""What pages work with: the stores and use cases, and what the settings say of the portal."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from radius_mfa.authentication.enrolment import EnrolmentService
from radius_mfa.authentication.login import Login, Outcome
from radius_mfa.policy.totp import Algorithm, Window
from radius_mfa.stores.admins import AdminStore
from radius_mfa.stores.attempts import RedisAttempts
from radius_mfa.stores.clients_seen import ClientsSeen
from radius_mfa.stores.directories import Directories
from radius_mfa.stores.directory_local import LocalDirectory
from radius_mfa.stores.enrolments import EnrolmentStore
from radius_mfa.stores.events import ADMIN_PORTAL, PORTAL, EventStream
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.login_history import LoginHistory
from radius_mfa.stores.nodes import Nodes
from radius_mfa.stores.recovery_codes import RecoveryCodeStore
from radius_mfa.stores.sessions import SessionStore
from radius_mfa.stores.signed_clients import SignedClients
from radius_mfa.stores.user_list import UserList


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the portal with a sign-in and sessions of its own."""

    kind: str
    prefix: str
    cookie: str
    home: str
    client: str
    """What stands for the client's name in events."""
    unattended: frozenset[str] = frozenset()
    """Paths that pages ask for by themselves, which keep nobody's session alive."""

    @property
    def sign_in(self) -> str:
        """The page where one signs in."""
        return f"{self.home.rstrip('/')}/sign-in"


USERS = Area("user", "/", "__Host-radius-mfa", "/", PORTAL)
ADMINS = Area(
    "admin",
    "/admin",
    "__Host-radius-mfa-admin",
    "/admin",
    ADMIN_PORTAL,
    frozenset({"/admin/live/stream"}),
)


def area_of(path: str) -> Area:
    """Return the area of *path*."""
    return ADMINS if path.startswith(ADMINS.prefix) else USERS


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say. *origin* is scheme, host and port as a browser writes them.

    *csrf_key* makes the tokens of forms. With *open_to_peers* any peer is answered; else loopback
    and *trusted_proxies* alone, for what they send was not encrypted on the way.
    """

    origin: str
    hosts: frozenset[str]
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    open_to_peers: bool
    csrf_key: bytes = field(repr=False)
    issuer: str
    algorithm: Algorithm
    digits: int
    time_step_seconds: int
    window: Window
    reject_delay_seconds: float
    sign_ins_per_minute: int


@dataclass(frozen=True, slots=True)
class ConfiguredClient:
    """What the settings say of a ``[[client]]``; *signed* that it has to sign its requests."""

    name: str
    address: tuple[str, ...]
    mfa: str
    signed: bool
    vendor: str = ""


@dataclass(frozen=True, slots=True)
class Office:
    """What the pages of admins use beside; *settings* are those in force, without secrets.

    *settings_digest* is what other processes with the same settings announce.
    """

    admins: AdminStore
    attempts: RedisAttempts
    directory: LocalDirectory
    service: EnrolmentService
    users: UserList
    events: EventStream
    clients_seen: ClientsSeen
    signed_clients: SignedClients
    nodes: Nodes
    directories: Directories
    clients: tuple[ConfiguredClient, ...]
    settings: str
    settings_digest: str


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a page may use.

    *tell* takes note of what was decided on a user, so that a lock is told by mail.
    """

    policy: Policy
    login: Login
    enrolments: EnrolmentStore
    recovery_codes: RecoveryCodeStore
    sessions: SessionStore
    history: LoginHistory
    office: Office
    tell: Callable[[Outcome, Identity, float], None]
