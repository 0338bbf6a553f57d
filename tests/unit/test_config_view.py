"""What may be seen of the settings: secrets masked; and the schema that editors complete by."""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from radius_mfa.config import ClientSettings, Settings
from radius_mfa.config_file import FaultyConfiguration, load
from radius_mfa.config_view import json_schema, masked, masked_url, toml_text

CANARIES = ("canary-shared", "canary-redis", "canary-database")

SECRETIVE = Settings.model_validate(
    {
        "client": [{"name": "a", "address": "192.0.2.1", "secret": CANARIES[0]}],
        "redis": {"url": "redis://:canary-redis@h/0", "password": CANARIES[1]},
        "database": {"url": "postgresql://u:canary-database@h/n", "password": CANARIES[2]},
    }
)


@pytest.mark.parametrize(
    "render",
    [lambda s: json.dumps(masked(s)), lambda s: toml_text(masked(s)), repr, str],
    ids=["json", "toml", "repr", "str"],
)
def test_no_form_of_the_settings_shows_a_secret(render: Callable[[Settings], str]) -> None:
    """L01."""
    shown = render(SECRETIVE)
    assert "canary" not in shown
    assert "192.0.2.1" in shown


def test_what_is_shown_is_what_is_in_force() -> None:
    shown = tomllib.loads(toml_text(masked(SECRETIVE)))
    [client] = shown["client"]
    assert client["require_message_authenticator"] is True, "as in [radius]"
    assert client["status_server"] is True
    assert client["secret"] == "***"
    assert shown["redis"]["url"] == "redis://:***@h/0"
    assert shown["database"]["url"] == "postgresql://u:***@h/n"
    assert shown["keyring"]["file"] == "/var/lib/radius-mfa/keyring"
    assert shown["log"] == {"format": "console", "level": "info"}, "without what is unset"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("embedded", "embedded"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:canary@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:canary@host", "rediss://user:***@host"),
        ("redis://user:can@ry/canary@host/1", "redis://user:***@host/1"),
        ("unix://:canary@/run/redis.sock?db=1", "unix://:***@/run/redis.sock?db=1"),
        ("redis://host/0?password=canary&db=1", "redis://host/0?password=***&db=1"),
        ("rediss://h/0?db=1&ssl_keyfile_Password=canary", "rediss://h/0?db=1&ssl_keyfile_Password=***"),
        ("postgresql://user@host/name", "postgresql://user@host/name"),
        ("postgresql://user:canary@[::1]:5432/n?sslmode=require",
         "postgresql://user:***@[::1]:5432/n?sslmode=require"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked_url(SecretStr(url)) == shown


# The schema


def violations(schema: dict[str, Any], node: dict[str, Any], value: Any) -> Iterator[str]:
    """Yield how *value* breaks *node*; KeyError for a keyword of JSON Schema not known here."""
    if "type" in node and not TYPES[node["type"]](value):
        yield f"{value!r} is no {node['type']}"
        return
    for keyword, given in node.items():
        yield from KEYWORDS[keyword](schema, node, given, value)


def passes(schema: dict[str, Any], node: dict[str, Any], value: Any) -> bool:
    return not any(violations(schema, node, value))


def broken(rule: Callable[[Any, Any], bool]) -> Callable[..., Iterable[str]]:
    """Return a check that *rule*(given, value) does not hold."""

    def check(_schema: Any, _node: Any, given: Any, value: Any) -> Iterator[str]:
        if rule(given, value):
            yield f"{value!r} breaks {given!r}"

    return check


def of_properties(schema: Any, _node: Any, given: Any, value: Any) -> Iterator[str]:
    for name in given.keys() & (value if isinstance(value, dict) else {}):
        yield from violations(schema, given[name], value[name])


def of_others(_schema: Any, node: Any, _given: Any, value: Any) -> Iterator[str]:
    yield from (f"{name} is not known" for name in value if name not in node["properties"])


TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
}

KEYWORDS: dict[str, Callable[..., Iterable[str]]] = {
    **dict.fromkeys(
        ("$schema", "$defs", "title", "description", "default", "format", "type", "writeOnly"),
        broken(lambda _given, _value: False),
    ),
    "enum": broken(lambda given, value: value not in given),
    "minimum": broken(lambda given, value: value < given),
    "maximum": broken(lambda given, value: value > given),
    "minLength": broken(lambda given, value: len(value) < given),
    "maxLength": broken(lambda given, value: len(value) > given),
    "minItems": broken(lambda given, value: len(value) < given),
    "pattern": broken(lambda given, value: not re.search(given, value)),
    "required": broken(lambda given, value: not set(given) <= set(value)),
    "properties": of_properties,
    "additionalProperties": of_others,
    "items": lambda schema, _node, given, value: (
        fault for one in value for fault in violations(schema, given, one)
    ),
    "$ref": lambda schema, _node, given, value: violations(
        schema, schema["$defs"][given.removeprefix("#/$defs/")], value
    ),
    "not": lambda schema, _node, given, value: (
        ["matches what it must not"] if passes(schema, given, value) else []
    ),
    "allOf": lambda schema, _node, given, value: (
        fault for one in given for fault in violations(schema, one, value)
    ),
    "anyOf": lambda schema, _node, given, value: (
        [] if any(passes(schema, one, value) for one in given) else ["matches none"]
    ),
    "oneOf": lambda schema, _node, given, value: (
        [] if sum(passes(schema, one, value) for one in given) == 1 else ["not one of these"]
    ),
}

SCHEMA = json_schema()
DEFAULT = (Path(__file__).parents[2] / "config" / "radius-mfa.toml").read_text("utf-8")
CLIENT = '[[client]]\nname = "a"\naddress = "::1"\n'


def test_the_schema_is_of_the_draft_that_it_names_and_plain_json() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_the_schema_tells_defaults_and_hides_none() -> None:
    assert SCHEMA["$defs"]["RedisSettings"]["properties"]["url"]["default"] == "embedded"
    assert "**" not in json.dumps(SCHEMA)
    assert "null" not in json.dumps(SCHEMA), "TOML has none"


def test_the_schema_explains_every_setting() -> None:
    for definition in SCHEMA["$defs"].values():
        for name, one in definition.get("properties", {}).items():
            assert one.get("description") or "$ref" in one, name


GOOD = {
    "empty": "",
    "default": DEFAULT,
    "uncommented": re.sub(r"^#(?=[\[a-z])", "", DEFAULT, flags=re.MULTILINE),
    "secret": f'{CLIENT}secret = "0123456789abcdef"\n',
    "secret in a file": f'{CLIENT}secret_file = "s"\n',
    "a certificate alone": '[[client]]\nname = "a"\ncertificate_name = "vpn.corp"\n',
    "several addresses": '[[client]]\nname = "a"\naddress = ["::1", "::2"]\nsecret = "x"\n',
    "password in a file": '[redis]\npassword_file = "s"\n',
    "whole number for a number": "[radius]\nreject_delay_seconds = 1\n",
}

BAD = {
    "unknown at the top": "x = 1\n",
    "unknown in a section": "[radius]\nx = 1\n",
    "unknown section": "[directory.ldap]\n",
    "no secret": CLIENT,
    "secret twice": f'{CLIENT}secret = "x"\nsecret_file = "s"\n',
    "password twice": '[redis]\npassword = "x"\npassword_file = "s"\n',
    "no choice": "[totp]\ndigits = 7\n",
    "out of range": "[radius]\nreject_delay_seconds = 11\n",
    "not a number": '[radius]\nreject_delay_seconds = "1"\n',
    "truth for a number": "[lockout]\nfailures_by_user = true\n",
    "empty list": "[radius]\nlisten = []\n",
    "one client as a table": '[client]\nname = "a"\n',
    "a name of no form": '[[client]]\nname = "a b"\naddress = "::1"\nsecret = "x"\n',
}


@pytest.mark.parametrize("name", GOOD)
def test_the_schema_accepts_what_loads(name: str, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("0123456789abcdef", "utf-8")
    (tmp_path / "r.toml").write_text(GOOD[name], "utf-8")
    load(tmp_path / "r.toml", {})
    assert not list(violations(SCHEMA, SCHEMA, tomllib.loads(GOOD[name])))


@pytest.mark.parametrize("name", BAD)
def test_the_schema_rejects_what_does_not(name: str, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("0123456789abcdef", "utf-8")
    (tmp_path / "r.toml").write_text(BAD[name], "utf-8")
    with pytest.raises(FaultyConfiguration):
        load(tmp_path / "r.toml", {})
    assert list(violations(SCHEMA, SCHEMA, tomllib.loads(BAD[name])))


def test_every_setting_is_in_the_schema() -> None:
    properties = SCHEMA["$defs"]["ClientSettings"]["properties"]
    assert set(properties) == {*ClientSettings.model_fields, "secret_file"}
    assert set(SCHEMA["properties"]) == set(Settings.model_fields)
