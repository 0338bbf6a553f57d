"""Rules and reply attributes inside a login: what is asked when, and what comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from radius_mfa.authentication.authorization import MAX_GRANTED_OCTETS
from radius_mfa.authentication.login import Attempt, CodeDue, Login, Trace
from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.access import Mode
from radius_mfa.policy.attributes import Encoded, ReplyAttribute, reply_attribute
from radius_mfa.policy.challenge import Prompt
from radius_mfa.policy.decision import Accept, Challenge, Reject, RejectReason
from radius_mfa.policy.groups import Group
from radius_mfa.policy.rules import ClientPolicy, Rule, period
from radius_mfa.protocol.reply_attributes import encoder
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.memory import MemoryDirectory
from tests.support import totp
from tests.unit.authentication.test_login import ACCEPT, NOW, PASSWORD, World, code, wrong

RECOVERY_CODE = "abcdefghjk"

REFUSED = RejectReason.REFUSED_BY_RULE


def reply(**attributes: str) -> tuple[ReplyAttribute, ...]:
    """Return attributes by name, ``Filter_Id`` for Filter-Id, of one value each."""
    names = {name.replace("_", "-"): value for name, value in attributes.items()}
    return tuple(reply_attribute(name, [text], encoder(name)) for name, text in names.items())


STAFF = Rule("staff", group=frozenset({"staff"}), reply=reply(Filter_Id="staff"))
ADMINS = Rule("admins", group=frozenset({"admins"}), mfa=Mode.ALWAYS)
OUT = Rule("out", group=frozenset({"contractors"}), refuse=True)
OPEN = Rule("open", mfa=Mode.OFF)
LOST = Rule("lost", method=frozenset({"recovery_code"}), reply=reply(Session_Timeout="600"))


class Ruled(World):
    """A world with rules at its client asa; keeps nothing of one login for the next."""

    def __init__(
        self,
        *rules: Rule,
        groups: Sequence[str] = (),
        own_groups: Sequence[str] = (),
        attributes: Mapping[str, Sequence[str]] | None = None,
        groups_as: str = "",
        **more: Any,
    ) -> None:
        carrier = reply(**{groups_as: "{group}"})[0] if groups_as else None
        policy = ClientPolicy(rules, carrier)
        super().__init__(**more, policies={"asa": policy})
        known = self.enrolments.enrolments["alice"]
        self.enrolments.enrolments["alice"] = replace(known, groups=tuple(own_groups))
        found = [Group(name, f"cn={name},ou=g") for name in groups]
        self.directory = MemoryDirectory(
            {"alice": PASSWORD, "bob": PASSWORD}, ("corp",), found, attributes or {}
        )

    async def login(self, *typed: Any, **more: Any) -> Accept | RejectReason:
        self.trace = Trace()
        return await super().login(*typed, **more)

    @property
    def granted(self) -> list[bytes]:
        return [one.octets for one in self.outcomes[-1].granted]


async def test_attributes_and_rules_survive_a_challenge() -> None:
    """What was granted goes with the Accept of the second round, and with none of the first."""
    world = Ruled(STAFF, OUT, groups=["staff"])
    given = await world.decided(PASSWORD, prompt=Prompt.AUTO)
    assert isinstance(given, Challenge)
    assert world.granted == []
    world.trace = Trace()
    answer = {"prompt": Prompt.AUTO, "state": given.state.encode()}
    assert await world.login(code(), **answer) == ACCEPT
    assert world.granted == [FILTER_STAFF]
    assert len(world.directory.asked) == 1
    assert await Ruled(OUT, groups=["contractors"]).login(PASSWORD, prompt=Prompt.AUTO) is REFUSED


async def test_a_rule_for_the_method_refuses_in_the_second_round() -> None:
    """By which way a login ends is not known before; the State stays good for another way."""
    no_recovery = Rule("none", method=frozenset({"recovery_code"}), refuse=True)
    world = Ruled(no_recovery, codes=(RECOVERY_CODE,))
    given = await world.decided(PASSWORD, prompt=Prompt.CHALLENGE)
    assert isinstance(given, Challenge)
    answer = {"prompt": Prompt.CHALLENGE, "state": given.state.encode()}
    assert await world.login(RECOVERY_CODE, **answer) is REFUSED
    assert await world.login(code(), **answer) == ACCEPT


FILTER_STAFF = encoder("Filter-Id")("staff").octets


# Refusals


@pytest.mark.parametrize("typed", ["", PASSWORD, "wrong" + wrong(), PASSWORD + wrong()])
async def test_a_rule_refuses_whatever_is_typed_and_nothing_is_counted(typed: str) -> None:
    """Nobody can guess there, and the hours of a rule lock nobody out."""
    world = Ruled(OUT, groups=["contractors"])
    for _ in range(9):
        assert await world.login(typed) is REFUSED
    assert world.hint == "rule out: see radius-mfa policy explain alice --client asa"
    assert world.directory.asked == []
    assert world.outcomes[-1].granted == ()
    world.policies = {}
    assert await world.login(PASSWORD + code()) == ACCEPT


async def test_a_refusal_by_method_comes_after_the_password_and_uses_nothing_up() -> None:
    no_recovery = Rule("none", method=frozenset({"recovery_code"}), refuse=True)
    world = Ruled(no_recovery, codes=(RECOVERY_CODE,))
    assert await world.login("wrong" + RECOVERY_CODE) is RejectReason.WRONG_PASSWORD
    assert await world.login(PASSWORD + RECOVERY_CODE) is REFUSED
    assert world.recovery_codes.used == {}
    assert await world.login(PASSWORD + code()) == ACCEPT


async def test_what_a_rule_requires_and_nobody_has_is_no_accept_and_the_code_still_works() -> None:
    rule = Rule(
        "fixed",
        reply=reply(Filter_Id="x", Framed_IP_Address="{ldap:ip}"),
        required=frozenset({"Framed-IP-Address"}),
    )
    world = Ruled(rule)
    assert await world.login(PASSWORD + code()) is RejectReason.ATTRIBUTE_MISSING
    assert world.hint == (
        "rule fixed requires Framed-IP-Address: the directory has no ip of the user"
    )
    assert world.outcomes[-1].granted == ()
    world.directory = MemoryDirectory({"alice": PASSWORD}, attributes={"ip": ["none at all"]})
    assert await world.login(PASSWORD + code()) is RejectReason.ATTRIBUTE_MISSING
    assert world.hint.endswith("a value of the user is not an IPv4 address")
    world.directory = MemoryDirectory({"alice": PASSWORD}, attributes={"ip": ["192.0.2.9"]})
    assert await world.login(PASSWORD + code()) == ACCEPT
    assert world.granted[1] == encoder("Framed-IP-Address")("192.0.2.9").octets


async def test_ten_thousand_groups_are_no_accept_without_some_of_them() -> None:
    """Bad input: which of them matter only the gateway knows; the code still works."""
    groups = [f"group {number}" for number in range(10_000)]
    world = Ruled(groups=groups, groups_as="Filter_Id")
    assert await world.login(PASSWORD + code()) is RejectReason.ATTRIBUTES_TOO_LONG
    assert f"of which {MAX_GRANTED_OCTETS} fit" in world.hint
    assert "group_map" in world.hint
    policy = world.policies["asa"]
    world.policies = {"asa": replace(policy, group_names={"group 7": "seven"})}
    assert await world.login(PASSWORD + code()) == ACCEPT
    assert world.granted == [encoder("Filter-Id")("seven").octets]


async def test_hidden_values_count_with_what_hiding_adds() -> None:
    secrets = reply_attribute("Tunnel-Password", ["x" * 239] * 16, encoder("Tunnel-Password"))
    world = Ruled(Rule("many", reply=(secrets,)))
    assert await world.login(PASSWORD + code()) is RejectReason.ATTRIBUTES_TOO_LONG


class Silent(MemoryDirectory):
    """A directory that knows passwords, and does not answer what *of* names."""

    of = "groups"

    async def groups(self, user: Identity) -> Sequence[Group]:
        if self.of == "groups":
            raise BackendUnavailable("directory", "hangs")
        return await super().groups(user)

    async def attributes(self, user: Identity, names: Any) -> Mapping[str, Sequence[str]]:
        if self.of == "attributes":
            raise BackendUnavailable("directory", "hangs")
        return await super().attributes(user, names)


MAIL = Rule("mail", reply=reply(Filter_Id="{ldap:mail}", Class="{group}"))


@pytest.mark.parametrize(
    ("rule", "of"),
    [(OUT, "groups"), (STAFF, "groups"), (MAIL, "groups"), (MAIL, "attributes")],
)
async def test_a_directory_that_does_not_answer_is_no_accept_without_its_rule(
    rule: Rule, of: str
) -> None:
    """Rule 9, rule 4: nothing is decided, nothing used up."""
    world = Ruled(rule)
    answering, world.directory = world.directory, Silent({"alice": PASSWORD})
    world.directory.of = of
    with pytest.raises(BackendUnavailable, match="hangs"):
        await world.login(PASSWORD + code())
    world.directory = answering
    assert await world.login(PASSWORD + code()) == ACCEPT


async def test_unknown_and_suspended_users_are_judged_by_no_rule() -> None:
    """Their reason stays what it is, and nobody makes the directory work by guessing names."""
    world = Ruled(OUT, suspended=True)
    assert await world.login(PASSWORD + code()) is RejectReason.USER_SUSPENDED
    assert await world.login(PASSWORD + code(), user="nobody") is RejectReason.UNKNOWN_USER
    assert world.directory.looked_up == []


# What is asked when


@pytest.mark.parametrize(
    ("rules", "typed", "asked"),
    [
        ([], PASSWORD + code(), []),
        ([Rule("else", client=frozenset({"else"})), LOST], PASSWORD + code(), []),
        ([STAFF], PASSWORD + wrong(), []),
        ([STAFF], "wrong" + code(), []),
        ([STAFF], PASSWORD + code(), ["groups"]),
        ([STAFF, STAFF], PASSWORD + code(), ["groups"]),
        ([STAFF, OUT], PASSWORD + wrong(), ["groups"]),
        ([ADMINS], "", ["groups"]),
        ([OPEN, ADMINS], PASSWORD, []),
        ([Rule("m", reply=reply(Class="{ldap:mail}{ldap:uid}"))], "x" + code(), []),
        (
            [Rule("m", reply=reply(Class="{ldap:mail}{ldap:uid}"))],
            PASSWORD + code(),
            ["mail", "uid"],
        ),
        ([Rule("t", time=(period("sat"),), group=frozenset({"x"}), refuse=True)], "", []),
    ],
)
async def test_a_directory_is_asked_only_for_what_a_rule_needs(
    rules: list[Rule], typed: str, asked: list[str]
) -> None:
    """And before the password proved right only for what decides whether a code is needed."""
    world = Ruled(*rules)
    await world.login(typed)
    assert world.directory.looked_up == asked


async def test_a_locked_user_s_request_asks_no_directory() -> None:
    """Rule 2, O13."""
    world = Ruled(OUT)
    for number in range(6):
        await world.login(f"wrong{number}" + wrong())
    world.directory.looked_up.clear()
    assert await world.login(PASSWORD + code()) is RejectReason.ACCOUNT_LOCKED
    assert world.directory.looked_up == []


# Effects


async def test_the_mode_of_a_rule_takes_the_place_of_the_client_s() -> None:
    world = Ruled(ADMINS, OPEN, groups=["admins"])
    assert await world.login(PASSWORD) is RejectReason.WRONG_CODE
    assert await world.login(PASSWORD + code()) == ACCEPT
    world = Ruled(ADMINS, OPEN)
    assert await world.login(PASSWORD) == Accept("password")
    assert world.trace.case is not None
    assert world.trace.case.rule_name == "open"
    unruled = Ruled(ADMINS, OPEN)
    assert await unruled.login(PASSWORD, client="other") is RejectReason.WRONG_CODE


async def test_whose_mode_refuses_is_told() -> None:
    world = Ruled(ADMINS, groups=["admins"], devices=())
    assert await world.login(PASSWORD, mode=Mode.OFF) is RejectReason.NOT_ENROLLED
    assert world.hint == 'rule admins has mfa = "always"'
    world = Ruled(STAFF, groups=["staff"], devices=())
    assert await world.login(PASSWORD, mode=Mode.REQUIRED) is RejectReason.NOT_ENROLLED
    assert world.hint == 'this client has mfa = "required"'


async def test_groups_kept_here_count_like_a_directory_s() -> None:
    world = Ruled(STAFF, own_groups=["STAFF"], groups=["ops"], groups_as="Class")
    assert await world.login(PASSWORD + code()) == ACCEPT
    of_class = [encoder("Class")(name).octets for name in ("ops", "STAFF")]
    assert world.granted == [FILTER_STAFF, *of_class]
    assert world.directory.looked_up == ["groups"]


async def test_who_is_in_no_group_gets_in_without_any() -> None:
    world = Ruled(groups_as="Class")
    assert await world.login(PASSWORD + code()) == ACCEPT
    assert world.granted == []
    assert world.trace.case is not None
    assert world.trace.case.grant.left_out == []


@pytest.mark.parametrize(
    ("typed", "method", "name"),
    [(PASSWORD + code(), "totp", "rest"), (PASSWORD + RECOVERY_CODE, "recovery_code", "lost")],
)
async def test_a_rule_may_go_by_how_the_login_proved_itself(
    typed: str, method: str, name: str
) -> None:
    rest = Rule("rest", reply=reply(Session_Timeout="28800"))
    world = Ruled(LOST, rest, codes=(RECOVERY_CODE,))
    assert await world.login(typed) == Accept(method)
    assert world.trace.case is not None
    assert world.trace.case.rule_name == name
    seconds = {"rest": "28800", "lost": "600"}[name]
    assert world.granted == [encoder("Session-Timeout")(seconds).octets]


async def test_hours_are_those_of_the_time_zone() -> None:
    by_day = Rule("by day", time=(period("22:00-23:00"),))  # NOW is 22:13 in UTC
    world = Ruled(by_day, replace(OUT, group=frozenset()))
    assert await world.login(PASSWORD + code()) == ACCEPT
    later = NOW + 3600
    assert await world.login(PASSWORD + totp.code(at=later), now=later) is REFUSED


# A code that comes later


async def test_a_password_alone_whose_code_is_due_is_granted_nothing_yet() -> None:
    """What it proved is not how the login will have proved itself."""
    alone = Rule("alone", method=frozenset({"password"}), refuse=True)
    world = Ruled(alone, STAFF, groups=["staff"])
    attempt = Attempt("asa", "alice", PASSWORD.encode(), b"first")
    login = Login(
        world.attempts,
        world.enrolments,
        world.directory,
        world.recovery_codes,
        digest_key=b"k" * 32,
        policies=world.policies,
    )
    assert isinstance(await login.decide_password(attempt, NOW, Trace()), CodeDue)
    assert world.directory.looked_up == []
    second = replace(attempt, typed=code().encode(), packet=b"second", password_proven=True)
    outcome = await login.decide(second, NOW, Trace())
    assert outcome.decision == ACCEPT
    assert [one.octets for one in outcome.granted] == [FILTER_STAFF]
    unenrolled = replace(second, mode=Mode.OFF, password_proven=False, packet=b"third")
    refused = await login.decide(replace(unenrolled, typed=PASSWORD.encode()), NOW, Trace())
    assert isinstance(refused.decision, Reject)
    assert refused.decision.reason is REFUSED


async def test_the_portal_is_no_client_even_where_one_has_its_name() -> None:
    world = Ruled(replace(OUT, group=frozenset()))
    assert await world.login(PASSWORD + code(), mode=None) == ACCEPT
    assert world.trace.case is None


# The same login once more


@pytest.mark.parametrize("enrolment_is_cached", [True, False])
async def test_a_repeated_packet_gets_its_attributes_again(enrolment_is_cached: bool) -> None:  # noqa: FBT001 - a case
    """Attributes survive every path to an Accept: at another node, or after the cache is gone."""
    world = Ruled(STAFF, groups=["staff"], groups_as="Class")
    first = await world.login(PASSWORD + code(), packet=b"same")
    granted = world.granted
    assert granted[0] == FILTER_STAFF
    if not enrolment_is_cached:
        world.attempts._users["alice"].enrolment = None
    assert await world.login(PASSWORD + code(), packet=b"same") == first
    assert world.outcomes[-1].shared
    assert world.granted == granted
    world.policies = {"asa": ClientPolicy((replace(OUT, group=frozenset()),))}
    assert await world.login(PASSWORD + code(), packet=b"same") is REFUSED
    assert world.granted == []


def test_no_repr_of_a_grant_shows_a_value() -> None:
    """Rule 8."""
    assert "canary" not in repr([Encoded(b"canary", b"canary"), *reply(Class="canary")])
