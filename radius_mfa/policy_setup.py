"""The settings of ``[[rule]]``, and of a client's groups, as the policy knows them.

What can't work is found here, with its place and cure, before anybody logs in.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from ipaddress import ip_network
from zoneinfo import ZoneInfo

from radius_mfa.authentication.authorization import MAX_GRANTED_OCTETS
from radius_mfa.config import ClientSettings, RuleSettings, Settings, wide
from radius_mfa.policy.access import Mode
from radius_mfa.policy.attributes import ReplyAttribute, reply_attribute
from radius_mfa.policy.groups import group_key
from radius_mfa.policy.rules import ClientPolicy, Rule, period
from radius_mfa.protocol.reply_attributes import AttributeEncoder, UnfitAttribute, encoder
from radius_mfa.stores.interfaces import LOCAL
from radius_mfa.toml_lines import Location
from radius_mfa.vendors import AUTO, VENDORS


@dataclass(frozen=True, slots=True)
class PolicyFault:
    """A setting that can't work: where, what, and the cure."""

    location: Location
    message: str
    cure: str = ""


def policies(settings: Settings) -> dict[str, ClientPolicy]:
    """Return what holds at each client; one that nothing is said of is not in it.

    *settings* have no faults.
    """
    rules = [_rule(one) for one in settings.rule]
    found = {
        client.name: ClientPolicy(
            tuple(one for one in rules if not one.client or client.name in one.client),
            _groups_as(client),
            {group_key(group): name for group, name in client.group_map.items()},
            ZoneInfo(settings.time_zone),
        )
        for client in settings.client
    }
    return {name: one for name, one in found.items() if one.rules or one.groups_as is not None}


def group_attribute(client: ClientSettings) -> tuple[str, str]:
    """Return the attribute that carries the user's groups to *client*, and how it writes them.

    The client has no faults: ``auto`` stands for an attribute.
    """
    if client.group_attribute == AUTO:
        vendor = VENDORS[client.vendor]
        return vendor.group_attribute, client.group_value or vendor.group_value
    return client.group_attribute, client.group_value or "{group}"


def _groups_as(client: ClientSettings) -> ReplyAttribute | None:
    name, value = group_attribute(client)
    return reply_attribute(name, [value], encoder(name)) if name else None


def _rule(one: RuleSettings) -> Rule:
    return Rule(
        one.name,
        client=frozenset(one.client),
        directory=frozenset(one.directory),
        station=tuple(map(ip_network, one.station)),
        time=tuple(map(period, one.time)),
        group=frozenset(map(group_key, one.group)),
        method=frozenset(one.method),
        mfa=one.mfa,
        refuse=one.refuse,
        reply=tuple(reply_attribute(name, all_, encoder(name)) for name, all_ in one.reply.items()),
        required=frozenset(one.required),
    )


def faults(settings: Settings) -> Iterator[PolicyFault]:
    """Yield what can't work in the rules and in the groups of clients."""
    for index, client in enumerate(settings.client):
        for fault in _faults_of_client(client):
            yield _below(("client", index), fault)
    names = [one.name for one in settings.rule]
    for index, rule in enumerate(settings.rule):
        if rule.name in names[:index]:
            what = f"{rule.name} is the name of another rule too"
            yield PolicyFault(("rule", index, "name"), what, "give this one another name")
        for check in _CHECKS:
            for fault in check(rule, settings):
                yield _below(("rule", index), fault)


def warnings(settings: Settings) -> Iterator[PolicyFault]:
    """Yield rules that no login ever reaches."""
    last: RuleSettings | None = None
    for index, rule in enumerate(settings.rule):
        if last is not None:
            what = f"is never reached: {last.name} before it holds for everybody"
            yield PolicyFault(("rule", index, "name"), what, "put the more special rule first")
        elif not any(getattr(rule, name) for name in _CONDITIONS):
            last = rule


_CONDITIONS = ("client", "directory", "group", "station", "time", "method")


def secret_attributes(names: Iterable[str]) -> set[str]:
    """Return those of *names* whose values travel hidden, and must not be shown."""
    return {name for name in names if encoder(name).secret}


def _below(location: Location, fault: PolicyFault) -> PolicyFault:
    return replace(fault, location=(*location, *fault.location))


def _faults_of_client(client: ClientSettings) -> Iterator[PolicyFault]:
    untold = _without_own_attribute(client)
    if untold:
        yield PolicyFault(("group_attribute",), *untold)
    name, value = ("", "") if untold else group_attribute(client)
    if name:
        found = yield from _encoder(name, ("group_attribute",))
        made = None
        if found is not None:
            made = yield from _faults_of_values(found, [value], ("group_value",))
        if made is not None and not made.needs_groups:
            yield PolicyFault(("group_value",), "names no group", "write {group} where one stands")
    seen: dict[str, str] = {}
    for group in client.group_map:
        first = seen.setdefault(group_key(group), group)
        if first != group:
            what = f"{group!r} and {first!r} are one group"
            yield PolicyFault(("group_map", group), what, "remove one")


