"""``radius-mfa client test`` against real servers: sound ones pass, each fault has its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import totp
from tests.support.server import PASSWORD, Finished, RunningServer, Site

STRANGERS = ["proxy_state", "status_server", "message_authenticator"]
LOGIN = ["login", "retransmission", "used_code", "wrong_code"]


def served(site: Site, program: str = "") -> RunningServer:
    """Start a server, and write the port it got into its configuration."""
    server = site.start(program)
    host, port = server.address
    site.sections = {**site.sections, "radius": {"listen": [f"{host}:{port}"]}}
    site.write_config()
    return server


def endpoint(server: RunningServer) -> str:
    return f"{server.address[0]}:{server.address[1]}"


def played(site: Site, *words: str, typed: str = "", name: str = "nas") -> Finished:
    return site.cli("client", "test", name, "--timeout", "3", *words, text=f"{typed}\n")


def results(done: Finished) -> dict[str, str]:
    """Return the result of each check, from the JSON."""
    return {check["name"]: check["result"] for check in json.loads(done.out)["checks"]}


def failures(done: Finished) -> dict[str, Any]:
    """Return the checks that failed, by name; the exit code goes with them."""
    failed = {c["name"]: c for c in json.loads(done.out)["checks"] if c["result"] == "fail"}
    assert done.exit_code == bool(failed), done.err
    assert json.loads(done.out)["passed"] is not bool(failed)
    assert all(check["cure"] for check in failed.values())
    return failed


def test_a_sound_server_passes_with_one_code(site: Site) -> None:
    """Readable in 80 columns; one login, one retransmission, and two failures counted."""
    site.add_users(["alice"])
    server = served(site)
    done = played(site, "--user", "alice", typed=PASSWORD + totp.code())
    assert done.exit_code == 0, done.out + done.err
    host, port = server.address
    assert done.out.splitlines() == [
        f"Playing nas, from 127.0.0.1, against {host} port {port}.",
        "",
        "pass     A reject carries every Proxy-State back",
        "pass     Status-Server is answered",
        "pass     A request without Message-Authenticator gets no reply",
        "pass     A good login is accepted",
        "pass     A retransmission gets the same octets back",
        "pass     The used code is refused to another login",
        "pass     A wrong code is rejected",
        "",
        "7 passed, 0 failed.",
    ]
    assert len(server.lines("login.accepted")) == 1
    assert len(server.lines("reply.resent")) == 1
    reasons = [line["reason"] for line in server.lines("login.rejected")]
    assert reasons == ["unknown_user", "code_replayed", "wrong_code"]
    assert [line["reason"] for line in server.lines("packet.discarded")] == [
        "missing_message_authenticator"
    ]
    assert site.failures("alice") == 2


def test_without_a_user_what_needs_none_is_tested_and_nothing_is_asked(site: Site) -> None:
    served(site)
    done = played(site)
    assert done.exit_code == 0
    assert done.out.count("needs a login: --user USER") == 1
    assert done.out.endswith("\n3 passed, 0 failed, 4 skipped.\n")
    assert results(played(site, "--json")) == {
        **dict.fromkeys(STRANGERS, "pass"),
        **dict.fromkeys(LOGIN, "skip"),
    }


KINDS: list[dict[str, Any]] = [
    {"require_message_authenticator": False},
    {"require_message_authenticator": False, "limit_proxy_state": True},
    {"status_server": False},
    {"failover_grace_seconds": 15},
    {"code_position": "start", "separator": ":"},
]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with a client of each kind, at 127.0.0.10 and on."""
    clients = [
        {"name": f"kind{number}", "address": f"127.0.0.{10 + number}", **kind}
        for number, kind in enumerate(KINDS)
    ]
    with Site(tmp_path_factory.mktemp("kinds"), clients=clients) as site:
        site.add_users(f"user{number}" for number in range(len(KINDS)))
        served(site)
        yield site


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_what_passes_is_what_the_client_s_settings_say(kinds: Site, number: int) -> None:
    typed = PASSWORD + totp.code()
    if "separator" in KINDS[number]:
        typed = f"{totp.code()}:{PASSWORD}"
    words = ("--source", f"127.0.0.{10 + number}", "--user", f"user{number}", "--json")
    done = played(kinds, *words, typed=typed, name=f"kind{number}")
    found = results(done)
    assert set(found.values()) == {"pass"}, done.out
    assert ("limit_proxy_state" in found) == ("limit_proxy_state" in KINDS[number])
    assert ("used_code" in found) == ("failover_grace_seconds" not in KINDS[number])


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"require_message_authenticator": False}, {"message_authenticator"}),
        ({"status_server": False}, {"status_server"}),
        ({"secret": "another-secret-than-the-server-has"}, {"proxy_state"}),
    ],
)
def test_a_server_that_was_not_restarted_is_told(
    site: Site, change: dict[str, Any], failed: set[str]
) -> None:
    """It goes by what it read at its start; after a first silence nothing waits any more."""
    served(site)
    site.clients = [{**site.clients[0], **change}]
    site.write_config()
    done = played(site, "--json")
    told = failures(done)
    assert set(told) == failed
    assert "estart" in "".join(check["cure"] for check in told.values())
    if "secret" in change:
        assert set(results(done).values()) == {"fail", "skip"}


