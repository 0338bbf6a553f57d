"""Distinguished names: what people call an entry, and which names are the same. Pure."""

import unicodedata

import ldap
from ldap.dn import str2dn

from radius_mfa.stores.ldap_answers import Attributes

DnKey = tuple[tuple[tuple[str, str], ...], ...]


def group_name(dn: str, attributes: Attributes) -> str:
    """Return what a group is called: its ``cn``, else the first value of its name."""
    for value in attributes.get("cn", ()):
        return unicodedata.normalize("NFC", value.decode("utf-8", "replace"))
    return first_value(dn)


def first_value(dn: str) -> str:
    r"""Return ``Sales, EMEA`` of ``CN=Sales\\, EMEA,OU=...``."""
    try:
        return str(str2dn(dn)[0][0][1])
    except (ldap.DECODING_ERROR, IndexError):
        return dn


def dn_key(dn: str) -> DnKey:
    """Return *dn* in the form to compare it by, part by part; what is no such name is its own."""
    try:
        parts = str2dn(dn)
    except ldap.DECODING_ERROR:
        return ((("", dn.lower()),),)
    return tuple(tuple((kind.lower(), value.lower()) for kind, value, _ in part) for part in parts)


def is_below(dn: str, base: str) -> bool:
    """Return whether *dn* is *base* or an entry somewhere below it."""
    above = dn_key(base)
    return not above or dn_key(dn)[-len(above) :] == above
