"""``radius-mfa policy``: which rule a login falls under and why, and groups that nobody has."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from time import time
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from radius_mfa.app import Stores
from radius_mfa.authentication.authorization import Case
from radius_mfa.cli.common import (
    ExitCode,
    JsonOption,
    UserArgument,
    output,
    print_fields,
    print_json,
    print_table,
    settings,
    with_stores,
    with_user,
)
from radius_mfa.cli.exchange import client_named
from radius_mfa.config import ClientSettings, RuleSettings, Settings
from radius_mfa.group_check import UnknownGroup, unknown_groups
from radius_mfa.log import printable
from radius_mfa.policy.access import Enrolment, Mode, Need, needed
from radius_mfa.policy.attributes import Person, expanded, template
from radius_mfa.policy.decision import Reject
from radius_mfa.policy.identity import normalised_station
from radius_mfa.policy.rules import ClientPolicy, Proof, unmet
from radius_mfa.policy_setup import group_attribute, policies, secret_attributes
from radius_mfa.stores.interfaces import Identity

app = typer.Typer(help="Policy rules: explain, check.", no_args_is_help=True)

MASK = "***"


@app.command()
def explain(
    ctx: typer.Context,
    user: UserArgument,
    client: Annotated[str, typer.Option(metavar="NAME", help="The client they log in at.")],
    source: Annotated[
        str, typer.Option(metavar="IP", help="Their Calling-Station-Id. Default: none is sent.")
    ] = "",
    at: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="When, in time_zone: 2026-12-01T08:00. Default: now."),
    ] = None,
    method: Annotated[
        Proof | None,
        typer.Option(help="How they prove themselves. Default: what is asked of them."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which rule a login falls under, why not the others, and what comes of it."""
    in_force = settings(ctx)
    chosen = client_named(client, in_force)
    now = time() if at is None else _moment(at, ZoneInfo(in_force.time_zone))

    async def work(stores: Stores, found: Identity) -> dict[str, Any]:
        explained = _Explained(in_force, chosen, found, await _enrolment(stores, found))
        return await explained.told(stores, normalised_station(source), now, method)

    told = with_user(ctx, user, work)
    if as_json:
        print_json(told)
    else:
        _print(told)


def _moment(text: str, zone: ZoneInfo) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            "write a date and time, like 2026-12-01T08:00", param_hint="--at"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


async def _enrolment(stores: Stores, found: Identity) -> Enrolment:
    known = await stores.enrolments.fetch(found.key)
    if known.known or not found.dn:
        return known
    return Enrolment(known=True)  # to a directory, if not on record here


class _Explained:
    """One login, tried before the rules without anybody logging in."""

    def __init__(
        self, in_force: Settings, client: ClientSettings, user: Identity, enrolment: Enrolment
    ) -> None:
        self._settings = in_force
        self._client = client
        self._user = user
        self._enrolment = enrolment
        self._policy = policies(in_force).get(
            client.name, ClientPolicy(zone=ZoneInfo(in_force.time_zone))
        )

    async def told(
        self, stores: Stores, station: str, now: float, method: Proof | None
    ) -> dict[str, Any]:
        """Return everything that there is to say."""
        directory = stores.directories
        names = {"client": self._client.name, "station": station}
        case = Case(self._policy, directory, self._user, self._enrolment, now=now, **names)
        opened: Mode | Reject = self._client.mfa
        if self._enrolment.known and not self._enrolment.suspended:  # others are judged by no rule
            opened = await case.opened(self._client.mfa)
        early = case.rule
        refused = opened if isinstance(opened, Reject) else None
        need = None
        if isinstance(opened, Mode):
            need = needed(self._enrolment, opened, now)
            if isinstance(need, Need):
                proof = method or (Proof.TOTP if need is Need.CODE else Proof.PASSWORD)
                refused = await case.closed(proof)
            else:
                refused = Reject(need)
        return {
            "user": self._user.name,
            "directory": self._user.directory,
            "client": self._client.name,
            "station": station,
            "at": case.facts.moment,
            "method": case.facts.method,
            "groups": [group.name for group in await case.groups()],
            "rules": list(self._rules(case, refused)),
            "rule": case.rule_name,
            "mfa": opened if isinstance(opened, Mode) else None,
            "mfa_of": early.name if early is not None and early.mfa is not None else "",
            "takes": _TAKES.get(need) if isinstance(need, Need) else None,
            "refused": refused.reason if refused else None,
            "hint": refused.hint if refused else "",
            "attributes": [] if refused else list(self._attributes(case)),
            "left_out": [] if refused else [asdict(one) for one in case.grant.left_out],
        }

    def _rules(self, case: Case, refused: Reject | None) -> Iterator[dict[str, Any]]:
        """Yield each rule with whether it matches; behind the match nobody looks."""
        written = {one.name: one for one in self._settings.rule}
        ours = {one.name: one for one in self._policy.rules}
        over = False
        for name, one in written.items():
            if over:
                yield {"rule": name, "matches": None, "because": ["a rule before it matches"]}
            elif name not in ours:
                yield {"rule": name, "matches": False, "because": [_at_others(one)]}
            elif name == case.rule_name and (case.facts.method or refused):
                over = True
                yield {"rule": name, "matches": True, "because": []}
            else:
                failed = unmet(ours[name], case.facts)
                because = [_WORDS[setting](one, case.facts) for setting in failed]
                yield {"rule": name, "matches": False, "because": because or ["not looked at"]}

    def _attributes(self, case: Case) -> Iterator[dict[str, Any]]:
        """Yield the attributes of the Accept in text, but for what travels hidden."""
        reply: dict[str, list[str]] = {}
        rule = next((one for one in self._settings.rule if one.name == case.rule_name), None)
        if rule is not None:
            reply |= rule.reply
        name, value = group_attribute(self._client)
        for attribute, texts in [*reply.items(), *([(name, [value])] if name else [])]:
            hidden = bool(secret_attributes([attribute]))
            for one in _values(texts, case.person):
                octets = one.encode("utf-8", "surrogateescape")
                shown = octets.decode("utf-8", "backslashreplace")
                yield {"attribute": attribute, "value": MASK if hidden else shown}