LETS_IN = """
from radius_mfa.policy.decision import Accept
from radius_mfa.server import handler
true_reply = handler.decision_reply
def decision_reply(request, secret, decision, message, **more):
    return true_reply(request, secret, Accept("fault"), message, **more)
handler.decision_reply = decision_reply
"""

REORDERS = """
from radius_mfa.protocol import wire
true_all = wire.Packet.all
wire.Packet.all = lambda self, number: true_all(self, number)[::-1]
"""

FORGETS = """
from radius_mfa.protocol.duplicates import DuplicateCache
true_begin = DuplicateCache.begin
def begin(self, source, authenticator, now):
    self._entries.pop(source, None)
    return true_begin(self, source, b"x" + authenticator, now)
DuplicateCache.begin = begin
from radius_mfa.server import handler
true_attempt = handler._attempt
def attempt(packet, nas, request, source):
    from dataclasses import replace
    import os
    return replace(true_attempt(packet, nas, request, source), packet=os.urandom(9), session_id="")
handler._attempt = attempt
"""


@pytest.mark.parametrize(
    ("program", "failed"),
    [
        (LETS_IN, {"proxy_state", "used_code", "wrong_code"}),
        (REORDERS, {"proxy_state"}),
        (FORGETS, {"retransmission"}),
    ],
    ids=["lets everyone in", "reorders Proxy-State", "forgets its replies"],
)
def test_a_faulty_server_fails_where_it_is_faulty(
    site: Site, program: str, failed: set[str]
) -> None:
    """The checks can fail: each fault is found, and no other check blames it."""
    site.add_users(["alice"])
    served(site, program)
    done = played(site, "--user", "alice", "--json", typed=PASSWORD + totp.code())
    assert set(failures(done)) == failed


@pytest.mark.parametrize("typed", ["x" + PASSWORD, PASSWORD[:-1]])
def test_a_login_that_is_refused_says_what_to_look_at_and_tries_nothing_on_top(
    site: Site, typed: str
) -> None:
    site.add_users(["alice"])
    server = served(site)
    done = played(site, "--user", "alice", "--json", typed=typed + totp.code())
    told = failures(done)
    assert set(told) == {"login"}
    assert told["login"]["detail"] == "the server answers Access-Reject"
    assert "login.rejected" in told["login"]["cure"]
    assert [results(done)[name] for name in LOGIN[1:]] == ["skip"] * 3
    assert len(server.lines("login.rejected", user="alice")) == 1
    assert PASSWORD not in done.out + done.err


# Two nodes


def second_site(site: Site, folder: Path, **sections: Any) -> Site:
    """Return the configuration of a second node, which has the same key ring and clients."""
    second = Site(folder, sections, clients=site.clients)
    (second.data / "keyring").write_bytes((site.data / "keyring").read_bytes())
    return second


def test_a_second_node_of_the_same_cluster_passes(site: Site, tmp_path: Path) -> None:
    site.add_users(["alice"])
    served(site)
    shared = {
        "redis": {"url": f"unix://{site.data}/redis.sock"},
        "database": {"url": f"sqlite:///{site.data}/radius-mfa.db"},
    }
    with second_site(site, tmp_path / "second", **shared) as second:
        there = second.start()
        words = ("--user", "alice", "--also", endpoint(there), "--json")
        done = played(site, *words, typed=PASSWORD + totp.code())
        assert done.exit_code == 0, done.out
        assert results(done) == dict.fromkeys(
            [*STRANGERS, *LOGIN, "second_node", "second_node_used_code"], "pass"
        )
        assert [line["verdict"] for line in there.lines("login.accepted")] == [
            "shared with an earlier packet of the same login"
        ]


def test_a_second_node_with_a_memory_of_its_own_fails(site: Site, tmp_path: Path) -> None:
    """There the code works once more: the one fault that two nodes apart can't see."""
    site.add_users(["alice"])
    served(site)
    with Site(tmp_path / "second") as second:
        second.add_users(["alice"])
        there = second.start()
        words = ("--user", "alice", "--also", endpoint(there))
        done = played(site, *words, "--json", typed=PASSWORD + totp.code())
        assert set(failures(done)) == {"second_node", "second_node_used_code"}
        assert len(there.lines("login.accepted")) == 1


