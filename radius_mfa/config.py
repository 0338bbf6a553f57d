"""The settings: what may be set, in which range, with which default.

Knows no file; ``config_file.py`` reads them and says where a fault stands.
"""

import ipaddress
import os
from codecs import lookup
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from redis.asyncio.connection import parse_url
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from radius_mfa.policy.access import Mode
from radius_mfa.policy.challenge import DEFAULT_LANGUAGE, Prompt
from radius_mfa.policy.credentials import CodePosition
from radius_mfa.policy.decision import Factor
from radius_mfa.policy.mail_address import mail_address
from radius_mfa.policy.rules import Proof, period
from radius_mfa.policy.totp import MAX_LOOK_STEPS, Algorithm
from radius_mfa.vendors import VENDORS, vendor_defaults, vendor_name

EMBEDDED = "embedded"
RADIUS_PORT = 1812
RADSEC_PORT = 2083
PORTAL_PORT = 8443
MAX_SECRET_OCTETS = 256
SHORT_SECRET_OCTETS = 16
EXAMPLE_SECRET = "change-me-to-32-random-characters"  # noqa: S105 - warned of where it is in use

ASYNC_DRIVERS = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}

DEFAULT_DATA_FOLDER = Path("/var/lib/radius-mfa")


def endpoint(text: str, default_port: int = RADIUS_PORT) -> str:
    """Return *text* as ``address:port``."""
    host, port = text, str(default_port)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r}: write an IPv6 address as [address]:port")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    elif ":" in text:  # ::1:1812 may be an address or an address and a port
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, like [::1]:{default_port}")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address") from None
    if not port.isascii() or not port.isdecimal() or not 0 <= int(port) <= 65_535:  # noqa: PLR2004 - 16 bits
        raise ValueError(f"{port!r} is not a port: 1 to 65535")
    return joined_endpoint(host, int(port))


def joined_endpoint(host: str, port: int) -> str:
    """Return address and port as people write them: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return address and port of a checked endpoint."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def network(text: str) -> str:
    """Return *text* as a network; IPv4 written as IPv6 becomes the IPv4 it is."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(_no_network(text)) from None
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped and found.prefixlen >= _MAPPED_BITS:
        return f"{mapped}/{found.prefixlen - _MAPPED_BITS}"
    return str(found)


def without_full_prefix(text: str) -> str:
    """Return a network as people write it: a single address has no prefix."""
    found = ipaddress.ip_network(text)
    return str(found.network_address) if found.num_addresses == 1 else text


WIDEST_WITHOUT_FACTOR = {4: 24, 6: 64}
"""The shortest prefix, by version of IP, whose clients may have mfa = "off" just like that."""


def wide(text: str) -> bool:
    """Return whether a network holds more than one site's gateways."""
    found = ipaddress.ip_network(text)
    return found.prefixlen < WIDEST_WITHOUT_FACTOR[found.version]


_MAPPED_BITS = 96  # ::ffff:0:0/96


def _no_network(text: str) -> str:
    try:
        mended = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is neither an IP address nor a network like 192.0.2.0/24"
    return f"{text!r} has bits set to the right of its prefix; did you mean {mended}?"


def _charset(name: str) -> str:
    try:
        info = lookup(name)
    except LookupError:
        raise ValueError(f"{name!r} is not a character set that Python knows") from None
    if not getattr(info, "_is_text_encoding", True):
        raise ValueError(f"{name!r} does not encode text")
    return info.name


def _secret(value: SecretStr) -> SecretStr:
    octets = len(value.get_secret_value().encode())
    if octets == 0:
        raise ValueError("the shared secret is empty")
    if octets > MAX_SECRET_OCTETS:
        raise ValueError(f"the shared secret is longer than {MAX_SECRET_OCTETS} octets")
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text == EMBEDDED:
        return value
    try:
        parse_url(text)
    except ValueError:
        raise ValueError(
            'neither "embedded" nor a URL like redis://host:6379/0, rediss://... or unix:///socket'
        ) from None
    return value


