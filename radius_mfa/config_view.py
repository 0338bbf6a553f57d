"""The settings as an operator may see them: secrets masked, and the schema for editors."""

import hashlib
import re
from typing import Any

import orjson
import tomlkit
from pydantic import SecretStr

from radius_mfa.config import EMBEDDED, Settings
from radius_mfa.config_words import FILE_SUFFIX
from radius_mfa.policy_setup import secret_attributes

MASK = "***"

Table = dict[str, Any]

_CREDENTIALS = re.compile(r"(?<=://)(?P<user>[^@/:?]*):.*@")
_PARAMETER = re.compile(
    r"(?P<name>[?&][^=&]*(?:password|passwd|secret)[^=&]*=)[^&]*", re.IGNORECASE
)


def masked(settings: Settings) -> Table:
    """Return the settings in force as plain values, without what is unset, secrets masked."""
    values: Table = settings.model_dump(mode="json", exclude_none=True)
    values["keyring"]["file"] = str(settings.key_ring_file)
    for section in ("redis", "database"):
        values[section]["url"] = masked_url(getattr(settings, section).url)
    for client in values["client"]:
        for name in ("require_message_authenticator", "status_server"):
            client.setdefault(name, values["radius"][name])
    for table in (
        *values["client"],
        *values["directory"]["ldap"],
        values["redis"],
        values["database"],
        values["mail"],
    ):
        for name in ("secret", "password", "bind_password"):
            if name in table:
                table[name] = MASK
    for rule in values["rule"]:
        for name in secret_attributes(rule["reply"]):
            rule["reply"][name] = [MASK] * len(rule["reply"][name])
    return {name: value for name, value in values.items() if value != {}}


def masked_url(url: SecretStr) -> str:
    """Return *url* without password; what may be part of one goes too."""
    text = _CREDENTIALS.sub(rf"\g<user>:{MASK}@", url.get_secret_value())
    return _PARAMETER.sub(rf"\g<name>{MASK}", text)


def toml_text(values: Table) -> str:
    """Return plain values as TOML."""
    return tomlkit.dumps(values)


def digest(settings: Settings) -> str:
    """Return a digest of what all nodes should have alike: neither secrets nor places of one host.

    It tells nothing but whether two are the same.
    """
    values = masked(settings)
    for name in ("data_folder", "keyring", "log", "metrics"):
        values.pop(name, None)
    for section in ("radius", "portal"):
        values[section].pop("listen")
    octets = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(octets, digest_size=8).hexdigest()


def json_schema() -> Table:
    """Return the JSON Schema of the file, with the ``_file`` twin of every secret."""
    schema = Settings.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "radius-mfa.toml"
    for definition in (schema, *schema["$defs"].values()):
        properties = definition.get("properties", {})
        for name in list(properties):
            properties[name] = _property(properties[name])
            if "writeOnly" in properties[name]:
                _add_twin(definition, name)
    _need_no_address_over_tls(schema["$defs"]["ClientSettings"])
    return schema


def _need_no_address_over_tls(client: Table) -> None:
    client["required"].remove("address")
    over_udp = {"required": ["address"], "oneOf": client.pop("oneOf")}
    client["anyOf"] = [{"required": ["certificate_name"]}, over_udp]


def _property(schema: Table) -> Table:
    """Return *schema* as TOML can have it: without null, and with no default that is hidden."""
    schema = dict(schema)
    forms = [form for form in schema.get("anyOf", ()) if form.get("type") != "null"]
    if len(forms) == 1:
        del schema["anyOf"]
        schema |= forms[0]
    if schema.get("default") is None or isinstance(schema["default"], dict):
        schema.pop("default", None)
    if "writeOnly" in schema and "default" in schema:
        schema["default"] = EMBEDDED
    schema.pop("title", None)
    return schema


def _add_twin(definition: Table, name: str) -> None:
    file = name + FILE_SUFFIX
    definition["properties"][file] = {
        "type": "string",
        "description": f"The file that holds {name}.",
    }
    if name in definition.get("required", []):
        definition["required"].remove(name)
        definition["oneOf"] = [{"required": [name]}, {"required": [file]}]
    else:
        definition.setdefault("allOf", []).append({"not": {"required": [name, file]}})