def test_a_second_node_that_is_not_there_fails_alone(site: Site) -> None:
    site.add_users(["alice"])
    served(site)
    words = ("--user", "alice", "--also", "127.0.0.1:1", "--json")
    told = failures(played(site, *words, typed=PASSWORD + totp.code()))
    assert set(told) == {"second_node", "second_node_used_code"}
    assert "nothing listens there" in told["second_node"]["detail"]


# What can't be played


def test_without_a_server_the_first_check_says_so_and_nothing_is_asked(site: Site) -> None:
    site.sections = {"radius": {"listen": ["127.0.0.1:1"]}}
    site.write_config()
    done = played(site, "--user", "alice", "--json")
    assert set(failures(done)) == {"proxy_state"}
    assert set(results(done).values()) == {"fail", "skip"}


@pytest.mark.parametrize(
    ("words", "error", "cure"),
    [
        (("far",), "127.0.0.1 is client near's, far's is 192.0.2.1", "client test near"),
        (("near", "--source", "127.0.0.9"), "127.0.0.9 is no client's, near's is 127.0.0.1",
         "client add here 127.0.0.9, restart the server, and radius-mfa client test here"),
        (("far", "--source", "192.0.2.1"), "this machine can't send from 192.0.2.1", "ip address"),
        (("none",), "there is no client none", "radius-mfa client list"),
        (("near", "--user", "x" * 254), "User-Name must have 1 to 253 octets", ""),
    ],
)  # fmt: skip
def test_a_client_that_this_machine_is_not_is_refused_with_the_cure(
    site: Site, words: tuple[str, ...], error: str, cure: str
) -> None:
    """Before anything is sent: the server would discard it without a word."""
    site.sections = {"radius": {"listen": ["127.0.0.1:1"]}}
    site.clients = [
        {"name": "near", "address": "127.0.0.1"},
        {"name": "far", "address": "192.0.2.1"},
    ]
    site.write_config()
    done = site.cli("client", "test", *words)
    assert done.exit_code == 1
    assert error in done.err
    assert cure in done.err
    assert not done.out


def test_lines_fit_into_80_columns(site: Site) -> None:
    """On a terminal and in a pipe alike."""
    site.add_users(["alice"])
    served(site, LETS_IN)
    done = played(site, "--user", "alice", typed=PASSWORD + totp.code())
    assert done.out.count("FAIL") == 3
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("prompt", ["auto", "challenge"])
def test_a_login_in_two_rounds(site: Site, tmp_path: Path, prompt: str) -> None:
    """What is right and what has to be refused, with one password and one code, on two nodes."""
    site.clients = [{"name": "nas", "address": "127.0.0.1", "prompt": prompt}]
    site.write_config()
    site.add_users(["alice"])
    server = served(site)
    shared = {
        "redis": {"url": f"unix://{site.data}/redis.sock"},
        "database": {"url": f"sqlite:///{site.data}/radius-mfa.db"},
    }
    with second_site(site, tmp_path / "second", **shared) as second:
        words = ("--user", "alice", "--json", "--also", endpoint(second.start()))
        done = played(site, *words, typed=f"{PASSWORD}\n{totp.code()}")
    expected = [*STRANGERS, "login", "retransmission", "used_code"]
    expected += ["second_node_used_code", "second_node", "wrong_code"]
    assert results(done) == dict.fromkeys(expected, "pass")
    assert len(server.lines("login.accepted")) == 1
    asked_again = [line.get("reason") for line in server.lines("login.challenged")]
    assert asked_again == [None, None, "code_replayed", None, "wrong_code"]


def test_radius_mfa_test_answers_a_challenge(site: Site) -> None:
    """`radius-mfa test`: line by line of what is piped in, or of a file; without more, it ends."""
    site.clients = [{"name": "nas", "address": "127.0.0.1", "prompt": "auto"}]
    site.write_config()
    site.add_users(["alice"])
    served(site)
    alone = site.cli("test", "alice", text=f"{PASSWORD}\n")
    assert (alone.exit_code, alone.out.split()[0]) == (1, "Access-Challenge")
    wrong = f"{PASSWORD}\n{totp.wrong_code()}\n"
    done = site.cli("test", "alice", text=f"{wrong}{totp.code()}\n")
    assert (done.exit_code, done.out.strip()) == (0, "Access-Accept")
    file = site.folder / "typed"
    file.write_text(f"{wrong}{totp.wrong_code()}\n{totp.wrong_code()}\n", "ascii")
    done = site.cli("test", "alice", "--json", "--password-file", str(file))
    assert (done.exit_code, json.loads(done.out)["code"]) == (1, "Access-Reject")
