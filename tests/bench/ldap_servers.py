"""The servers that are measured over a real slapd: a search and a bind for every login."""

import base64
import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from functools import partial
from string import Template

from radius_mfa.stores.interfaces import KEY_PREFIX
from tests.bench import traffic
from tests.bench.servers import (
    FREERADIUS_MODULES,
    Contestant,
    Measured,
    Owner,
    freeradius_with,
    ours,
)
from tests.support.debian import find
from tests.support.slapd import SEARCH_DN, SEARCH_PASSWORD, SUFFIX, RealSlapd, person

CONNECTIONS = 32
"""Of rlm_ldap, as many as threads; ours has by default as many for searches and for binds each."""

_RLM_LDAP = Template("""\
ldap {
		server = '$server'
		identity = '$account'
		password = '$password'
		base_dn = '$base'
		update {
		}
		user {
			base_dn = '$base'
			filter = "(uid=%{User-Name})"
		}
		options {
			chase_referrals = no
			res_timeout = 5
			net_timeout = 5
			idle = 60
			probes = 3
			interval = 3
		}
		tls {
			ca_file = '$ca_file'
			require_cert = 'demand'
		}
		pool {
			start = $connections
			min = $connections
			max = $connections
			spare = $connections
			uses = 0
			lifetime = 0
			idle_timeout = 0
		}
	}
""")


class FilledSlapd(RealSlapd):
    """A slapd with users whose passwords cost next to nothing to compare, ``{SSHA}``."""

    def __init__(self, users: int) -> None:
        super().__init__(extra="loglevel none", log_level=0)
        self._users = range(users)

    def prepare(self) -> None:
        super().prepare()
        salt = b"bench"
        digest = hashlib.sha1(traffic.PASSWORD.encode() + salt, usedforsecurity=False).digest()
        password = "{SSHA}" + base64.b64encode(digest + salt).decode()
        self.load(
            [
                person(traffic.user_name(index), password, entryUUID=[_entry_uuid(index)])
                for index in self._users
            ]
        )


def _entry_uuid(index: int) -> str:
    return str(uuid.UUID(int=index + 1))


def owners(directory: str, users: int) -> list[Owner]:
    """Return the users of a slapd that our configuration calls *directory*."""
    return [
        Owner(index, f"{KEY_PREFIX}{directory}/{_entry_uuid(index)}", directory)
        for index in range(users)
    ]


def _uri(slapd: RealSlapd, *, tls: bool) -> str:
    return slapd.tls_uri if tls else slapd.uri


def section(slapd: RealSlapd, name: str, *, tls: bool = False) -> dict[str, object]:
    """Return a ``[[directory.ldap]]``; nothing is kept, so that every login searches."""
    return slapd.section(
        name=name,
        servers=[_uri(slapd, tls=tls)],
        start_tls=False,
        lookup_cache_seconds=0,
    )


@contextlib.contextmanager
def radius_mfa(users: int, *, tls: bool) -> Iterator[Measured]:
    """Run ours over a slapd."""
    with (
        FilledSlapd(users) as slapd,
        ours({"ldap": [section(slapd, "corp", tls=tls)]}, owners("corp", users)) as (measured, _),
    ):
        yield measured


@contextlib.contextmanager
def freeradius(users: int, *, tls: bool) -> Iterator[Measured]:
    """Run FreeRADIUS over a slapd: rlm_ldap searches and binds, the rest as without."""
    with FilledSlapd(users) as slapd:
        module = _RLM_LDAP.substitute(
            server=_uri(slapd, tls=tls),
            account=SEARCH_DN,
            password=SEARCH_PASSWORD,
            base=SUFFIX,
            ca_file=slapd.ca_file,
            connections=CONNECTIONS,
        )
        with freeradius_with(users, module=module, search="ldap", proof="ldap") as measured:
            yield measured


def contestants(*, tls: bool) -> dict[str, Contestant]:
    """Return the servers that can run over a slapd here, ours first."""
    scheme = "ldaps" if tls else "ldap"
    found: dict[str, Contestant] = {f"radius-mfa {scheme}": partial(radius_mfa, tls=tls)}
    if find("freeradius") and find(f"{FREERADIUS_MODULES}/rlm_ldap.so"):
        found[f"FreeRADIUS {scheme}"] = partial(freeradius, tls=tls)
    return found
