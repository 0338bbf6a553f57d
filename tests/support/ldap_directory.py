"""LDAP directories over the sections that real servers give."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from radius_mfa.config import LdapDirectorySettings
from radius_mfa.ldap_setup import options
from radius_mfa.stores.directory_ldap import LdapDirectory
from radius_mfa.stores.interfaces import Identity


@asynccontextmanager
async def directory(section: Mapping[str, Any]) -> AsyncIterator[LdapDirectory]:
    """Open the directory of a ``[[directory.ldap]]``."""
    made = LdapDirectory(options(LdapDirectorySettings(**section)))
    try:
        yield made
    finally:
        await made.close()


async def found(known: LdapDirectory, name: str) -> Identity:
    """Return the user of that name, who must be there."""
    user = await known.find(name)
    assert user is not None, name
    return user
