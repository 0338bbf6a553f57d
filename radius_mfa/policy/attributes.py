"""Reply attributes: what values an Accept carries, from templates and what is known of the user.

Knows no wire: octets come from an encoder that ``protocol`` brings.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from string import Formatter

from radius_mfa.policy.groups import Group, group_key
from radius_mfa.values import value

MAX_VALUES = 2_000
"""Values of one template: more than a reply holds, as an attribute takes three octets at least."""

GROUP_SEPARATOR = ";"
"""What ``{groups}`` joins by; ``{groups:,}`` by a comma."""


@value
class Encoded:
    """An attribute as it goes on the wire, header and all.

    *to_hide* is what still has to be hidden behind *octets* with the shared secret, for each reply
    anew (RFC 2868 section 3.5); empty for most.
    """

    octets: bytes = field(repr=False)
    to_hide: bytes = field(default=b"", repr=False)


Encoder = Callable[[str], Encoded]
"""Makes octets of a value; raises ValueError, which does not quote it, for one that does not fit.

Octets that are no UTF-8 stand in the text as lone surrogates (PEP 383).
"""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """``{kind:argument}`` in a template."""

    kind: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """A value with placeholders: literal texts and placeholders in turn."""

    parts: tuple[str | Placeholder, ...]

    @property
    def placeholders(self) -> list[Placeholder]:
        """What has to be known of the user."""
        return [part for part in self.parts if isinstance(part, Placeholder)]


@value
class Person:
    """What templates may say of a user: *groups* as the client knows them, what a directory has."""

    user: str
    groups: Sequence[str] = ()
    directory: Mapping[str, Sequence[str]] = field(default_factory=dict)


VALUES: Mapping[str, Callable[[Person, str], Sequence[str]]] = {
    "user": lambda person, _: [person.user],
    "group": lambda person, _: person.groups,
    "groups": lambda person, separator: (
        [(separator or GROUP_SEPARATOR).join(person.groups)] if person.groups else []
    ),
    "ldap": lambda person, attribute: person.directory.get(attribute, ()),
}
"""Placeholder, and its values; where there is none, the value that holds it is not sent."""

_OF_GROUPS = frozenset({"group", "groups"})
_LDAP_ATTRIBUTE = re.compile(r"[a-z][a-z0-9-]{0,62}")
_WITHOUT_ARGUMENT = frozenset({"user", "group"})
_KNOWN = "{user}, {group}, {groups}, {ldap:attribute} and {hex:00ff}; a brace itself is {{ or }}"


def template(text: str) -> Template:
    """Return *text* taken apart; raises ValueError, as an encoder does, for what is no template."""
    try:
        pieces = list(Formatter().parse(text))
    except ValueError:
        raise ValueError(f"has a brace without a partner: placeholders are {_KNOWN}") from None
    parts: list[str | Placeholder] = []
    for literal, kind, argument, conversion in pieces:
        if literal:
            parts.append(literal)
        if kind is None:
            continue
        if conversion is not None:
            raise ValueError(f"has no placeholder in {{{kind}!{conversion}}}: they are {_KNOWN}")
        parts.append(_part(kind, argument or ""))
    return Template(tuple(parts))


def _part(kind: str, argument: str) -> str | Placeholder:
    if kind == "hex":
        return _of_hex(argument)
    if kind not in VALUES or (argument and kind in _WITHOUT_ARGUMENT):
        shown = f"{kind}:{argument}" if argument else kind
        raise ValueError(f"has no placeholder in {{{shown}}}: they are {_KNOWN}")
    if kind == "ldap":
        argument = argument.lower()
        if not _LDAP_ATTRIBUTE.fullmatch(argument):
            raise ValueError("names no attribute of the directory: write {ldap:mail}")
    return Placeholder(kind, argument)


def _of_hex(digits: str) -> str:
    try:
        return bytes.fromhex(digits).decode("utf-8", "surrogateescape")
    except ValueError:
        raise ValueError("has no pairs of hexadecimal digits: write {hex:00ff}") from None


def expanded(made: Template, person: Person) -> list[str]:
    """Return the values of a template: one for each of what its placeholders stand for.

    Ten thousand groups beside ten thousand addresses are not all written down: MAX_VALUES are.
    """
    choices = [
        [part] if isinstance(part, str) else VALUES[part.kind](person, part.argument)
        for part in made.parts
    ]
    return ["".join(parts) for parts in islice(product(*choices), MAX_VALUES)]


@dataclass(frozen=True, slots=True)
class ReplyAttribute:
    """An attribute that a rule, or the groups of a client, add to an Accept.

    *fixed* are the values that are the same for everybody, encoded once.
    """

    name: str
    encode: Encoder = field(repr=False, compare=False)
    templates: tuple[Template, ...]
    fixed: tuple[Encoded, ...] = ()

    @property
    def needs_groups(self) -> bool:
        """Whether a value holds the user's groups."""
        return any(one.kind in _OF_GROUPS for made in self.templates for one in made.placeholders)

    @property
    def directory_attributes(self) -> frozenset[str]:
        """What a value takes from the directory."""
        return frozenset(
            one.argument
            for made in self.templates
            for one in made.placeholders
            if one.kind == "ldap"
        )


def reply_attribute(name: str, values: Iterable[str], encode: Encoder) -> ReplyAttribute:
    """Return an attribute of *values*; raises ValueError for one that never fits."""
    templates = tuple(map(template, values))
    if any(made.placeholders for made in templates):
        for made in templates:
            if not made.placeholders:
                _encoded_once(made, encode)
        return ReplyAttribute(name, encode, templates)
    return ReplyAttribute(name, encode, (), tuple(_encoded_once(one, encode) for one in templates))


def _encoded_once(made: Template, encode: Encoder) -> Encoded:
    return encode("".join(part for part in made.parts if isinstance(part, str)))


@value
class LeftOut:
    """A value that an Accept went without, and why; the value itself is not told."""

    attribute: str
    why: str


@dataclass(slots=True)
class Grant:
    """What an Accept carries, *names* of it, and what it went without."""

    attributes: list[Encoded] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    left_out: list[LeftOut] = field(default_factory=list)


def granted(reply: Iterable[ReplyAttribute], person: Person) -> Grant:
    """Return the attributes of *reply* for *person*; what has no fitting value is left out."""
    grant = Grant()
    for attribute in reply:
        grant.attributes += attribute.fixed
        if attribute.fixed:
            grant.names.add(attribute.name)
        for made in attribute.templates:
            values = expanded(made, person)
            if not values:
                missing = " and ".join(dict.fromkeys(map(_missing, made.placeholders)))
                grant.left_out.append(LeftOut(attribute.name, missing))
            for text in values:
                try:
                    grant.attributes.append(attribute.encode(text))
                except ValueError as error:
                    grant.left_out.append(LeftOut(attribute.name, f"a value of the user {error}"))
                else:
                    grant.names.add(attribute.name)
    return grant


def _missing(placeholder: Placeholder) -> str:
    if placeholder.kind == "ldap":
        return f"the directory has no {placeholder.argument} of the user"
    return "the user is in no group that this client knows"


def mapped_groups(groups: Sequence[Group], names: Mapping[str, str]) -> list[str]:
    """Return what a client calls *groups*, each name once: *names* by group, else all as they are.

    The order is that of *names*, or of the directory's names: it never changes by itself.
    """
    if not names:
        return list(dict.fromkeys(group.name for group in groups))
    known = {group_key(text) for group in groups for text in (group.name, group.dn) if text}
    return list(dict.fromkeys(name for key, name in names.items() if key in known))
