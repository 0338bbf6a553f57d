"""Settings from the environment: ``RADIUS_MFA_REDIS__URL`` is ``url`` of ``[redis]``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from radius_mfa.config import Settings
from radius_mfa.config_words import (
    FILE_SUFFIX,
    Fault,
    Table,
    example_of_list,
    field_at,
    fields_in,
    leaves,
    nearest_variable,
    scalar,
    section_of,
)
from radius_mfa.toml_lines import Location

PREFIX = "RADIUS_MFA_"
DELIMITER = "__"

PATH_VARIABLE = "RADIUS_MFA_CONFIG"
"""The environment variable that names the configuration file; it is not a setting itself."""


class _Environment(Settings, BaseSettings):  # type: ignore[misc]  # the two configs agree
    """The settings once more, for pydantic-settings to read the environment by."""


class Environment:
    """What the environment sets: as a table, and which variable sets what."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read *environ*; of two variables the one with the longer name wins."""
        self.table: Table = {}
        self.faults: list[Fault] = []
        self._variables: dict[Location, str] = {}
        for name in sorted(environ, key=lambda name: (name.count(DELIMITER), name)):
            if name.upper().startswith(PREFIX) and name.upper() != PATH_VARIABLE:
                self.table = merged(self.table, self._from_variable(name, environ[name]))

    def place_of(self, location: Location) -> str | None:
        """Return the variable that sets *location*, or None where the file does."""
        if not _reaches(self.table, location):
            return None
        for length in range(len(location), 0, -1):
            if location[:length] in self._variables:
                return _place(self._variables[location[:length]])
        within = (name for at, name in self._variables.items() if at[: len(location)] == location)
        return _place(next(within))

    def cure_of(self, location: Location) -> str | None:
        """Return what to do with a variable that sets *location*, which does not exist."""
        name = self._variables.get(location)
        return None if name is None else _cure_of(name)

    def _from_variable(self, name: str, value: str) -> Table:
        words = name.upper().removeprefix(PREFIX).lower().split(DELIMITER)
        location: Location = tuple(words)
        self._variables[location] = name
        if location[0] not in Settings.model_fields:
            self._faulty_variable(name, "there is no such setting", _cure_of(name))
            return {}
        source = EnvSettingsSource(_Environment, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)
        source.env_vars = {name.lower(): value}
        try:
            value.encode()
            table = source()
        except UnicodeEncodeError:
            self._faulty_variable(name, "is not UTF-8 text")
            return {}
        except SettingsError:
            self._faulty_variable(name, "must be JSON", _json_cure(location))
            return {}
        for inner, _, key, field in fields_in(Settings, table, ()):
            if isinstance(inner.get(key), str) and not _takes_text(field):
                inner[key] = scalar(inner[key])
        return table

    def _faulty_variable(self, name: str, message: str, cure: str = "") -> None:
        self.faults.append(Fault(_place(name), "", message, cure))


def variable(location: Location) -> str:
    """Return the name of the variable that sets *location*."""
    return PREFIX + DELIMITER.join(str(step).upper() for step in location)


def _place(name: str) -> str:
    return f"environment variable {name}"


def _cure_of(name: str) -> str:
    if _OF_KUBERNETES.match(name):
        return (
            "Kubernetes sets it for a service named radius-mfa: "
            "enableServiceLinks: false in the pod's spec"
        )
    return nearest_variable(name, variable)


def _json_cure(location: Location) -> str:
    field = field_at(location)
    if field is None or section_of(field) is not None:
        return 'tables are written {"name": "value"}, lists of them [{"name": "value"}]'
    return f"write {example_of_list(field)}"


_OF_KUBERNETES = re.compile(r"RADIUS_MFA_(SERVICE_(HOST|PORT)|PORT)(_|\Z)")


def _reaches(node: Any, location: Location) -> bool:  # noqa: ANN401 - JSON
    """Return whether *node* decides *location*: lists do as a whole, tables by what they hold."""
    for step in location:
        if isinstance(node, list):
            return True
        if not isinstance(node, dict) or step not in node:
            return False
        node = node[step]
    return True


def merged(table: Table, over: Table) -> Table:
    """Return *table* with what *over* sets; a secret and the file of it take each other's place."""
    result = dict(table)
    for name, value in over.items():
        for twin in (name + FILE_SUFFIX, name.removesuffix(FILE_SUFFIX)):
            if twin != name:
                result.pop(twin, None)
        mergeable = isinstance(result.get(name), dict) and isinstance(value, dict)
        result[name] = merged(result[name], value) if mergeable else value
    return result


def _takes_text(field: FieldInfo) -> bool:
    return any(
        isinstance(leaf, str)
        or (isinstance(leaf, type) and issubclass(leaf, (str, Path, SecretStr)))
        for leaf in leaves(field.annotation)
    )