def _database_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text == EMBEDDED:
        return value
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = URL.create("none")
    if url.get_backend_name() not in ASYNC_DRIVERS:
        raise ValueError(
            'neither "embedded" nor a URL like postgresql://user@host/name or sqlite:////path'
        )
    if url.get_backend_name() == "sqlite" and not (url.database or "").startswith("/"):
        raise ValueError("SQLite needs the absolute path of a file: sqlite:////var/lib/...")
    unknown = sorted(set(url.query) - _URL_PARAMETERS)
    if unknown:
        raise ValueError(f"the parameter {unknown[0]!r} is not known; sslmode is")
    return value


_URL_PARAMETERS = {"host", "port", "ssl", "sslmode"}


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _texts(value: object) -> object:
    """Return the values of an attribute as a list of texts: a lone one, and numbers, are fine."""
    values = value if isinstance(value, list) else [value]
    return [str(one) if type(one) is int else one for one in values]


def _period(text: str) -> str:
    period(text)
    return text


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone of this machine, like Europe/Berlin or UTC"
        ) from None
    return name


def _unset(value: object) -> object:
    return None if value == "" else value


def _path(value: object) -> object:
    if value == "" or "\0" in str(value):
        raise ValueError("must be the path of a file, in quotes")
    return value


def _radsec_endpoint(text: str) -> str:
    return endpoint(text, RADSEC_PORT)


def _portal_endpoint(text: str) -> str:
    return endpoint(text, PORTAL_PORT)


def _base_url(text: str) -> str:
    if not text:
        return text
    try:
        url = urlsplit(text)
        valid = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        valid = False
    else:
        valid = valid and not (url.username or url.query or url.fragment) and url.path in {"", "/"}
    if not valid:
        raise ValueError(f"{text!r} is not a URL like https://mfa.corp.example, without a path")
    if url.scheme == "http" and url.hostname not in LOOPBACK_NAMES:
        raise ValueError(
            "must begin with https://, for passwords go there; http:// is for loopback"
        )
    return text.removesuffix("/").lower()


LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def _ldap_url(text: str) -> str:
    try:
        url = urlsplit(text)
        valid = url.scheme in {"ldap", "ldaps"} and url.hostname and url.port != 0
    except ValueError:
        valid = False
    else:
        valid = (valid or url.scheme == "ldapi") and not (url.username or url.query or url.fragment)
        valid = valid and url.path in {"", "/"}
    if not valid:
        raise ValueError(f"{text!r} is not a URL like ldaps://dc1.corp.example:636")
    return text.removesuffix("/")


def _ldap_filter(text: str) -> str:
    if text and not (text.startswith("(") and text.endswith(")")):
        raise ValueError("a filter stands in brackets, like (objectClass=person)")
    if text.count("(") != text.count(")"):
        raise ValueError("the brackets of the filter do not pair")
    return text


def _certificate_name(text: str) -> str:
    if not text or not text.isprintable() or text != text.strip():
        raise ValueError("must be a name as it stands in the certificate")
    return text.lower()


def _mail_address(text: str) -> str:
    return mail_address(text) if text else text


def _header_text(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be of printable characters")
    return text


def _processors(threads: int) -> int:
    return threads or max(1, len(os.sched_getaffinity(0)))


def _distinct(endpoints: list[str]) -> list[str]:
    for index, one in enumerate(endpoints):
        if one in endpoints[:index] and not one.endswith(":0"):
            raise ValueError(f"{one} stands in the list twice")
    return endpoints


CLIENT_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
SEPARATOR_PATTERN = r"^[ -~]*$"
KEY_PREFIX_PATTERN = r"^[A-Za-z0-9._:-]{0,64}$"
DIRECTORY_NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,31}$"
ATTRIBUTE_PATTERN = r"^([A-Za-z][A-Za-z0-9-]{0,62})?$"
ISSUER_PATTERN = r"^[^:]{1,64}$"

