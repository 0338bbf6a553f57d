"""Access-Challenge between real servers on one Redis: password here, code there, once.

radclient, a client written by others, reads what the challenge holds.
"""

import base64
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_CHALLENGE,
    ACCESS_REJECT,
    CALLING_STATION_ID,
    MESSAGE_AUTHENTICATOR,
    PROMPT,
    PROXY_STATE,
    REPLY_MESSAGE,
    STATE,
    Nas,
    Reply,
    radclient,
)
from tests.support.redis import RealRedis
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, eventually

Nodes = tuple[RunningServer, RunningServer]

ENGLISH = "Enter the code from your authenticator app: "
LONG = "Zadejte kód z ověřovací aplikace. " * 5 + "Děkujeme!"
AUTO, CHALLENGE, OPENVPN = "127.0.0.1", "127.0.0.12", "127.0.0.13"
CLIENTS = [
    {"name": "auto", "address": AUTO, "prompt": "auto"},
    {"name": "challenge", "address": CHALLENGE, "prompt": "challenge", "language": "cs"},
    {"name": "openvpn", "address": OPENVPN, "prompt": "auto", "static_challenge": True},
]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two servers, each with a port of its own, and all else shared."""
    with RealRedis() as redis:
        sections = {
            "redis": {"url": redis.url},
            "challenge": {"texts": {"cs": LONG}},
            "radius": {"listen": ["127.0.0.1:0"], "reject_delay_seconds": 0.3},
        }
        with Site(tmp_path_factory.mktemp("challenge"), sections, CLIENTS) as site:
            site.add_spare_users(30)
            yield site.start(), site.start()
            site.canaries |= set(GIVEN)


GIVEN: list[str] = []
"""Every State that the tests saw: none may stand in a log."""


@dataclass
class Conversation:
    """One user's login, round by round; each round may go to another node."""

    nodes: Nodes
    user: str
    source: str = AUTO
    fields: list[tuple[int, bytes]] = field(default_factory=list)
    state: bytes = b""

    def password(self, typed: str = PASSWORD, node: int = 0) -> Reply:
        return self._asked(typed, node, [])

    def answer(self, typed: str, node: int = 0, state: bytes = b"") -> Reply:
        return self._asked(typed, node, [(STATE, state or self.state)])

    def _asked(self, typed: str, node: int, more: Sequence[tuple[int, bytes]]) -> Reply:
        with self.nodes[node].nas(self.source) as nas:
            return self.heard(nas.login(self.user, typed, [*self.fields, *more]))

    def heard(self, reply: Reply) -> Reply:
        """Keep the State of a challenge."""
        if reply.code == ACCESS_CHALLENGE:
            [self.state] = reply.all(STATE)
            GIVEN.append(self.state.decode())
        return reply

    def reason(self, node: int = 0) -> str:
        """Return why the last login of this user was rejected."""
        line = self.nodes[node].line("login.rejected", user=self.user)
        assert line.get("hint") or not line["reason"].startswith("state_")
        return str(line["reason"])


@pytest.fixture
def talk(nodes: Nodes) -> Conversation:
    return Conversation(nodes, nodes[0].site.fresh_user())


def test_c01_what_a_challenge_holds(talk: Conversation) -> None:
    """C01: the signature, the text, one State, Prompt = No-Echo, Proxy-State as it came."""
    proxied = [(PROXY_STATE, b"one"), (PROXY_STATE, b"two")]
    talk.fields = [*proxied, (CALLING_STATION_ID, b"203.0.113.7")]
    reply = talk.password()
    assert reply.code == ACCESS_CHALLENGE
    kinds = [MESSAGE_AUTHENTICATOR, REPLY_MESSAGE, STATE, PROMPT, PROXY_STATE, PROXY_STATE]
    assert [number for number, _ in reply.attributes] == kinds
    assert reply.all(REPLY_MESSAGE) == [ENGLISH.encode()]
    assert reply.all(PROMPT) == [bytes(4)]
    assert reply.attributes[-2:] == proxied
    assert re.fullmatch(rb"[A-Za-z0-9_-]{52}", talk.state)
    line = talk.nodes[0].line("login.challenged", user=talk.user)
    assert (line["nas"], line["canonical_user"]) == ("auto", talk.user)
    assert not {"reason", "hint", "method"} & line.keys()
    assert talk.answer(totp.code()).code == ACCESS_ACCEPT


