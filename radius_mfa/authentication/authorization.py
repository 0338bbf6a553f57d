"""What the rules of a client make of one login: another mode, a refusal, attributes of the Accept.

Asks a directory for groups and attributes, each once, and only where a rule or the client needs
them: before what was typed is looked at where a mode or a refusal hangs on them, else after the
password proved right (ADR 15). A directory that does not answer is no reply, never no rule.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from radius_mfa.policy.access import Enrolment, Mode
from radius_mfa.policy.attributes import (
    Encoded,
    Grant,
    Person,
    ReplyAttribute,
    granted,
    mapped_groups,
)
from radius_mfa.policy.decision import Reject, RejectReason
from radius_mfa.policy.groups import Group, group_keys
from radius_mfa.policy.rules import ClientPolicy, Facts, Rule, mode, possible
from radius_mfa.stores.interfaces import Directory, Identity

MAX_GRANTED_OCTETS = 4096 - 20 - 18
"""What a reply holds beside its header and Message-Authenticator (RFC 2865 section 3)."""

_HIDING_OCTETS = 17  # a salt, and padding to the next 16: what hiding adds at most


class Case:
    """One login before the rules of its client.

    *code_due* says that the password alone will not do: as long as no code has come, nothing is
    granted.
    """

    __slots__ = (
        "_directory",
        "_enrolment",
        "_facts",
        "_groups",
        "_policy",
        "_user",
        "code_due",
        "grant",
        "person",
        "rule",
    )

    def __init__(
        self,
        policy: ClientPolicy,
        directory: Directory,
        user: Identity,
        enrolment: Enrolment,
        *,
        client: str,
        station: str,
        now: float,
    ) -> None:
        """*station* is a normalised Calling-Station-Id, *now* Unix time."""
        self._policy = policy
        self._directory = directory
        self._user = user
        self._enrolment = enrolment
        moment = datetime.fromtimestamp(now, policy.zone)
        self._facts = Facts(client, user.directory, moment, station)
        self._groups: Sequence[Group] | None = None
        self.rule: Rule | None = None
        self.grant = Grant()
        self.person = Person(user.name)
        self.code_due = False

    @property
    def facts(self) -> Facts:
        """What is known by now."""
        return self._facts

    @property
    def rule_name(self) -> str:
        """The name of the rule that matched, empty for none."""
        return self.rule.name if self.rule else ""

    @property
    def granted(self) -> tuple[Encoded, ...]:
        """The attributes of the Accept."""
        return tuple(self.grant.attributes)

    async def opened(self, default: Mode) -> Mode | Reject:
        """Return what a login takes here, by name of a mode, before anything typed is looked at."""
        rules = possible(self._policy.rules, self._facts)
        if any(rule.decides_early for rule in rules):
            rules = await self._with_groups(rules)
            self.rule = next((rule for rule in rules if not rule.method), None)
            if rules and rules[0].refuse and not rules[0].method:
                return self._refused()
        return mode(rules, default)

    async def closed(self, method: str) -> Reject | None:
        """Settle what an Accept by *method* carries, or return why there is to be none."""
        if self._facts.method == method:
            return None
        self._facts = replace(self._facts, method=method)
        rules = await self._with_groups(possible(self._policy.rules, self._facts))
        self.rule = rules[0] if rules else None
        if self.rule is not None and self.rule.refuse:
            return self._refused()
        self.grant = await self._granted()
        return self._unfit()

    async def _with_groups(self, rules: list[Rule]) -> list[Rule]:
        """Return which of *rules* may match once the groups are known, if they matter."""
        if self._facts.groups is not None or not any(rule.group for rule in rules):
            return rules
        self._facts = replace(self._facts, groups=group_keys(await self.groups()))
        return possible(self._policy.rules, self._facts)

    async def groups(self) -> Sequence[Group]:
        """Return the groups of the user, those kept here among them; asked for once."""
        if self._groups is None:
            own = [Group(name) for name in self._enrolment.groups]
            self._groups = [*await self._directory.groups(self._user), *own]
        return self._groups

    async def _granted(self) -> Grant:
        reply = [*(self.rule.reply if self.rule else ())]
        if self._policy.groups_as is not None:
            reply.append(self._policy.groups_as)
        self.person = await self._person(reply)
        if not self.person.groups and self._policy.groups_as is not None:
            reply.pop()  # nobody has to be in a group
        return granted(reply, self.person)

    async def _person(self, reply: Sequence[ReplyAttribute]) -> Person:
        """Return what the templates of *reply* need to know of the user."""
        groups: Sequence[str] = ()
        if any(attribute.needs_groups for attribute in reply):
            groups = mapped_groups(await self.groups(), self._policy.group_names)
        names = frozenset[str]().union(*(one.directory_attributes for one in reply))
        found = await self._directory.attributes(self._user, names) if names else {}
        return Person(self._user.name, groups, found)

    def _refused(self) -> Reject:
        user = shlex.quote(self._user.name)
        explain = f"radius-mfa policy explain {user} --client {self._facts.client}"
        return Reject(RejectReason.REFUSED_BY_RULE, f"rule {self.rule_name}: see {explain}")

    def _unfit(self) -> Reject | None:
        """Return why an Accept with what was granted can't be sent."""
        missing = sorted((self.rule.required if self.rule else frozenset()) - self.grant.names)
        if missing:
            why = next(
                (one.why for one in self.grant.left_out if one.attribute == missing[0]), "no value"
            )
            hint = f"rule {self.rule_name} requires {missing[0]}: {why}"
            return Reject(RejectReason.ATTRIBUTE_MISSING, hint)
        octets = sum(
            len(one.octets) + (len(one.to_hide) + _HIDING_OCTETS if one.to_hide else 0)
            for one in self.grant.attributes
        )
        if octets > MAX_GRANTED_OCTETS:
            hint = f"{octets} octets of attributes, of which {MAX_GRANTED_OCTETS} fit: "
            return Reject(
                RejectReason.ATTRIBUTES_TOO_LONG, hint + "let group_map name the groups to send"
            )
        return None
