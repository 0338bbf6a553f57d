"""What radclient can't send: Message-Authenticator in every state, Proxy-State, Status-Server."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCESS_REQUEST,
    CHAP_PASSWORD,
    EAP_MESSAGE,
    MESSAGE_AUTHENTICATOR,
    PROXY_STATE,
    REPLY_MESSAGE,
    USER_NAME,
    USER_PASSWORD,
    Attributes,
    Nas,
    encode,
    hide,
    signed,
)
from tests.support.server import PASSWORD, SECRET, RunningServer, Site

STRICT, LENIENT, LIMITED, QUIET = (f"127.0.0.{host}" for host in (1, 11, 12, 13))

CLIENTS = [
    {"name": "strict", "address": STRICT},
    {"name": "lenient", "address": LENIENT, "require_message_authenticator": False},
    {
        "name": "limited",
        "address": LIMITED,
        "require_message_authenticator": False,
        "limit_proxy_state": True,
    },
    {"name": "quiet", "address": QUIET, "status_server": False},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a client for each policy of Message-Authenticator."""
    with Site(tmp_path_factory.mktemp("packets"), clients=CLIENTS) as site:
        site.add_spare_users(40)
        yield site.start()


@pytest.fixture
def user(server: RunningServer) -> str:
    return server.site.fresh_user()


def assert_untouched(server: RunningServer, nas: Nas, user: str, code: str) -> None:
    """Nothing was counted or logged against *user*, and *code* is still good."""
    assert server.site.failures(user) == 0
    assert server.lines("login.accepted", user=user) == []
    assert server.lines("login.rejected", user=user) == []
    assert nas.login(user, PASSWORD + code).code == ACCESS_ACCEPT


# Message-Authenticator


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_valid_message_authenticator_may_stand_anywhere(
    server: RunningServer, user: str, place: str
) -> None:
    """B06, P10."""
    with server.nas(STRICT) as nas:
        request = nas.access_request(user, PASSWORD + totp.code(), message_authenticator=place)
        assert nas.ask(request).code == ACCESS_ACCEPT


def test_a_missing_message_authenticator_is_silent_by_default(
    server: RunningServer, user: str
) -> None:
    """B03, B13: required unless a client says otherwise; the log says what to do."""
    code = totp.code()
    with server.nas(STRICT) as nas:
        nas.assert_silent(nas.access_request(user, PASSWORD + code, message_authenticator="none"))
        line = server.line("packet.discarded", reason="missing_message_authenticator")
        assert "require_message_authenticator = false" in line["hint"]
        assert_untouched(server, nas, user, code)


def test_a_client_may_be_allowed_to_send_none(server: RunningServer, user: str) -> None:
    """B03: the reply is signed all the same; the start-up log warns of it."""
    with server.nas(LENIENT) as nas:
        request = nas.access_request(
            user,
            PASSWORD + totp.code(),
            [(PROXY_STATE, b"via a proxy")],
            message_authenticator="none",
        )
        assert nas.ask(request).code == ACCESS_ACCEPT
    warned = {line["nas"] for line in server.lines("client.message_authenticator_optional")}
    assert warned == {"lenient", "limited"}


@pytest.mark.parametrize("source", [STRICT, LENIENT, LIMITED])
def test_a_wrong_message_authenticator_is_silent_and_changes_nothing(
    server: RunningServer, user: str, source: str
) -> None:
    """B01, D05: no failure, no code, no cache entry: the true request of the same triple works.

    Nor does the client's leniency matter: what is wrong is not as good as absent.
    """
    typed, authenticator = PASSWORD + totp.code(), os.urandom(16)
    with server.nas(source) as nas:
        forged, true = (
            nas.access_request(
                user,
                typed,
                identifier=200,
                authenticator=authenticator,
                message_authenticator=kind,
            )
            for kind in ("wrong", "first")
        )
        wrong_password = nas.access_request(user, "x" + typed, message_authenticator="wrong")
        nas.assert_silent(forged, wrong_password)
        assert server.site.failures(user) == 0
        assert nas.ask(true).code == ACCESS_ACCEPT
    accepted = server.lines("login.accepted", user=user)
    assert len(accepted) == 1
    assert accepted[0]["duplicates"] == 0


