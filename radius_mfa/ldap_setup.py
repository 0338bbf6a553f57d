"""The settings of ``[[directory.ldap]]`` as the stores know them, presets filled in."""

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from radius_mfa.config import LdapDirectorySettings, Settings
from radius_mfa.errors import ConfigurationError

if TYPE_CHECKING:
    from radius_mfa.stores.directory_ldap import LdapDirectory, LdapOptions


def ldap_directories(settings: Settings) -> "list[LdapDirectory]":
    """Return the LDAP directories of *settings*; ConfigurationError without python-ldap."""
    if not settings.directory.ldap:
        return []
    if find_spec("ldap") is None:
        raise ConfigurationError(
            "[[directory.ldap]] needs python-ldap, which is not installed",
            "pip install 'radius-mfa[ldap]', after: apt install libldap2-dev libsasl2-dev gcc",
        )
    from radius_mfa.stores.directory_ldap import LdapDirectory  # noqa: PLC0415 - an extra

    return [LdapDirectory(options(one)) for one in settings.directory.ldap]


def options(directory: LdapDirectorySettings) -> "LdapOptions":
    """Return a ``[[directory.ldap]]`` with what its preset says filled in."""
    from radius_mfa.stores.directory_ldap import LdapOptions  # noqa: PLC0415
    from radius_mfa.stores.ldap_answers import SCHEMAS  # noqa: PLC0415
    from radius_mfa.stores.ldap_connection import Account  # noqa: PLC0415
    from radius_mfa.stores.ldap_transport import Target  # noqa: PLC0415

    preset = SCHEMAS[directory.preset]
    password = directory.bind_password
    return LdapOptions(
        name=directory.name,
        targets=[
            Target(
                uri,
                directory.start_tls,
                directory.ca_file,
                directory.verify_certificate,
                directory.tls_minimum,
                directory.timeout_seconds,
            )
            for uri in directory.servers
        ],
        account=Account(directory.bind_dn, password.get_secret_value() if password else ""),
        base=directory.base,
        schema=replace(
            preset,
            query=directory.filter or preset.query,
            lookup=tuple(directory.lookup) or preset.lookup,
            identifier=directory.id_attribute or preset.identifier,
            name=directory.name_attribute or preset.name,
            groups=directory.groups or preset.groups,
        ),
        realms=frozenset(directory.realms),
        group_base=directory.group_base,
        group_member=directory.group_member_attribute,
        group_depth=directory.group_depth,
        pool_size=directory.pool_size,
        lookup_cache_seconds=directory.lookup_cache_seconds,
    )