PATTERN_IN_WORDS = {
    CLIENT_NAME_PATTERN: "must be 1 to 63 letters, digits, dots, hyphens or underscores, "
    "and begin with a letter or a digit",
    SEPARATOR_PATTERN: "must be of printable ASCII characters",
    KEY_PREFIX_PATTERN: "must be at most 64 letters, digits, dots, colons, hyphens or underscores",
    DIRECTORY_NAME_PATTERN: "must be 1 to 32 lower-case letters, digits, dots, hyphens or "
    "underscores, and begin with a letter or a digit",
    ATTRIBUTE_PATTERN: "must be the name of an attribute: letters, digits, hyphens",
    ISSUER_PATTERN: "must be 1 to 64 characters without a colon",
}

Endpoint = Annotated[str, AfterValidator(endpoint)]
NetworkText = Annotated[str, AfterValidator(network)]
Networks = Annotated[
    list[NetworkText],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]
Charset = Annotated[str, AfterValidator(_charset)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
DirectoryName = Annotated[str, StringConstraints(pattern=DIRECTORY_NAME_PATTERN)]
Attribute = Annotated[str, StringConstraints(pattern=ATTRIBUTE_PATTERN)]
RadsecEndpoint = Annotated[str, AfterValidator(_radsec_endpoint)]
PortalEndpoint = Annotated[str, AfterValidator(_portal_endpoint)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
LdapUrl = Annotated[str, AfterValidator(_ldap_url)]
LdapFilter = Annotated[str, AfterValidator(_ldap_filter)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
HeaderText = Annotated[str, AfterValidator(_header_text)]
Realm = Annotated[str, StringConstraints(to_lower=True, min_length=1)]
SharedSecret = Annotated[SecretStr, AfterValidator(_secret)]
VendorName = Annotated[
    str, AfterValidator(vendor_name), Field(json_schema_extra={"enum": ["", *VENDORS]})
]
ClientName = Annotated[str, StringConstraints(pattern=CLIENT_NAME_PATTERN)]
FilePath = Annotated[Path, BeforeValidator(_path)]
ChallengeText = Annotated[str, StringConstraints(min_length=1, max_length=200)]
OptionalFile = Annotated[FilePath | None, BeforeValidator(_unset)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_unset)]
CertificateNames = Annotated[
    list[Annotated[str, AfterValidator(_certificate_name)]],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]
Names = Annotated[list[str], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
Periods = Annotated[
    list[Annotated[str, AfterValidator(_period)]],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]
Proofs = Annotated[
    list[Proof], BeforeValidator(_as_list, json_schema_input_type=Proof | list[Proof])
]
Values = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(_texts, json_schema_input_type=str | int | list[str | int]),
]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
OptionalEndpoint = Annotated[Endpoint | None, BeforeValidator(_unset)]


class Section(BaseModel):
    """A table of the configuration file; a setting it does not have is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )


class RadiusSettings(Section):
    """How the server listens and answers."""

    listen: Annotated[list[Endpoint], Field(min_length=1), AfterValidator(_distinct)] = [
        "0.0.0.0:1812",
        "[::]:1812",
    ]
    """Addresses and ports to serve; replies leave from the address that was asked."""

    require_message_authenticator: bool = True
    """Discard requests without Message-Authenticator; a client may say otherwise."""

    status_server: bool = True
    """Answer Status-Server; a client may say otherwise."""

    reject_message: Annotated[str, StringConstraints(max_length=120)] = "Access denied"
    """Reply-Message of every reject, whatever its cause; empty sends none."""

    reject_delay_seconds: Annotated[float, Field(ge=0, le=10)] = 1.0
    """How long after its arrival a reject is answered, plus up to a tenth of jitter."""

    reply_cache_seconds: Annotated[float, Field(ge=5, le=60)] = 30.0
    """How long a reply is kept for retransmissions of its request."""

    login_deadline_seconds: Annotated[float, Field(ge=0.5, le=30)] = 4.0
    """After this a login gets no reply: stay below the timeout of your VPN gateway."""

    receive_buffer_bytes: Annotated[int, Field(ge=65_536, le=268_435_456)] = 4_194_304
    """Size of each socket's receive buffer, for bursts."""

    max_requests_in_flight: Annotated[int, Field(ge=16, le=1_000_000)] = 4_096
    """Requests worked on at once; more are discarded, so that the NAS asks again."""


class RadsecSettings(Section):
    """RADIUS over TLS (RFC 6614), for the clients with a `certificate_name`; see docs/radsec.md."""

    listen: Annotated[list[RadsecEndpoint], AfterValidator(_distinct)] = []
    """Addresses and ports to serve, like `0.0.0.0:2083`; empty: none."""

    certificate_file: OptionalFile = None
    """The server's certificate and its chain, in PEM."""

    certificate_key_file: OptionalFile = None
    """Its private key, in PEM, without a passphrase."""

    client_ca_file: OptionalFile = None
    """The certificates, in PEM, of those who sign the certificates of clients."""

    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 1_024
    """Connections kept open at once, on each endpoint; more are closed as they come."""


class ClientSettings(Section):
    """A NAS: a VPN gateway, or a network of them that share one secret."""

    name: ClientName
    """What the log calls it."""

    certificate_name: CertificateNames = []
    """The name in its certificate, or a list of them, where it speaks RADIUS over TLS."""

    address: Networks
    """The address or network its packets come from, or a list of them; over TLS it needs none."""

    secret: SharedSecret
    """The shared secret (or `secret_file`); 16 octets at least, better 32; over TLS, none."""

    vendor: VendorName = ""
    """What kind of gateway it is: the defaults of settings below; see docs/vendors."""

    require_message_authenticator: bool | None = None
    """As in [radius], for this client only."""

    limit_proxy_state: bool = False
    """Discard requests with Proxy-State and without Message-Authenticator."""

    status_server: bool | None = None
    """As in [radius], for this client only."""

    code_position: CodePosition = CodePosition.END
    """Where users type the code: after the password, or before it."""

    separator: Annotated[str, StringConstraints(max_length=8, pattern=SEPARATOR_PATTERN)] = ""
    """What users type between password and code; empty for nothing."""

    prompt: Prompt = Prompt.AUTO
    """Where users type the code: append (with the password), challenge (when asked), or auto."""

    language: str = DEFAULT_LANGUAGE
    """The language in which users are asked for the code; see `[challenge]`."""

    static_challenge: bool = False
    """Take apart what OpenVPN's `static-challenge` sends: password and code in one field."""

    mfa: Mode = Mode.ALWAYS
    """Who needs a code: always, required, enrolled or off; see docs/enrolment.md."""

    accept_risk: bool = False
    """Allow mfa = off for a network wider than /24 (IPv4) or /64 (IPv6)."""

    password_charsets: Annotated[list[Charset], Field(min_length=1)] = ["utf-8"]
    """Character sets of passwords and names, tried in order."""

    failover_grace_seconds: Annotated[int, Field(ge=0, le=15)] = 0
    """Within this the same login sent again as a new packet shares one verdict."""

    on_backend_failure: Literal["silent", "reject"] = "silent"
    """When a backend is down: no reply, so that the gateway fails over, or a reject."""

    group_attribute: str = ""
    """The reply attribute that carries the user's groups; `auto`: the vendor's; empty: none."""

    group_value: str = ""
    """How a group is written in it, like `{groups:,}`; default `{group}`, or by vendor."""

    group_map: dict[str, str] = {}
    """What this client calls groups; those not named here are not sent. Empty: all, as they are."""

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: object) -> object:
        """Fill in what the vendor's recipe says, and what a client of TLS alone goes without."""
        if not isinstance(given, dict):
            return given
        tls_alone = given.get("certificate_name") and not given.get("address")
        unset = {"address": [], "secret": "none over TLS"} if tls_alone else {}
        return {**unset, **vendor_defaults(given.get("vendor")), **given}

    @field_validator("address", mode="after")
    @classmethod
    def _can_be_told(cls, address: list[str], others: ValidationInfo) -> list[str]:
        if not address and not others.data.get("certificate_name", True):
            raise ValueError("must not be empty")
        return address


class RuleSettings(Section):
    """A policy rule: the first whose conditions all hold counts. See docs/policy.md."""

    name: ClientName
    """What the log and `policy explain` call it."""

    client: Names = []
    """Condition: names of `[[client]]`s; empty, here and below, for any."""

    directory: Names = []
    """Condition: names of directories that have the user; `local` is that of this server."""

    group: Names = []
    """Condition: groups by name or distinguished name, nested ones too; one of them is enough."""

    station: Networks = []
    """Condition: networks that Calling-Station-Id, an address, lies in."""

    time: Periods = []
    """Condition: hours in `time_zone`, like `mon-fri 07:00-19:00` or `sat,sun`."""

    method: Proofs = []
    """Condition: how the login proved itself: password, totp or recovery_code."""

    mfa: Mode | None = None
    """Effect: takes the place of the client's `mfa`."""

    refuse: bool = False
    """Effect: the login is rejected."""

    reply: dict[str, Values] = {}
    """Effect: attributes of the Access-Accept, by name; values may hold placeholders."""

    required: Names = []
    """Attributes of `reply` without which the login is rejected; others are left out."""


class RedisSettings(Section):
    """The working memory of the cluster."""

    url: RedisUrl = SecretStr(EMBEDDED)
    """`embedded`, or redis://, rediss:// or unix:// (or `url_file`)."""

    password: OptionalSecret = None
    """The password of Redis (or `password_file`)."""

    key_prefix: Annotated[str, StringConstraints(pattern=KEY_PREFIX_PATTERN)] = "radius-mfa:"
    """What every key begins with."""

    timeout_seconds: Annotated[float, Field(ge=0.05, le=10)] = 1.0
    """After this Redis counts as not answering."""

    enrolment_cache_seconds: Annotated[int, Field(ge=1, le=86_400)] = 3_600
    """How long a user's devices are cached in Redis; changes are seen at once all the same."""


class DatabaseSettings(Section):
    """The durable records."""

    url: DatabaseUrl = SecretStr(EMBEDDED)
    """`embedded` (SQLite in the data folder) or postgresql://user@host/name (or `url_file`)."""

    password: OptionalSecret = None
    """The password of the database user (or `password_file`)."""

    pool_size: Annotated[int, Field(ge=1, le=100)] = 5
    """Connections kept open to PostgreSQL."""

    timeout_seconds: Annotated[float, Field(ge=0.1, le=30)] = 2.0
    """After this the database counts as not answering."""


class LocalDirectorySettings(Section):
    """Passwords kept by this server itself."""

    realms: list[Realm] = []
    """Realms that are ours: `corp.example` of alice@corp.example, `corp` of CORP\\alice."""

    credential_cache_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0
    """For this long a right password is not hashed again; kept in memory only. 0 is off."""

    hash_threads: Annotated[
        int, Field(ge=0, le=64, validate_default=True), AfterValidator(_processors)
    ] = 0
    """Threads that hash passwords; 0 is one for each processor."""

    hash_queue: Annotated[int, Field(ge=0, le=10_000)] = 64
    """Passwords that may wait for a thread; more are shed, and the NAS asks again."""

    argon2_memory_kib: Annotated[int, Field(ge=8_192, le=4_194_304)] = 19_456
    """Memory of one hash, in KiB."""

    argon2_iterations: Annotated[int, Field(ge=1, le=100)] = 2
    """Passes over that memory."""

    argon2_parallelism: Annotated[int, Field(ge=1, le=16)] = 1
    """Lanes of one hash."""


class LdapDirectorySettings(Section):
    """An LDAP directory or Active Directory that users and passwords live in."""

    name: DirectoryName
    """What the log calls it. Part of its users' keys: a new name makes them strangers."""

    preset: Literal["active-directory", "openldap", "freeipa", "389ds"]
    """What kind of directory it is: the defaults of the settings below."""

    servers: Annotated[list[LdapUrl], Field(min_length=1), BeforeValidator(_as_list)]
    """URLs, the preferred one first: ldaps://host, ldap://host (StartTLS), or ldapi://."""

    start_tls: bool = True
    """Encrypt ldap:// by StartTLS; false sends passwords in the clear."""

    ca_file: OptionalFile = None
    """Certificates to trust, in PEM; default: those that the system trusts."""

    verify_certificate: bool = True
    """Refuse a server whose certificate is not valid for its name."""

    tls_minimum: Literal["1.2", "1.3"] = "1.2"
    """The oldest TLS version that is spoken."""

    bind_dn: str = ""
    """The search account; with Active Directory its userPrincipalName will do."""

    bind_password: OptionalSecret = None
    """The search account's password (or `bind_password_file`)."""

    base: Annotated[str, StringConstraints(min_length=1)]
    """Where users are searched, like `dc=corp,dc=example`."""

    realms: list[Realm] = []
    """Its realms: `corp.example` of alice@corp.example, `corp` of CORP\\alice."""

    lookup: list[Annotated[Attribute, StringConstraints(min_length=1)]] = []
    """Attributes that a user's name is looked up in; none of those that users change themselves."""

    filter: LdapFilter = ""
    """Which entries are users, like `(objectClass=person)`; default by preset."""

    id_attribute: Attribute = ""
    """What never changes of an entry; by preset objectGUID, entryUUID ...; `dn` is its name."""

    name_attribute: Attribute = ""
    """What people call the user; default by preset."""

    groups: Literal["", "none", "in-chain", "member-of", "search"] = ""
    """How groups are found: by AD's matching rule, memberOf, or level by level; by preset."""

    group_base: str = ""
    """Where groups are searched; default `base`."""

    group_member_attribute: Attribute = "member"
    """The attribute of a group that names its members."""

    group_depth: Annotated[int, Field(ge=1, le=20)] = 5
    """How many levels of nested groups `search` looks at."""

    timeout_seconds: Annotated[float, Field(ge=0.1, le=10)] = 1.5
    """After this an operation has failed; well below radius.login_deadline_seconds."""

    pool_size: Annotated[int, Field(ge=1, le=64)] = 32
    """Connections to each server for searches, and as many for binds."""

    lookup_cache_seconds: Annotated[float, Field(ge=0, le=3_600)] = 60.0
    """How long it is kept who a name stands for, and in which groups; in memory only."""


def _distinct_directories(directories: list[LdapDirectorySettings]) -> list[LdapDirectorySettings]:
    names = [one.name for one in directories]
    for name in names:
        if name == "local" or names.count(name) > 1:
            raise ValueError(f"{name} is the name of another directory too")
    return directories


class DirectorySettings(Section):
    """Where passwords live."""

    local: LocalDirectorySettings = LocalDirectorySettings()
    """Passwords kept by this server itself."""

    ldap: Annotated[list[LdapDirectorySettings], AfterValidator(_distinct_directories)] = []
    """LDAP directories; a name without a realm is looked up in this order."""


class TotpSettings(Section):
    """One-time codes: the window, and what new devices get."""

    lookback_steps: Annotated[int, Field(ge=0, le=MAX_LOOK_STEPS)] = 1
    """Time steps before the present one whose codes are accepted."""

    lookforward_steps: Annotated[int, Field(ge=0, le=MAX_LOOK_STEPS)] = 1
    """Time steps after the present one whose codes are accepted."""

    issuer: Annotated[str, StringConstraints(pattern=ISSUER_PATTERN)] = "radius-mfa"
    """What authenticator apps show beside the user's name."""

    algorithm: Annotated[Algorithm, BeforeValidator(_upper)] = Algorithm.SHA1
    """Hash of new devices: SHA1 (any app), SHA256 or SHA512."""

    digits: Literal[6, 8] = 6
    """Length of the codes of new devices."""

    time_step_seconds: Literal[30, 60] = 30
    """How long a code of a new device is shown."""


class ChallengeSettings(Section):
    """How users are asked for the code after their password."""

    lifetime_seconds: Annotated[int, Field(ge=10, le=600)] = 120
    """How long the answer may take; then the login starts again."""

    tries: Annotated[int, Field(ge=1, le=10)] = 3
    """Codes that may be tried after one right password; each wrong one counts as a failure."""

    texts: dict[str, ChallengeText] = {}
    """What asks for the code, by language; in de, en, es, fr, it, nl, pl and pt there is one."""


class LockoutSettings(Section):
    """When failures lock, and for how long."""

    failures_by_source: Annotated[int, Field(ge=0, le=100)] = 5
    """Failures of a user from one client and Calling-Station-Id that lock them there; 0 is off."""

    failures_by_user: Annotated[int, Field(ge=0, le=100)] = 20
    """Failures of a user from anywhere that lock them everywhere; 0 is off."""

    window_seconds: Annotated[int, Field(ge=10, le=86_400)] = 900
    """After this the counting starts again."""

    lock_seconds: Annotated[int, Field(ge=0, le=86_400)] = 900
    """How long the first lock lasts; each further one lasts twice as long. 0: until unlocked."""

    max_lock_seconds: Annotated[int, Field(ge=0, le=604_800)] = 14_400
    """The longest that a lock lasts."""

    count: Annotated[list[Factor], Field(min_length=1)] = [Factor.PASSWORD, Factor.CODE]
    """Which wrong factor counts: password, code, or both."""


class KeyRingSettings(Section):
    """The key that encrypts seeds at rest."""

    file: OptionalFile = None
    """The key ring file; default `keyring` in the data folder."""


class LogSettings(Section):
    """The auth log."""

    format: Literal["console", "json"] = "console"
    """`console` for people, `json` (one object a line) for machines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe lines that are written. No level ever shows a secret."""

    file: OptionalFile = None
    """A file to append to; default standard error. SIGHUP opens it again."""


class EventSettings(Section):
    """What is kept of logins, for `radius-mfa tail` and `radius-mfa explain`, beside the log."""

    keep: Annotated[int, Field(ge=1_000, le=1_000_000)] = 10_000
    """How many events of all nodes Redis holds; 1,000 take about half a MiB."""

    history_days: Annotated[int, Field(ge=0, le=3_650)] = 90
    """How long the database holds the history of logins; 0 keeps none."""


class MetricsSettings(Section):
    """Metrics for Prometheus."""

    listen: OptionalEndpoint = None
    """Address and port of /metrics; none by default."""


class PortalSettings(Section):
    """The web portal, in which users set up their second factor: `radius-mfa portal`."""

    enabled: bool = True
    """false keeps `radius-mfa portal` from running."""

    listen: PortalEndpoint = f"127.0.0.1:{PORTAL_PORT}"
    """Address and TCP port to serve."""

    base_url: BaseUrl = ""
    """Where browsers find it, like https://mfa.corp.example; default: this machine's loopback."""

    certificate_file: OptionalFile = None
    """The certificate of TLS and its chain, in PEM; without it a proxy in front speaks TLS."""

    certificate_key_file: OptionalFile = None
    """The private key of the certificate, in PEM."""

    trusted_proxies: Annotated[
        list[NetworkText], BeforeValidator(_as_list, json_schema_input_type=str | list[str])
    ] = []
    """Addresses or networks of proxies, whose X-Forwarded-For is believed."""

    session_idle_seconds: Annotated[int, Field(ge=60, le=86_400)] = 900
    """A session ends after so long without a click."""

    session_seconds: Annotated[int, Field(ge=300, le=604_800)] = 28_800
    """A session ends so long after the sign-in, whatever is clicked."""

    sign_ins_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 60
    """Sign-ins, first and second steps alike, that one address may try in a minute."""


class MailSettings(Section):
    """Mails to users about their second factor; see docs/mail.md."""

    host: HeaderText = ""
    """The mail server. Empty: no mails."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Its port; 0 is 587 with `starttls`, 465 with `tls`, 25 with `none`."""

    tls: Literal["starttls", "tls", "none"] = "starttls"
    """How mails are encrypted on the way there; without it nothing is sent."""

    ca_file: OptionalFile = None
    """Certificates to trust, in PEM; default: those that the system trusts."""

    verify_certificate: bool = True
    """Refuse a server whose certificate is not valid for `host`."""

    accept_risk: bool = False
    """Allow tls = none to another machine: mails can be read, and forged, on the way."""

    username: HeaderText = ""
    """The account to log in with; empty for none."""

    password: OptionalSecret = None
    """Its password (or `password_file`)."""

    from_address: MailAddress = ""
    """From whom mails come; needed with `host`."""

    from_name: HeaderText = ""
    """What mails call their sender; default `totp.issuer`."""

    reply_to: MailAddress = ""
    """Where replies go; default `from_address`."""

    timeout_seconds: Annotated[float, Field(ge=0.5, le=120)] = 15.0
    """After this an answer of the mail server comes too late."""

    retry_hours: Annotated[float, Field(ge=0.01, le=720)] = 72.0
    """For how long a mail that can't be sent is tried again."""

    template_folder: OptionalFile = None
    """A folder with texts in place of ours; see docs/mail.md."""


class Settings(Section):
    """Everything that can be set."""

    data_folder: FilePath = DEFAULT_DATA_FOLDER
    """Where the embedded Redis, the SQLite database and the key ring live."""

    allow_core_dumps: bool = False
    """Let the memory of a server that dies be written to a file, with every secret in it."""

    time_zone: TimeZone = "UTC"
    """Where the hours of rules are at home, like `Europe/Berlin`."""

    radius: RadiusSettings = RadiusSettings()
    radsec: RadsecSettings = RadsecSettings()
    client: list[ClientSettings] = []
    rule: list[RuleSettings] = []
    redis: RedisSettings = RedisSettings()
    database: DatabaseSettings = DatabaseSettings()
    directory: DirectorySettings = DirectorySettings()
    totp: TotpSettings = TotpSettings()
    challenge: ChallengeSettings = ChallengeSettings()
    lockout: LockoutSettings = LockoutSettings()
    keyring: KeyRingSettings = KeyRingSettings()
    log: LogSettings = LogSettings()
    events: EventSettings = EventSettings()
    metrics: MetricsSettings = MetricsSettings()
    portal: PortalSettings = PortalSettings()
    mail: MailSettings = MailSettings()

    @property
    def key_ring_file(self) -> Path:
        """The key ring file in force."""
        return self.keyring.file or self.data_folder / "keyring"

    @property
    def database_url(self) -> URL:
        """The URL for SQLAlchemy, with the driver of ours and the password in it."""
        text = self.database.url.get_secret_value()
        if text == EMBEDDED:
            return URL.create("sqlite+aiosqlite", database=str(self.data_folder / "radius-mfa.db"))
        url = make_url(text)
        url = url.set(drivername=ASYNC_DRIVERS[url.get_backend_name()])
        if "sslmode" in url.query:  # libpq's name; asyncpg has another one
            sslmode = url.query["sslmode"]
            url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": sslmode})
        if self.database.password is not None:
            url = url.set(password=self.database.password.get_secret_value())
        return url