def test_a_flipped_bit_anywhere_is_silent(server: RunningServer, user: str) -> None:
    """B01: the signature covers header and attributes; the code stays unused."""
    code = totp.code()
    with server.nas(STRICT) as nas:
        request = nas.access_request(user, PASSWORD + code, [(PROXY_STATE, b"p")])
        places = [1, 4, 19, 24, 40, 44, len(request) - 1]
        flipped = [bytes(o ^ (n == at) for n, o in enumerate(request)) for at in places]
        nas.assert_silent(*flipped)
        assert_untouched(server, nas, user, code)


def doubled(fields: Attributes) -> Attributes:
    """Return *fields* between two Message-Authenticators."""
    return [(MESSAGE_AUTHENTICATOR, bytes(16)), *fields, (MESSAGE_AUTHENTICATOR, bytes(16))]


def of_length(octets: int) -> Callable[[Attributes], Attributes]:
    return lambda fields: [(MESSAGE_AUTHENTICATOR, bytes(octets)), *fields]


@pytest.mark.parametrize("source", [STRICT, LENIENT])
@pytest.mark.parametrize("shape", [doubled, of_length(0), of_length(15), of_length(17)])
def test_a_doubled_or_misshapen_message_authenticator_is_silent(
    server: RunningServer, user: str, shape: Callable[[Attributes], Attributes], source: str
) -> None:
    """B02: also where the first of two verifies over both."""
    code, authenticator = totp.code(), os.urandom(16)
    hidden = hide((PASSWORD + code).encode(), SECRET.encode(), authenticator)
    fields = shape([(USER_NAME, user.encode()), (USER_PASSWORD, hidden)])
    packet = encode(ACCESS_REQUEST, 77, authenticator, fields)
    with server.nas(source) as nas:
        nas.assert_silent(signed(packet, SECRET.encode()) if shape is doubled else packet)
        assert_untouched(server, nas, user, code)


@pytest.mark.parametrize("source", [STRICT, LENIENT, LIMITED])
def test_another_secret_is_silent(server: RunningServer, user: str, source: str) -> None:
    code = totp.code()
    with server.nas(source) as nas, server.nas(source, "x" + SECRET) as other:
        other.send(other.access_request(user, PASSWORD + code))
        nas.assert_silent()
        assert other.replies(0.1) == []
        assert_untouched(server, nas, user, code)


# BlastRADIUS


def test_a_proxy_state_without_message_authenticator_is_silent_at_a_limited_client(
    server: RunningServer, user: str
) -> None:
    """B04, B11: the shape of the attack; without Proxy-State, or signed, the client is served."""
    code = totp.code()
    proxied = [(PROXY_STATE, b"p")]
    with server.nas(LIMITED) as nas:
        nas.assert_silent(
            nas.access_request(user, PASSWORD + code, proxied, message_authenticator="none")
        )
        line = server.line("packet.discarded", reason="unsigned_proxy_state")
        assert "BlastRADIUS" in line["hint"]
        plain = nas.access_request(user, PASSWORD + code, message_authenticator="none")
        assert nas.ask(plain).code == ACCESS_ACCEPT
        again = nas.access_request(user, PASSWORD + totp.code(offset=1), proxied)
        assert nas.ask(again).code == ACCESS_ACCEPT


@pytest.mark.parametrize("source", [STRICT, LENIENT, LIMITED])
def test_an_eap_message_without_message_authenticator_is_silent(
    server: RunningServer, user: str, source: str
) -> None:
    """B07: whatever the client's policy; signed, it is refused as a method not served."""
    eap = [(USER_NAME, user.encode()), (EAP_MESSAGE, b"\2\1\0\x0a\1alice")]
    with server.nas(source) as nas:
        nas.assert_silent(nas.request(ACCESS_REQUEST, 5, os.urandom(16), eap, "none"))
        assert server.lines("login.rejected", user=user) == []
        reply = nas.ask(nas.request(ACCESS_REQUEST, 6, os.urandom(16), eap, "first"))
        assert reply.code == ACCESS_REJECT
    line = server.line("login.rejected", user=user)
    assert (line["reason"], line["method"]) == ("unsupported_method", "eap")
    assert server.site.failures(user) == 0


