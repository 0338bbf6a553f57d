"""Settings from TOML, the environment and secret files; every fault with its place and cure.

The environment wins over the file: ``RADIUS_MFA_REDIS__URL`` is ``url`` of ``[redis]``, lists are
JSON. A secret may stand in a file of its own: ``secret_file`` in place of ``secret``.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args

import tomlkit
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from radius_mfa.config import SHORT_SECRET_OCTETS, Settings
from radius_mfa.errors import ConfigurationError

ENVIRONMENT_PREFIX = "RADIUS_MFA_"
DELIMITER = "__"

PATH_VARIABLE = "RADIUS_MFA_CONFIG"
"""The environment variable that names the configuration file; it is not a setting itself."""

DEFAULT_PATH = Path("/etc/radius-mfa/radius-mfa.toml")

FILE_SUFFIX = "_file"

Location = tuple[str | int, ...]
Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: where, which setting, what, and the cure."""

    place: str
    setting: str
    message: str
    cure: str = ""

    def __str__(self) -> str:
        """Return the fault as one line."""
        setting = f"{self.setting}: " if self.setting else ""
        cure = f" ({self.cure})" if self.cure else ""
        return f"{self.place}: {setting}{self.message}{cure}"


class FaultyConfiguration(ConfigurationError):
    """The configuration has faults; all of them, at once."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Configuration:
    """Valid settings, the file they come from, and what is legal but unwise in them."""

    path: Path
    settings: Settings
    warnings: list[Fault]


def configuration_path(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the configuration file to use: given, from the environment, or the default."""
    return given or Path(environ.get(PATH_VARIABLE, DEFAULT_PATH))


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Return the settings in *path* and *environ*; raises FaultyConfiguration."""
    source = _Source(path, environ)
    try:
        settings = Settings.model_validate(source.merged)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise FaultyConfiguration(
            [*source.faults, *map(source.fault_of, details), *source.clashes()]
        ) from None
    faults = [*source.faults, *source.clashes()]
    if faults:
        raise FaultyConfiguration(faults)
    return Configuration(path, settings, list(_warnings(source, settings)))


class _Environment(Settings, BaseSettings):  # type: ignore[misc]  # the two configs agree
    """The settings once more, for pydantic-settings to read the environment by."""


class _Source:
    """The raw settings, and where each comes from."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self.faults: list[Fault] = []
        self._text = self._read()
        table = self._toml()
        self._environment = self._from_environment(environ)
        self.merged = _merged(table, self._environment)
        self._resolve_files()

    def _read(self) -> str:
        try:
            return self.path.read_text("utf-8")
        except FileNotFoundError:
            raise ConfigurationError(
                f"there is no configuration file {self.path}",
                f"make one: radius-mfa init --config {self.path}",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigurationError(
                f"the configuration file {self.path} can't be read: {why}"
            ) from None

    def _toml(self) -> Table:
        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            what, _, place = str(error).partition(" (at ")
            line = re.search(r"line (\d+)", place)
            number = line[1] if line else str(self._text.count("\n") + 1)
            raise FaultyConfiguration(
                [Fault(f"{self.path}:{number}", "", f"not TOML: {what}", "see https://toml.io")]
            ) from None

    def _from_environment(self, environ: Mapping[str, str]) -> Table:
        relevant = {
            name.upper(): value
            for name, value in environ.items()
            if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() != PATH_VARIABLE
        }
        for name in relevant:
            section = name.removeprefix(ENVIRONMENT_PREFIX).partition(DELIMITER)[0].lower()
            if section not in Settings.model_fields:
                self.faults.append(
                    Fault(
                        f"environment variable {name}",
                        "",
                        "not a setting",
                        _nearest(section, Settings),
                    )
                )
        source = EnvSettingsSource(
            _Environment, env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter=DELIMITER
        )
        source.env_vars = {name.lower(): value for name, value in relevant.items()}
        try:
            return source()
        except SettingsError:
            self.faults.append(
                Fault("environment", "", "a list or a table is not JSON", "write lists as JSON")
            )
            return {}

    def _resolve_files(self) -> None:
        """Read secrets from the files that stand in their place; root relative paths."""
        for table, location, name, field in _fields(Settings, self.merged, ()):
            if _holds(field, SecretStr) and name + FILE_SUFFIX in table:
                self._read_secret(table, location, name)
            elif _holds(field, Path) and isinstance(table.get(name), str):
                table[name] = str(self.path.parent / Path(table[name]).expanduser())

    def _read_secret(self, table: Table, location: Location, name: str) -> None:
        setting = (*location, name + FILE_SUFFIX)
        file = table.pop(name + FILE_SUFFIX)
        if name in table:
            self.faults.append(
                self.fault(setting, f"{name} is set as well", "remove one of the two")
            )
            return
        table[name] = ""  # so that it does not count as missing too
        if not isinstance(file, str):
            self.faults.append(self.fault(setting, "must be the path of a file, in quotes"))
            return
        try:
            secret = (self.path.parent / Path(file).expanduser()).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            self.faults.append(self.fault(setting, f"{file} can't be read: {why}"))
            del table[name]
            if _required(location, name):
                table[name] = "unread"
            return
        table[name] = secret.rstrip("\r\n")

    def fault_of(self, detail: ErrorDetails) -> Fault:
        """Return the fault that pydantic found, in an operator's words."""
        location = _settings_part(detail["loc"])
        kind, message = detail["type"], detail["msg"]
        model = _model_at(location[:-1])
        if kind == "extra_forbidden":
            return self.fault(location, "not a setting", _nearest(str(location[-1]), model))
        if kind == "missing":
            file = model.model_fields.get(str(location[-1])) if model else None
            also = f" (or {location[-1]}{FILE_SUFFIX})" if file and _holds(file, SecretStr) else ""
            return self.fault(location, f"missing{also}")
        return self.fault(location, message.removeprefix("Value error, "))

    def clashes(self) -> Iterator[Fault]:
        """Yield names and networks that two clients share."""
        seen: dict[tuple[str, str], str] = {}
        clients = self.merged.get("client")
        for index, client in enumerate(clients if isinstance(clients, list) else []):
            if not isinstance(client, dict):
                continue
            name = str(client.get("name", f"number {index + 1}"))
            for kind, key, values in (
                ("name", "name", [client.get("name")]),
                ("network", "address", _networks(client.get("address"))),
            ):
                for value in filter(None, values):
                    other = seen.setdefault((kind, str(value)), name)
                    if other is not name:
                        yield self.fault(
                            ("client", index, key),
                            f"the {kind} {value} stands twice: in {other} and in {name}",
                            "each may stand once; a longer prefix inside a network is fine",
                        )

    def fault(self, location: Location, message: str, cure: str = "") -> Fault:
        """Return a fault of the setting at *location*."""
        return Fault(self.place_of(location), dotted(location), message, cure)

    def place_of(self, location: Location) -> str:
        """Return the file and line, or the environment variable, that sets *location*."""
        node: Any = self._environment
        for step in location:
            if not isinstance(node, dict) or step not in node:
                break
            node = node[step]
        else:
            return (
                "environment variable "
                + ENVIRONMENT_PREFIX
                + DELIMITER.join(str(step).upper() for step in location)
            )
        return f"{self.path}:{line_of(self._text, location)}"


_HEADER = re.compile(r"^\s*\[(?P<double>\[)?\s*(?P<name>[^\[\]#]+?)\s*\](?(double)\])")
_KEY = re.compile(r"^\s*(?P<key>[A-Za-z0-9_\-.\"' ]+?)\s*=")


def line_of(text: str, location: Location) -> int:
    """Return the line (from 1) of *text*, TOML, that sets *location*, or its nearest table."""
    best, best_depth = 1, 0
    table: Location = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        found: Location | None = None
        if header := _HEADER.match(line):
            steps = _steps(header["name"])
            if header["double"]:
                key = ".".join(steps)
                counts[key] = counts.get(key, -1) + 1
                table = (*steps, counts[key])
            else:
                table = steps
            found = table
        elif key_match := _KEY.match(line):
            found = (*table, *_steps(key_match["key"]))
        if found is not None and len(found) > best_depth and location[: len(found)] == found:
            best, best_depth = number, len(found)
    return best


def dotted(location: Location) -> str:
    """Return a location as an operator writes it, like ``client[2].secret`` (from 1)."""
    text = ""
    for step in location:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _steps(name: str) -> tuple[str, ...]:
    return tuple(step.strip().strip("\"'") for step in name.split("."))


def _merged(table: Table, over: Table) -> Table:
    result = dict(table)
    for name, value in over.items():
        mergeable = isinstance(result.get(name), dict) and isinstance(value, dict)
        result[name] = _merged(result[name], value) if mergeable else value
    return result


def _fields(
    model: type[BaseModel], table: Table, location: Location
) -> Iterator[tuple[Table, Location, str, FieldInfo]]:
    """Yield every field of *model* and its sections, with the table that may set it."""
    for name, field in model.model_fields.items():
        section = _section(field)
        value = table.get(name)
        if section is None:
            yield table, location, name, field
        elif isinstance(value, dict):
            yield from _fields(section, value, (*location, name))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield from _fields(section, item, (*location, name, index))


def _section(field: FieldInfo) -> type[BaseModel] | None:
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _holds(field: FieldInfo, kind: type) -> bool:
    def inside(annotation: Any) -> bool:  # noqa: ANN401 - a type form
        return annotation is kind or any(map(inside, get_args(annotation)))

    return inside(field.annotation)


def _model_at(location: Location) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Settings
    for step in location:
        if isinstance(step, str) and model is not None:
            field = model.model_fields.get(step)
            model = _section(field) if field else None
    return model


def _settings_part(location: Location) -> Location:
    """Return *location* without what pydantic adds below a setting, like a union's member."""
    kept: Location = ()
    for step in location:
        model = _model_at(kept)
        kept = (*kept, step)
        if isinstance(step, str) and (model is None or step not in model.model_fields):
            break
        if isinstance(step, str) and _model_at(kept) is None:
            break
    return kept


def _required(location: Location, name: str) -> bool:
    model = _model_at(location)
    return model is not None and model.model_fields[name].is_required()


def _nearest(name: str, model: type[BaseModel] | None) -> str:
    known: list[str] = []
    for field_name, field in (model or Settings).model_fields.items():
        known.append(field_name)
        if _holds(field, SecretStr):
            known.append(field_name + FILE_SUFFIX)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def _networks(addresses: object) -> list[str]:
    found = []
    for address in addresses if isinstance(addresses, list) else [addresses]:
        try:
            found.append(str(ip_network(str(address))))
        except ValueError:
            continue  # the field's own check says what is wrong with it
    return found


def _warnings(source: _Source, settings: Settings) -> Iterator[Fault]:
    for index, client in enumerate(settings.client):
        octets = len(client.secret.get_secret_value().encode())
        if octets < SHORT_SECRET_OCTETS:
            yield source.fault(
                ("client", index, "secret"),
                f"{octets} octets are few: with 16 or more it can't be guessed from a packet",
                "radius-mfa client add makes one of 32",
            )


MASK = "***"


def masked(settings: Settings) -> Table:
    """Return the settings as plain values, without what is unset, secrets masked."""
    values: Table = settings.model_dump(mode="json", exclude_none=True)
    values["redis"]["url"] = _masked_url(settings.redis.url)
    values["database"]["url"] = _masked_url(settings.database.url)
    for table in (*values["client"], values["redis"], values["database"]):
        for name in ("secret", "password"):
            if name in table:
                table[name] = MASK
    return values


def _masked_url(url: SecretStr) -> str:
    return re.sub(
        r"(?<=://)(?P<user>[^@/:]*):[^@/]*@", rf"\g<user>:{MASK}@", url.get_secret_value()
    )


def toml_text(values: Table) -> str:
    """Return plain values as TOML."""
    return tomlkit.dumps(values)


def json_schema() -> Table:
    """Return the JSON Schema of the file, with the ``_file`` twin of every secret."""
    schema = Settings.model_json_schema()
    schema["title"] = "radius-mfa.toml"
    for definition in schema["$defs"].values():
        properties = definition.get("properties", {})
        for name in [n for n, p in properties.items() if _is_secret(p)]:
            file = name + FILE_SUFFIX
            properties[file] = {"type": "string", "description": f"File that holds the {name}."}
            if name in definition.get("required", []):
                definition["required"].remove(name)
                definition["oneOf"] = [{"required": [name]}, {"required": [file]}]
    return schema


def _is_secret(schema: Table) -> bool:
    return any(form.get("writeOnly") for form in (schema, *schema.get("anyOf", ())))
