"""Settings from TOML, the environment and secret files; every fault with its place and cure.

The environment wins over the file: ``RADIUS_MFA_REDIS__URL`` is ``url`` of ``[redis]``, lists are
JSON. A secret may stand in a file of its own: ``secret_file`` in place of ``secret``.
"""

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from radius_mfa import policy_setup
from radius_mfa.config import (
    EXAMPLE_SECRET,
    LOOPBACK_NAMES,
    SHORT_SECRET_OCTETS,
    Settings,
    network,
    wide,
    without_full_prefix,
)
from radius_mfa.config_environment import PATH_VARIABLE, Environment, merged
from radius_mfa.config_words import (
    FILE_SUFFIX,
    Fault,
    Table,
    dotted,
    fields_in,
    holds,
    in_words,
    setting_part,
)
from radius_mfa.errors import ConfigurationError
from radius_mfa.policy.access import Mode
from radius_mfa.policy.challenge import TEXTS
from radius_mfa.policy_setup import PolicyFault
from radius_mfa.toml_lines import Location, line_of, lines_by_location

DEFAULT_PATH = Path("/etc/radius-mfa/radius-mfa.toml")


class FaultyConfiguration(ConfigurationError):
    """The configuration has faults; all of them, at once, in the order of the file."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = sorted(faults, key=_line)
        super().__init__("\n".join(map(str, self.faults)))


def _line(fault: Fault) -> int:
    number = fault.place.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Configuration:
    """Valid settings, the file they come from, and what is legal but unwise in them."""

    path: Path
    settings: Settings
    warnings: list[Fault]


def configuration_path(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the configuration file to use, absolute: given, from the environment, or the default.

    Paths in it are rooted where it lies, whatever folder a process goes to.
    """
    return (given or Path(environ.get(PATH_VARIABLE) or DEFAULT_PATH)).absolute()


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Return the settings in *path* and *environ*; raises ConfigurationError."""
    source = _Source(path, environ)
    details: list[ErrorDetails] = []
    settings = Settings()
    try:
        # JSON, for in it pydantic can be strict and still take text for a path or a choice
        settings = Settings.model_validate_json(json.dumps(source.merged, default=str), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
    faults = [
        *source.faults,
        *source.faults_of(details),
        *source.clashes(),
        *source.untold(),
        *source.risks(),
        *source.mail_faults(),
        *source.radsec_faults(),
    ]
    if not details:
        faults += map(source.fault_of_policy, policy_setup.faults(settings))
    if faults:
        raise FaultyConfiguration(faults)
    return Configuration(path, settings, list(source.warnings(settings)))


class _Source:
    """The raw settings, and where each comes from."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self._unread: set[Location] = set()  # secrets that are at fault already
        self._from_file: dict[Location, str] = {}
        self._text = self._read()
        table = self._toml()
        self._lines = lines_by_location(self._text)
        self._environment = Environment(environ)
        self.faults = list(self._environment.faults)
        self.merged = merged(table, deepcopy(self._environment.table))
        self._resolve_files()

    def _read(self) -> str:
        try:
            return self.path.read_text("utf-8")
        except FileNotFoundError:
            raise ConfigurationError(
                f"there is no configuration file {self.path}",
                f"make one: radius-mfa --config {self.path} init",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"the configuration file {self.path} can't be read: {_why(error)}",
                "let this user read it, or name another one with --config",
            ) from None

    def _toml(self) -> Table:
        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise FaultyConfiguration([self._not_toml(error)]) from None

    def _not_toml(self, error: tomllib.TOMLDecodeError) -> Fault:
        if self._text.startswith("\ufeff"):
            return Fault(
                f"{self.path}:1", "", "begins with a byte order mark", "save it as plain UTF-8"
            )
        what, _, place = str(error).partition(" (at ")
        found = re.search(r"line (\d+)", place)
        number = int(found[1]) if found else len(self._text.splitlines())
        what = re.sub(r"\('(.*?)',?\)", lambda m: f"[{m[1].replace(_TUPLE, '.')}]", what)
        return Fault(f"{self.path}:{number}", "", f"not TOML: {_lower(what)}", _toml_cure(what))

    def _resolve_files(self) -> None:
        """Read secrets from the files that stand in their place; root relative paths."""
        for table, location, name, field in fields_in(Settings, self.merged, ()):
            if holds(field, SecretStr) and name + FILE_SUFFIX in table:
                self._read_secret(table, (*location, name), name)
            elif holds(field, Path) and table.get(name) and isinstance(table[name], str):
                table[name] = str(self._rooted(table[name]))

    def _rooted(self, path: str) -> Path:
        try:
            return self.path.parent / Path(path).expanduser()
        except RuntimeError:  # a user who does not exist
            return self.path.parent / path

    def _read_secret(self, table: Table, location: Location, name: str) -> None:
        setting = (*location[:-1], name + FILE_SUFFIX)
        file = table.pop(name + FILE_SUFFIX)
        try:
            if name in table:
                raise ValueError(f"{name} is set as well: remove one of the two")  # noqa: TRY301
            table[name] = self._secret_in(file)
        except ValueError as error:
            self.faults.append(self.fault(setting, str(error)))
            self._unread.add(location)
            table.setdefault(name, "unread")
        else:
            self._from_file[location] = str(file)

    def _secret_in(self, file: object) -> str:
        if not isinstance(file, str) or not file:
            raise ValueError("must be the path of a file, in quotes")
        try:
            secret = self._rooted(file).read_text("utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise ValueError(f"{file} can't be read: {_why(error)}") from None
        if "\n" in secret:
            raise ValueError(f"{file} holds more than one line")
        return secret

    def faults_of(self, details: list[ErrorDetails]) -> Iterator[Fault]:
        """Yield the faults that pydantic found."""
        for detail in details:
            location = setting_part(detail["loc"])
            message, cure = in_words(detail)
            if detail["type"] == "extra_forbidden":
                cure = self._environment.cure_of(location) or cure
            if location in self._from_file:
                file = self._from_file[location]
                setting = (*location[:-1], f"{location[-1]}{FILE_SUFFIX}")
                yield self.fault(setting, f"{message} (in {file})", cure)
            elif location not in self._unread:
                yield self.fault(location, message, cure)

    def clashes(self) -> Iterator[Fault]:
        """Yield names, networks and names of certificates that stand twice."""
        seen: dict[str, int] = {}
        clients = self.merged.get("client")
        for index, client in enumerate(clients if isinstance(clients, list) else []):
            if not isinstance(client, dict):
                continue
            name = client.get("name")
            if isinstance(name, str) and seen.setdefault(f"name {name}", index) != index:
                yield self.fault(
                    ("client", index, "name"),
                    f"{name} is the name of another client too",
                    f"give this one another name; see {self._shown_place(seen[f'name {name}'])}",
                )
            for position, text in _networks(client.get("address")):
                first = seen.setdefault(f"network {text}", index)
                if first != index or position:
                    yield self.fault(
                        ("client", index, "address"),
                        f"{without_full_prefix(text)} stands twice: see {self._shown_place(first)}",
                        "remove one; a smaller network inside a larger one is fine",
                    )
            for text in _texts(client.get("certificate_name")):
                first = seen.setdefault(f"certificate {text.lower()}", index)
                if first != index:
                    yield self.fault(
                        ("client", index, "certificate_name"),
                        f"{text} stands twice: see {self._shown_place(first)}",
                        "remove one",
                    )

    def untold(self) -> Iterator[Fault]:
        """Yield clients in whose language there is no text."""
        clients, section = self.merged.get("client"), self.merged.get("challenge")
        own = section.get("texts") if isinstance(section, dict) else None
        known = sorted({*TEXTS, *(own if isinstance(own, dict) else ())})
        for index, client in enumerate(clients if isinstance(clients, list) else []):
            language = client.get("language") if isinstance(client, dict) else None
            if isinstance(language, str) and language not in known:
                yield self.fault(
                    ("client", index, "language"),
                    f"there is no text in {language!r}, only in {', '.join(known)}",
                    "write one below [challenge.texts]",
                )

    def risks(self) -> Iterator[Fault]:
        """Yield clients that would let a wide network in with the password alone."""
        clients = self.merged.get("client")
        for index, client in enumerate(clients if isinstance(clients, list) else []):
            if not isinstance(client, dict) or client.get("mfa") != Mode.OFF:
                continue
            for _, text in _networks(client.get("address")):
                if wide(text) and client.get("accept_risk") is not True:
                    yield self.fault(
                        ("client", index, "mfa"),
                        f'"off" would let all of {text} in with the password alone',
                        "name the gateways' own addresses; or, if that is right: "
                        "accept_risk = true",
                    )

    def radsec_faults(self) -> Iterator[Fault]:
        """Yield the files that TLS needs and that are not named."""
        radsec = self.merged.get("radsec")
        if not isinstance(radsec, dict) or not radsec.get("listen"):
            return
        for name in ("certificate_file", "certificate_key_file", "client_ca_file"):
            if not radsec.get(name):
                yield self.fault(("radsec", name), "is missing", f"set {name}")

    def mail_faults(self) -> Iterator[Fault]:
        """Yield what is missing in ``[mail]``, and what would send mails in the clear."""
        mail = self.merged.get("mail")
        if not isinstance(mail, dict) or not mail.get("host"):
            return
        if not mail.get("from_address"):
            yield self.fault(
                ("mail", "host"), "mails need a sender", 'set mail.from_address = "vpn@..."'
            )
        if bool(mail.get("username")) != bool(mail.get("password")):
            yield self.fault(
                ("mail", "username" if mail.get("username") else "password"),
                "a login takes a username and a password",
                "set both, or neither",
            )
        open_way = mail.get("tls") == "none" and mail.get("accept_risk") is not True
        if open_way and mail["host"] not in LOOPBACK_NAMES:
            yield self.fault(
                ("mail", "tls"),
                '"none" would send mails, and the password, in the clear to another machine',
                'set tls = "starttls" or "tls"; or, if that is right: accept_risk = true',
            )

    def _shown_place(self, index: int) -> str:
        return self.place_of(("client", index)).rpartition("/")[2]

    def warnings(self, settings: Settings) -> Iterator[Fault]:
        """Yield what is legal but unwise."""
        for index, client in enumerate(settings.client):
            if client.certificate_name and not settings.radsec.listen:
                yield self.fault(
                    ("client", index, "certificate_name"),
                    "is of no use: nothing is served over TLS",
                    "set radsec.listen",
                )
            unwise = _unwise_secret(client.secret.get_secret_value()) if client.address else ""
            if unwise:
                cure = "radius-mfa client add makes secrets of 32 random characters"
                yield self.fault(("client", index, "secret"), unwise, cure)
            for address in client.address:
                if ip_network(address).prefixlen == 0:
                    yield self.fault(
                        ("client", index, "address"),
                        f"{address} lets the whole Internet ask",
                        "name the networks of your gateways",
                    )
        if settings.lockout.failures_by_source == settings.lockout.failures_by_user == 0:
            yield self.fault(
                ("lockout", "failures_by_user"),
                "nothing slows down guessing until 100 failures in a row",
                "set failures_by_source, failures_by_user or both",
            )
        yield from self._slow_directories(settings)
        yield from map(self.fault_of_policy, policy_setup.warnings(settings))
        yield from self._exposed_secrets()

    def _slow_directories(self, settings: Settings) -> Iterator[Fault]:
        """Yield directories whose silence would end the login before anything is done about it."""
        deadline = settings.radius.login_deadline_seconds
        for index, directory in enumerate(settings.directory.ldap):
            tries = min(len(directory.servers), 2)
            if tries * directory.timeout_seconds < deadline:
                continue
            what = "two servers one after the other take" if tries > 1 else "a server takes"
            yield self.fault(
                ("directory", "ldap", index, "timeout_seconds"),
                f"{what} up to {tries * directory.timeout_seconds:g} s, and a login has "
                f"{deadline:g} s (radius.login_deadline_seconds)",
                f"stay below {deadline / tries:g}",
            )

    def _exposed_secrets(self) -> Iterator[Fault]:
        written = [
            location
            for table, location, name, field in fields_in(Settings, self.merged, ())
            if holds(field, SecretStr)
            and name in table
            and (*location, name) in self._lines
            and name != "url"
        ]
        if written and self.path.stat().st_mode & stat.S_IROTH:
            yield Fault(
                str(self.path),
                "",
                "holds secrets, and every user of this machine can read it",
                f"chmod o= {self.path}",
            )

    def fault(self, location: Location, message: str, cure: str = "") -> Fault:
        """Return a fault of the setting at *location*."""
        return Fault(self.place_of(location), dotted(location), message, cure)

    def fault_of_policy(self, found: PolicyFault) -> Fault:
        """Return what the policy found as a fault of the file."""
        return self.fault(found.location, found.message, found.cure)

    def place_of(self, location: Location) -> str:
        """Return the file and line, or the environment variable, that sets *location*."""
        in_file = f"{self.path}:{line_of(self._lines, location)}"
        return self._environment.place_of(location) or in_file


def _texts(value: object) -> list[str]:
    """Return the texts in *value*, one or a list of them; the field's own check minds the rest."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def _networks(addresses: object) -> Iterator[tuple[int, str]]:
    """Yield the networks in *addresses*, each with how often it stood there before."""
    seen: list[str] = []
    for address in addresses if isinstance(addresses, list) else [addresses]:
        try:
            found = network(str(address))
        except ValueError:
            continue  # the field's own check says what is wrong with it
        yield seen.count(found), found
        seen.append(found)


def _unwise_secret(secret: str) -> str:
    if secret == EXAMPLE_SECRET:
        return "everyone knows the secret of the example"
    octets = len(secret.encode())
    if octets < SHORT_SECRET_OCTETS:
        return f"{octets} octets can be guessed from a captured packet: use 16 or more"
    return ""


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "unreadable"


_TUPLE = "', '"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _toml_cure(what: str) -> str:
    if what.startswith(("Invalid value", "Expected newline")):
        return 'text stands in quotes: name = "value"'
    if "twice" in what or "overwrite" in what:
        return "put the two together"
    return "see https://toml.io"
