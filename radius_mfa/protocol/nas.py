"""The NAS tables: source network, or name of a certificate, to shared secret and policy.

Over UDP a NAS is known by the address its packets come from (RFC 2865 section 3), over TLS by its
certificate (RFC 6614 section 2.3); NAS-IP-Address proves nothing.
"""

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from radius_mfa.errors import UnknownCertificate, UnknownNas
from radius_mfa.policy.access import Mode
from radius_mfa.policy.challenge import DEFAULT_LANGUAGE, TEXTS, Prompt
from radius_mfa.policy.credentials import SplitPolicy
from radius_mfa.policy.identity import IpAddress, unmapped

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Nas:
    """A network access server, or a network of them that share one secret.

    *challenge_text* asks its users for the code; *over_tls* tells how its packets come.
    """

    name: str
    networks: tuple[Network, ...]
    shared_secret: bytes = field(repr=False)
    over_tls: bool = False
    require_message_authenticator: bool = True
    limit_proxy_state: bool = False
    status_server: bool = True
    split: SplitPolicy = SplitPolicy()
    mfa: Mode = Mode.ALWAYS
    prompt: Prompt = Prompt.APPEND
    challenge_text: str = TEXTS[DEFAULT_LANGUAGE]
    failover_grace_seconds: int = 0
    reject_on_backend_failure: bool = False


class NasTable:
    """Finds the NAS of a source address; the longest prefix wins, whatever the order."""

    def __init__(self, nases: Iterable[Nas]) -> None:
        self._by_prefix: dict[tuple[int, int], dict[int, Nas]] = {}
        for nas in nases:
            for network in nas.networks:
                members = self._by_prefix.setdefault((network.version, network.prefixlen), {})
                members[int(network.network_address)] = nas
        self._prefixes = sorted(self._by_prefix, reverse=True)
        self._found: dict[str, Nas] = {}

    def find(self, source: str) -> Nas:
        """Return the NAS at *source*, an address in text, or raise UnknownNas.

        An IPv4-mapped IPv6 address is its IPv4 address; a link-local one loses its zone.
        """
        nas = self._found.get(source)
        if nas is None:
            nas = self._longest_match(unmapped(ipaddress.ip_address(source.partition("%")[0])))
            if len(self._found) >= _REMEMBERED_SOURCES:
                self._found.clear()
            self._found[source] = nas
        return nas

    def _longest_match(self, address: IpAddress) -> Nas:
        number, bits = int(address), address.max_prefixlen
        for version, prefixlen in self._prefixes:
            if version == address.version:
                mask = ((1 << prefixlen) - 1) << (bits - prefixlen)
                nas = self._by_prefix[version, prefixlen].get(number & mask)
                if nas is not None:
                    return nas
        raise UnknownNas(f"no [[client]] holds {address}")


class CertificateTable:
    """Finds the NAS of a certificate by the names in it."""

    def __init__(self, by_name: Mapping[str, Nas]) -> None:
        """*by_name* has lower-case names of certificates."""
        self._by_name = {name: _over_tls(nas) for name, nas in by_name.items()}

    def find(self, names: Collection[str]) -> Nas:
        """Return the one NAS that *names* belong to, or raise UnknownCertificate."""
        found = {nas.name: nas for name in names if (nas := self._by_name.get(name.lower()))}
        if len(found) > 1:
            raise UnknownCertificate(f"a certificate of two clients: {', '.join(sorted(found))}")
        if not found:
            named = ", ".join(names) or "without a name"
            raise UnknownCertificate(f"no [[client]] has its certificate_name: {named}")
        return found.popitem()[1]


def _over_tls(nas: Nas) -> Nas:
    """Return *nas* as it is over TLS, which proves what Message-Authenticator would (B12)."""
    return replace(
        nas,
        shared_secret=_RADSEC_SECRET,
        over_tls=True,
        require_message_authenticator=False,
        limit_proxy_state=False,
    )


_RADSEC_SECRET = b"radsec"  # RFC 6614 section 2.3: TLS keeps the secrets, this one is in the RFC
_REMEMBERED_SOURCES = 4096