def test_c09_a_long_text_in_the_clients_language(talk: Conversation) -> None:
    """C09: attributes of at most 253 octets, each UTF-8 by itself, in order."""
    talk.source = CHALLENGE
    texts = talk.password().all(REPLY_MESSAGE)
    assert len(texts) == 1 + (len(LONG.encode()) > 253)
    assert "".join(text.decode() for text in texts) == LONG


def test_c05_c07_password_at_one_node_and_code_at_the_other(talk: Conversation) -> None:
    """C05, C07: another Identifier, authenticator, port and server; the answer is as good."""
    assert talk.password(node=0).code == ACCESS_CHALLENGE
    wrong = talk.answer(totp.wrong_code(), node=1)
    assert wrong.code == ACCESS_CHALLENGE
    assert talk.nodes[1].line("login.challenged", user=talk.user)["reason"] == "wrong_code"
    assert talk.nodes[0].site.failures(talk.user) == 1
    reply = talk.answer(totp.code(), node=0)
    assert (reply.code, reply.attributes[1:]) == (ACCESS_ACCEPT, [])
    assert talk.nodes[0].site.failures(talk.user) == 0


def test_a_wrong_answer_that_is_asked_for_again_is_in_the_history(talk: Conversation) -> None:
    """Or else guesses at codes would show in the log alone."""
    talk.password()
    talk.answer(totp.wrong_code())

    def told() -> str:
        return talk.nodes[0].site.cli("explain", talk.user, "--json").out

    shown = eventually(lambda: "wrong_code" in (said := told()) and said, "the history")
    logins = [(one["result"], one["reason"]) for one in json.loads(shown)]
    assert logins == [("challenged", ""), ("challenged", "wrong_code")]


def test_in_auto_password_and_code_are_one_login(talk: Conversation) -> None:
    """And with a wrong code they are a wrong password, which gets no challenge (C08)."""
    wrong = talk.password(PASSWORD + totp.wrong_code())
    assert (wrong.code, talk.reason()) == (ACCESS_REJECT, "wrong_password")
    assert talk.password(PASSWORD + totp.code()).code == ACCESS_ACCEPT


def test_d08_a_challenge_repeated(talk: Conversation) -> None:
    """D08: the same octets from this node; from the other one the same State and text."""
    with talk.nodes[0].nas() as nas, talk.nodes[1].nas() as other:
        packet = nas.access_request(talk.user, PASSWORD)
        first = talk.heard(nas.ask(packet))
        assert nas.ask(packet).octets == first.octets
        again = other.ask(packet)
        assert again.attributes[1:] == first.attributes[1:]
        assert talk.nodes[1].line("login.challenged", user=talk.user)["verdict"]
        answer = nas.access_request(talk.user, totp.wrong_code(), [(STATE, talk.state)])
        second = talk.heard(nas.ask(answer))
        assert nas.ask(answer).octets == second.octets
        assert other.ask(answer).attributes[1:] == second.attributes[1:]
        assert talk.nodes[0].site.failures(talk.user) == 1, "D07: counted once"
        last = nas.access_request(talk.user, totp.code(), [(STATE, talk.state)])
        assert nas.ask(last).code == ACCESS_ACCEPT
        assert other.ask(last).code == ACCESS_ACCEPT, "D06: the same verdict"


def test_c06_wrong_answers_are_bounded_and_wait_as_rejects_do(talk: Conversation) -> None:
    """C06, A14: a guesser gets no quicker answer for being asked again."""
    assert talk.password().code == ACCESS_CHALLENGE
    for left, expected in enumerate([ACCESS_CHALLENGE, ACCESS_CHALLENGE, ACCESS_REJECT]):
        began = time.monotonic()
        assert talk.answer(totp.wrong_code()).code == expected, left
        assert time.monotonic() - began >= 0.3
    assert talk.answer(totp.code()).code == ACCESS_REJECT
    assert talk.reason() == "state_used"