def _without_own_attribute(client: ClientSettings) -> tuple[str, str] | None:
    """Return why ``auto`` stands for nothing at *client*, and the cure; None where it does."""
    if client.group_attribute != AUTO:
        return None
    if not client.vendor:
        return '"auto" is the attribute of a vendor', "set vendor, or name the attribute"
    if not VENDORS[client.vendor].group_attribute:
        return f"{client.vendor} reads no groups", "leave it out, or name an attribute"
    return None


def _faults_of_names(rule: RuleSettings, settings: Settings) -> Iterator[PolicyFault]:
    """Yield names of clients and directories that there are not."""
    directories = [LOCAL, *(one.name for one in settings.directory.ldap)]
    clients = [one.name for one in settings.client]
    for setting, written, known in (
        ("client", rule.client, clients),
        ("directory", rule.directory, directories),
    ):
        for index, name in enumerate(written):
            if name not in known:
                location: Location = (setting, index) if len(written) > 1 else (setting,)
                yield PolicyFault(location, f"no {setting} is called {name}", nearest(name, known))


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint at the one of *known* that *name* may stand for."""
    by_key = {one.casefold(): one for one in known}
    near = get_close_matches(name.casefold(), by_key, n=1, cutoff=0.6)
    if near:
        return f"did you mean {by_key[near[0]]}?"
    return f"known are: {', '.join(known)}" if known else "there is none"


def _faults_of_effects(rule: RuleSettings, _: Settings) -> Iterator[PolicyFault]:
    """Yield effects that exclude each other, or come too late."""
    if rule.refuse and (rule.mfa is not None or rule.reply):
        what = "a rule that refuses neither sets mfa nor sends attributes"
        yield PolicyFault(("refuse",), what, "leave mfa and reply out, or refuse")
    if rule.method and rule.mfa is not None:
        what = "how a login proves itself is known only after mfa has said what it takes"
        yield PolicyFault(("mfa",), what, "leave out method or mfa")
    for name in rule.required:
        if name not in rule.reply:
            what = f"{name} is not among the attributes of reply"
            yield PolicyFault(("required",), what, nearest(name, list(rule.reply)))


def _faults_of_mode(rule: RuleSettings, settings: Settings) -> Iterator[PolicyFault]:
    """Yield networks that would get in with the password alone, as for a client."""
    if rule.mfa is not Mode.OFF:
        return
    for client in settings.client:
        if (rule.client and client.name not in rule.client) or client.accept_risk:
            continue
        for address in filter(wide, client.address):
            what = f'"off" would reach client {client.name}, all of {address}'
            cure = f"name other clients; or, if that is right: accept_risk = true for {client.name}"
            yield PolicyFault(("mfa",), what, cure)


def _faults_of_reply(rule: RuleSettings, settings: Settings) -> Iterator[PolicyFault]:
    """Yield attributes and values that can't be sent."""
    octets = 0
    for name, values in rule.reply.items():
        location: Location = ("reply", name)
        found = yield from _encoder(name, location)
        if found is None:
            continue
        if found.single and len(values) > 1:
            what = f"an Access-Accept holds one {name} at most"
            yield PolicyFault(location, what, "leave one value")
        made = yield from _faults_of_values(found, values, location)
        if made is None:
            continue
        octets += sum(len(one.octets) + len(one.to_hide) for one in made.fixed)
        if made.directory_attributes and not settings.directory.ldap:
            what = "takes a value from a directory, and no [[directory.ldap]] is configured"
            yield PolicyFault(location, what, "local users have no such attributes")
    if octets > MAX_GRANTED_OCTETS:
        what = f"takes {octets} octets, and a reply holds {MAX_GRANTED_OCTETS}"
        yield PolicyFault(("reply",), what, "send less")


_CHECKS: tuple[Callable[[RuleSettings, Settings], Iterator[PolicyFault]], ...] = (
    _faults_of_names,
    _faults_of_effects,
    _faults_of_mode,
    _faults_of_reply,
)


def _encoder(
    name: str, location: Location
) -> Generator[PolicyFault, None, AttributeEncoder | None]:
    try:
        return encoder(name)
    except UnfitAttribute as error:
        yield PolicyFault(location, str(error), error.cure)
        return None


def _faults_of_values(
    found: AttributeEncoder, values: Sequence[str], location: Location
) -> Generator[PolicyFault, None, ReplyAttribute | None]:
    faulty = False
    for value in values:
        try:
            reply_attribute(found.name, [value], found)
        except ValueError as error:
            faulty = True
            shown = "the value" if found.secret else repr(value)
            yield PolicyFault(location, f"{shown} {error}")
    return None if faulty else reply_attribute(found.name, values, found)