def _values(texts: Sequence[str], person: Person) -> Iterator[str]:
    for text in texts:
        yield from expanded(template(text), person)


_TAKES: Mapping[Need, str] = {Need.CODE: "password and code", Need.PASSWORD: "the password alone"}


def _at_others(rule: RuleSettings) -> str:
    return f"it is for other clients: {', '.join(rule.client)}"


def _of(rule: RuleSettings, setting: str) -> str:
    return ", ".join(map(str, getattr(rule, setting)))


_WORDS: Mapping[str, Any] = {
    "client": lambda rule, _: _at_others(rule),
    "directory": lambda rule, facts: (
        f"the user is of {facts.directory or 'no directory'}, not of {_of(rule, 'directory')}"
    ),
    "station": lambda rule, facts: (
        f"{facts.station} is not in {_of(rule, 'station')}"
        if facts.station
        else "no Calling-Station-Id is sent"
    ),
    "time": lambda rule, facts: f"{facts.moment:%a %H:%M} is not in {_of(rule, 'time')}",
    "group": lambda rule, _: f"the user is not in {_of(rule, 'group')}",
    "method": lambda rule, facts: f"the method is {facts.method}, not {_of(rule, 'method')}",
}
"""By condition: why it does not hold."""


def _print(told: dict[str, Any]) -> None:
    at: datetime = told["at"]
    print_fields(
        [
            ("user", f"{told['user']} of {told['directory'] or 'no directory'}"),
            ("groups", told["groups"]),
            ("client", told["client"]),
            ("Calling-Station-Id", told["station"]),
            ("time", f"{at:%A, %Y-%m-%d %H:%M} {at.tzinfo}"),
        ]
    )
    output.print()
    rows = [
        (one["rule"], _MATCHES[one["matches"]], "; ".join(one["because"])) for one in told["rules"]
    ]
    print_table(("RULE", "MATCHES", "BECAUSE"), rows, "No rules: it is as the client says.")
    output.print()
    by = f"rule {told['mfa_of']}" if told["mfa_of"] else f"client {told['client']}"
    fields: list[tuple[str, object]] = []
    if told["mfa"] is not None:
        fields.append(("mfa", f"{told['mfa']}, of {by}"))
    if told["takes"]:
        fields.append(("the login takes", told["takes"]))
    if told["method"]:
        fields.append(("method", told["method"]))
    if told["refused"]:
        fields.append(("refused", told["refused"]))
        fields += [("hint", told["hint"])] * bool(told["hint"])
    print_fields(fields)
    for one in told["attributes"]:
        output.print(f"    {one['attribute']} = {printable(one['value'])}")
    for one in told["left_out"]:
        output.print(f"    {one['attribute']} is left out: {one['why']}")


_MATCHES = {True: "yes", False: "no", None: "-"}


@app.command()
def check(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Look for groups of rules and clients that neither a directory nor this server has.

    Exit code 1 where there are any.
    """
    in_force = settings(ctx)

    async def work(stores: Stores) -> list[UnknownGroup]:
        return await unknown_groups(in_force, stores.directories, stores.enrolments)

    found = with_stores(ctx, work)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        rows = [(one.where, one.group, one.hint) for one in found]
        print_table(("NAMED BY", "UNKNOWN GROUP", "HINT"), rows, "Every group is known.")
    sys.exit(ExitCode.REFUSED if found else ExitCode.DONE)