# Replies


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_every_proxy_state_comes_back_in_order(
    server: RunningServer, user: str, password: str
) -> None:
    """B09, P10: unmodified, all of them, also where others stand between."""
    sent = [b"p1", b"", bytes(range(253)), b"p1", b"0x41"]
    interleaved = [field for value in sent for field in ((PROXY_STATE, value), (200, b"other"))]
    with server.nas() as nas:
        reply = nas.login(user, password + totp.code(), interleaved)
    assert reply.code == (ACCESS_ACCEPT if password == PASSWORD else ACCESS_REJECT)
    assert reply.all(PROXY_STATE) == sent


def test_message_authenticator_is_the_first_attribute_of_every_reply(
    server: RunningServer, user: str
) -> None:
    """B05, T06: of Accept, Reject and the answer to Status-Server."""
    with server.nas() as nas:
        proxied = [(PROXY_STATE, b"p")]
        replies = [
            nas.login(user, PASSWORD + totp.code(), proxied),
            nas.login(user, "wrong", proxied),
            nas.ask(nas.status_server()),
        ]
    assert [reply.code for reply in replies] == [ACCESS_ACCEPT, ACCESS_REJECT, ACCESS_ACCEPT]
    assert [reply.octets[20:22] for reply in replies] == [bytes([MESSAGE_AUTHENTICATOR, 18])] * 3


def test_rejects_of_every_cause_are_the_same(server: RunningServer, user: str) -> None:
    """A08, A15, B10: code and attributes tell a user nothing; the log tells the operator."""
    used = PASSWORD + totp.code()
    with server.nas() as nas:
        assert nas.login(user, used).code == ACCESS_ACCEPT
        rejects = [
            nas.login("nobody", used),
            nas.login(user, "wrong" + totp.code(offset=1)),
            nas.login(user, PASSWORD + totp.wrong_code()),
            nas.login(user, used),
            nas.login("", used),
            nas.login(user, ""),
        ]
        chap = [(USER_NAME, user.encode()), (CHAP_PASSWORD, bytes(17))]
        rejects.append(nas.ask(nas.request(ACCESS_REQUEST, 9, os.urandom(16), chap, "first")))
    assert {reply.code for reply in rejects} == {ACCESS_REJECT}
    for reply in rejects:
        assert reply.attributes[1:] == [(REPLY_MESSAGE, b"Access denied")]
    reasons = [line["reason"] for line in server.lines("login.rejected")][-len(rejects) :]
    assert reasons == [
        "unknown_user",
        "wrong_password",
        "wrong_code",
        "code_replayed",
        "invalid_user_name",
        "empty_password",
        "unsupported_method",
    ]


# Status-Server


@pytest.mark.parametrize("source", [STRICT, LENIENT])
@pytest.mark.parametrize("kind", ["none", "wrong"])
def test_an_unsigned_status_server_is_silent(server: RunningServer, source: str, kind: str) -> None:
    """S02: whatever the client's policy."""
    with server.nas(source) as nas:
        nas.assert_silent(nas.status_server(kind))


def test_status_server_echoes_proxy_state(server: RunningServer) -> None:
    """S01, B09."""
    with server.nas() as nas:
        request = nas.request(12, 3, os.urandom(16), [(PROXY_STATE, b"watchdog")], "first")
        reply = nas.ask(request)
    assert reply.attributes[1:] == [(PROXY_STATE, b"watchdog")]


def test_status_server_is_switched_off_per_client_and_for_all(
    server: RunningServer, user: str, site: Site
) -> None:
    """S03: and a client may have it all the same where it is off for all."""
    with server.nas(QUIET) as nas:
        nas.send(nas.status_server())
        assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert nas.replies(0.1) == []
    site.sections = {"radius": {"status_server": False}}
    site.clients = [
        {"name": "watched", "address": QUIET, "status_server": True},
        {"name": "others", "address": "127.0.0.0/8"},
    ]
    site.write_config()
    other_server = site.start()
    with other_server.nas(QUIET) as watched, other_server.nas(STRICT) as other:
        other.send(other.status_server())
        assert watched.ask(watched.status_server()).code == ACCESS_ACCEPT
        assert other.replies(0.1) == []