BAD_STATES = {
    "forged": ("state_forged", b"A" * 52),
    "short": ("state_forged", b"x"),
    "a NUL in it": ("state_forged", b"\0" * 52),
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_c04_a_forged_state(talk: Conversation, name: str) -> None:
    """C04, rule 7: a reject like any other, though the field is a good login; nothing is lost."""
    reason, state = BAD_STATES[name]
    talk.password()
    good = PASSWORD + totp.code()
    refused = talk.answer(good, state=state)
    assert refused.code == ACCESS_REJECT
    assert refused.attributes[1:] == [(REPLY_MESSAGE, b"Access denied")]
    assert talk.reason() == reason
    assert talk.nodes[0].site.failures(talk.user) == 0
    assert talk.answer(totp.code()).code == ACCESS_ACCEPT


def test_c04_a_foreign_state(nodes: Nodes, talk: Conversation) -> None:
    """C04: another user's, at another client, from another station: refused, and stays good."""
    talk.fields = [(CALLING_STATION_ID, b"203.0.113.7")]
    talk.password()
    code = totp.code()
    stranger = Conversation(nodes, nodes[0].site.fresh_user(), AUTO, talk.fields, talk.state)
    elsewhere = Conversation(nodes, talk.user, CHALLENGE, talk.fields, talk.state)
    moved = Conversation(nodes, talk.user, AUTO, [(CALLING_STATION_ID, b"x")], talk.state)
    for thief in (stranger, elsewhere, moved):
        assert thief.answer(code, node=1).code == ACCESS_REJECT
        assert thief.reason(node=1) == "state_foreign"
    talk.fields = [(CALLING_STATION_ID, b"203.0.113.7[4500]")]
    assert talk.answer(code).code == ACCESS_ACCEPT, "the same station in another form"


def test_c03_a_used_state(talk: Conversation) -> None:
    """C03: whatever is typed with it, and on which node."""
    talk.password()
    used = talk.state
    assert talk.answer(totp.code()).code == ACCESS_ACCEPT
    for node in (0, 1):
        assert talk.answer(totp.code(offset=1), node, used).code == ACCESS_REJECT
        assert talk.reason(node) == "state_used"
    assert talk.password(PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT


@pytest.mark.parametrize("attempt", range(3))
def test_c03_two_answers_at_once_are_one_accept(talk: Conversation, attempt: int) -> None:
    """C03, O05: twenty packets with one State and one code, at two nodes: exactly one gets in."""
    talk.password(node=attempt % 2)
    code = totp.code()
    with ExitStack() as stack:
        nases = [
            stack.enter_context(Nas(talk.nodes[number % 2].address, SECRET.encode()))
            for number in range(20)
        ]
        packets = [nas.access_request(talk.user, code, [(STATE, talk.state)]) for nas in nases]
        for nas, packet in zip(nases, packets, strict=True):
            nas.send(packet)
        replies = [nas.receive(packet) for nas, packet in zip(nases, packets, strict=True)]
    assert Counter(reply.code for reply in replies) == {ACCESS_ACCEPT: 1, ACCESS_REJECT: 19}
    reasons = {
        line["reason"] for n in talk.nodes for line in n.lines("login.rejected", user=talk.user)
    }
    assert reasons == {"state_used"}
    assert talk.nodes[0].site.failures(talk.user) == 0


def test_a_change_in_between_wins(talk: Conversation) -> None:
    """A device that is reset: the command line's word is the last."""
    site = talk.nodes[0].site
    talk.password()
    assert site.cli("user", "reset", talk.user, "--yes").exit_code == 0
    assert talk.answer(totp.code()).code == ACCESS_REJECT
    assert talk.reason() == "state_void"


def test_a_lock_in_between_wins(talk: Conversation) -> None:
    """C08, O13: the reject is the same, the code is not consumed, and nobody else is locked."""
    talk.password()
    for number in range(5):
        assert talk.password(f"wrong {number}").code == ACCESS_REJECT
    code = totp.code()
    assert talk.answer(code).code == ACCESS_REJECT
    assert talk.reason() == "account_locked"
    talk.nodes[0].site.with_stores(lambda stores: stores.attempts.unlock(talk.user))
    assert talk.password(PASSWORD + code).code == ACCESS_ACCEPT


def test_redis_dies_between_the_rounds(site: Site) -> None:
    """Rule 9: no reply while it is away, and then the answer is as good as before."""
    with RealRedis("--appendonly", "yes") as redis:
        site.sections = {"redis": {"url": redis.url}}
        site.clients = CLIENTS[:1]
        site.write_config()
        site.add_users(["alice"])
        server = site.start()
        talk = Conversation((server, server), "alice")
        talk.password()
        redis.stop()
        with server.nas() as nas:
            answer = nas.access_request("alice", totp.code(), [(STATE, talk.state)])
            nas.send(answer)
            assert nas.replies(0.5) == []
            redis.start()
            assert nas.repeat(answer).code == ACCESS_ACCEPT
        assert server.line("login.unanswered")["backend"] == "redis"
        talk.password()
        with redis.client as client:
            client.flushall()
        assert eventually(lambda: server.lines("redis.memory_lost"), "the loss to be seen")
        assert talk.answer(totp.code(offset=1)).code == ACCESS_REJECT
        assert talk.reason() == "state_foreign", "whose hint speaks of Redis, too"


def test_openvpns_static_challenge(talk: Conversation) -> None:
    """SCRV1 is taken apart, and gets no challenge, which OpenVPN could not answer."""
    talk.source = OPENVPN
    in_base64 = "Y2FuYXJ5LXBhc3N3b3Jk"
    talk.nodes[0].site.canaries.add(in_base64)
    for code, expected in ((totp.wrong_code(), ACCESS_REJECT), (totp.code(), ACCESS_ACCEPT)):
        word = base64.b64encode(code.encode()).decode()
        assert talk.password(f"SCRV1:{in_base64}:{word}").code == expected
    assert talk.reason() == "wrong_code"


def test_sshds_refused_user_is_not_counted(talk: Conversation) -> None:
    """The text that sshd sends for them never reaches a directory, nor the lockout."""
    for _ in range(7):
        assert talk.password("\b\n\r\x7fINCORRECT").code == ACCESS_REJECT
    assert talk.reason() == "refused_by_nas"
    assert talk.nodes[0].site.failures(talk.user) == 0
    assert talk.password().code == ACCESS_CHALLENGE


def asked(server: RunningServer, request: str, *options: str) -> tuple[list[str], dict[str, str]]:
    done = radclient(server.address, request, SECRET, *options)
    return done.received, dict(line.split(" = ", 1) for line in done.attributes)


def test_radclient_in_two_steps(talk: Conversation) -> None:
    """C01, C05: FreeRADIUS's client takes the challenge, and its State by hand."""
    server = talk.nodes[0]
    codes, attributes = asked(
        server, f'User-Name = "{talk.user}", User-Password = "{PASSWORD}"', "-r", "3"
    )
    assert codes == ["Access-Challenge"]
    assert attributes.keys() == {"Reply-Message", "State", "Prompt"}
    assert attributes["Reply-Message"] == f'"{ENGLISH}"'
    assert attributes["Prompt"] == "No-Echo"
    state = attributes["State"]
    again = f'User-Name = "{talk.user}", User-Password = "{{}}", State = {state}'
    codes, attributes = asked(server, again.format(totp.wrong_code()))
    assert (codes, attributes["State"] != state) == (["Access-Challenge"], True)
    fresh = again.replace(state, attributes["State"])
    assert asked(server, fresh.format(totp.code())) == (["Access-Accept"], {})
    assert asked(server, fresh.format(totp.code()))[0] == ["Access-Reject"]


def test_metrics_and_log_know_a_challenge(site: Site) -> None:
    """An operator's graphs tell a question from a login, and both kinds of question."""
    site.clients = CLIENTS[:1]
    site.serve_metrics()
    site.add_users(["alice"])
    server = site.start()
    talk = Conversation((server, server), "alice")
    talk.password()
    talk.answer(totp.wrong_code())
    talk.answer(totp.code())

    def logins(result: str, reason: str) -> float:
        return server.metric("radius_mfa_logins_total", result=result, reason=reason)

    assert [logins("challenge", ""), logins("challenge", "wrong_code")] == [1, 1]
    assert [logins("accept", ""), logins("reject", "wrong_code")] == [1, 0]
