"""The straight line: what gets a reply, what gets silence, and what nothing may change."""

import asyncio
import base64
import ipaddress
import os
from typing import Any, cast

import pytest

from radius_mfa.authentication.login import Attempt, Login, Outcome, Trace
from radius_mfa.errors import (
    BackendUnavailable,
    BadMessageAuthenticator,
    DuplicateInFlight,
    MalformedPacket,
    MissingMessageAuthenticator,
    Overloaded,
    StatusServerRefused,
    UnknownNas,
)
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.decision import Accept, Reject, RejectReason
from radius_mfa.policy.totp import Device
from radius_mfa.protocol.duplicates import DuplicateCache
from radius_mfa.protocol.nas import Nas, NasTable
from radius_mfa.server.handler import STATUS_SERVER_PER_SECOND, AnswerPolicy, Handler
from radius_mfa.server.metrics import Metrics
from radius_mfa.stores.interfaces import LOCAL as LOCAL_DIRECTORY
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.memory import (
    MemoryAttempts,
    MemoryDirectory,
    MemoryEnrolments,
    MemoryRecoveryCodes,
)
from radius_mfa.tasks import spawn
from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    REPLY_MESSAGE,
    STATUS_SERVER,
    USER_NAME,
    USER_PASSWORD,
    Attributes,
    Reply,
    hide,
    packet_of,
    verified,
)

SECRET = b"a shared secret of the tests"
PEER, LOCAL = ("192.0.2.1", 40_000), ("192.0.2.99", 1812)
NOW = 1_700_000_000.0


class StubLogin:
    """A login that ends as the test says, and remembers who asked."""

    def __init__(self, ending: Any = None) -> None:
        self.ending = Outcome(Accept("totp")) if ending is None else ending
        self.attempts: list[Attempt] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @staticmethod
    def gave(state: bytes, now: float) -> bool:
        return state == b"ours" and now == NOW

    async def decide(self, attempt: Attempt, _now: float, trace: Trace) -> Outcome:
        self.attempts.append(attempt)
        trace.identity = Identity("alice", "alice", LOCAL_DIRECTORY)
        await self.gate.wait()
        if isinstance(self.ending, Exception):
            raise self.ending
        outcome: Outcome = self.ending
        return outcome


def handler_of(login: Any, **options: Any) -> Handler:
    nas: dict[str, Any] = options.pop("nas", {})
    network = (ipaddress.ip_network("192.0.2.0/24"),)
    table = NasTable([Nas("asa", network, SECRET, **nas)])
    options.setdefault("policy", AnswerPolicy(reject_delay_seconds=0))
    return Handler(table, login, **options)


def request(
    *,
    code: int = 1,
    identifier: int = 7,
    authenticator: bytes = b"",
    typed: str = "x",
    attributes: Attributes = (),
    message_authenticator: str = "first",
) -> bytes:
    authenticator = authenticator or os.urandom(16)
    hidden = hide(typed.encode(), SECRET, authenticator)
    fields = [(USER_NAME, b"alice"), (USER_PASSWORD, hidden), *attributes] if code == 1 else []
    return packet_of(code, identifier, authenticator, fields, SECRET, message_authenticator)


async def answered(handler: Handler, packet: bytes, peer: tuple[str, int] = PEER) -> Reply:
    octets = await handler.answer(packet, peer, LOCAL, NOW)
    assert octets is not None
    return verified(octets, packet, SECRET)


async def test_a_login_is_answered_and_its_retransmission_gets_the_same_octets() -> None:
    """D01, rule 6."""
    login = StubLogin()
    handler, packet = handler_of(login), request()
    first = await answered(handler, packet)
    assert first.code == ACCESS_ACCEPT
    assert (await answered(handler, packet)).octets == first.octets
    assert len(login.attempts) == 1


@pytest.mark.parametrize(
    ("packet", "peer", "discard"),
    [
        (request(), ("198.51.100.1", 1), UnknownNas),
        (request()[:-1], PEER, MalformedPacket),
        (request(message_authenticator="wrong"), PEER, BadMessageAuthenticator),
        (request(message_authenticator="none"), PEER, MissingMessageAuthenticator),
    ],
    ids=["unknown NAS", "malformed", "wrong signature", "no signature"],
)
async def test_a_packet_that_fails_its_checks_changes_nothing(
    packet: bytes, peer: tuple[str, int], discard: type[Exception]
) -> None:
    """Rule 5, B01, D05: no login, no entry in the duplicate cache."""
    login, duplicates = StubLogin(), DuplicateCache()
    with pytest.raises(discard):
        await handler_of(login, duplicates=duplicates).answer(packet, peer, LOCAL, NOW)
    assert login.attempts == []
    assert len(duplicates) == 0


async def test_a_stranger_costs_no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """T01: nor is the packet so much as looked at."""
    packet = request()

    def never(*_args: Any, **_options: Any) -> bytes:
        raise AssertionError

    for place in ("hmac.digest", "hashlib.md5", "radius_mfa.protocol.wire.parsed"):
        monkeypatch.setattr(place, never)
    with pytest.raises(UnknownNas):
        await handler_of(StubLogin()).answer(packet, ("198.51.100.1", 1), LOCAL, NOW)
    with pytest.raises(AssertionError):
        await handler_of(StubLogin()).answer(packet, PEER, LOCAL, NOW)


async def test_a_bad_packet_does_not_disturb_the_good_one_it_imitates() -> None:
    """D05: same source and Identifier, wrong Message-Authenticator."""
    login = StubLogin()
    handler, packet = handler_of(login), request()
    first = await answered(handler, packet)
    with pytest.raises(BadMessageAuthenticator):
        await handler.answer(request(message_authenticator="wrong"), PEER, LOCAL, NOW)
    assert (await answered(handler, packet)).octets == first.octets
    assert len(login.attempts) == 1


async def test_a_retransmission_in_flight_is_silent() -> None:
    """D02: while the backend works, and while the reject waits for its delay."""
    login = StubLogin(Outcome(Reject(RejectReason.WRONG_CODE)))
    login.gate.clear()
    handler = handler_of(login, policy=AnswerPolicy(reject_delay_seconds=0.2))
    packet = request()
    first = spawn(handler.answer(packet, PEER, LOCAL, NOW))
    await asyncio.sleep(0)
    with pytest.raises(DuplicateInFlight):
        await handler.answer(packet, PEER, LOCAL, NOW)
    login.gate.set()
    await asyncio.sleep(0)
    assert not first.done(), "the reject waits"
    with pytest.raises(DuplicateInFlight):
        await handler.answer(packet, PEER, LOCAL, NOW)
    octets = await first
    assert octets is not None
    assert verified(octets, packet, SECRET).code == ACCESS_REJECT
    assert (await answered(handler, packet)).octets == octets
    assert len(login.attempts) == 1


async def test_a_superseded_request_gets_no_late_reply() -> None:
    """D04: the NAS has reused the Identifier."""
    login = StubLogin()
    login.gate.clear()
    handler, old, new = handler_of(login), request(), request()
    late = spawn(handler.answer(old, PEER, LOCAL, NOW))
    await asyncio.sleep(0)
    current = spawn(handler.answer(new, PEER, LOCAL, NOW))
    await asyncio.sleep(0)
    login.gate.set()
    octets = await current
    assert await late is None
    assert octets is not None
    assert (await answered(handler, new)).octets == octets


@pytest.mark.parametrize(
    "ending",
    [BackendUnavailable("redis", "down"), RuntimeError("password=hunter2"), TimeoutError()],
)
async def test_a_fault_ends_in_silence_and_the_retransmission_is_a_fresh_try(
    ending: Exception, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rules 4 and 9, A09, A13, L02: never an Accept, and no word of what the fault says."""
    login = StubLogin(ending)
    handler, packet = handler_of(login), request()
    assert await handler.answer(packet, PEER, LOCAL, NOW) is None
    login.ending = Outcome(Accept("totp"))
    assert (await answered(handler, packet)).code == ACCESS_ACCEPT
    captured = capsys.readouterr()
    assert "hunter2" not in caplog.text + captured.out + captured.err


async def test_a_client_may_ask_for_a_reject_when_a_backend_is_down() -> None:
    """A13: `on_backend_failure = "reject"`; never for a fault of our own."""
    login = StubLogin(BackendUnavailable("redis", "down"))
    handler = handler_of(login, nas={"reject_on_backend_failure": True})
    assert (await answered(handler, request())).code == ACCESS_REJECT
    login.ending = RuntimeError()
    assert await handler.answer(request(), PEER, LOCAL, NOW) is None


async def test_a_login_past_its_deadline_gets_no_reply() -> None:
    login = StubLogin()
    login.gate.clear()
    metrics = Metrics()
    handler = handler_of(login, policy=AnswerPolicy(login_deadline_seconds=0.05), metrics=metrics)
    assert await handler.answer(request(), PEER, LOCAL, NOW) is None
    assert metric(metrics, "radius_mfa_logins_unanswered_total", client="asa") == 1


async def test_a_reply_that_can_not_be_built_is_no_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A09: the fault passes to the transport, and the next try is a fresh one."""

    def broken(*_args: Any, **_more: Any) -> bytes:
        raise ValueError("broken")

    handler, packet = handler_of(StubLogin()), request()
    with monkeypatch.context() as patched:
        patched.setattr("radius_mfa.server.handler.decision_reply", broken)
        with pytest.raises(ValueError, match="broken"):
            await handler.answer(packet, PEER, LOCAL, NOW)
    assert (await answered(handler, packet)).code == ACCESS_ACCEPT


async def test_a_login_half_done_has_room_where_a_new_one_has_none() -> None:
    """D11: the last eighth of the room is for a State of ours, and it is bounded too."""
    login = StubLogin()
    login.gate.clear()
    handler = handler_of(login, policy=AnswerPolicy(max_requests_in_flight=16))
    new = [request(identifier=n) for n in range(15)]
    further = [request(identifier=n, attributes=[(24, b"ours")]) for n in range(20, 23)]
    working = [spawn(handler.answer(packet, PEER, LOCAL, NOW)) for packet in new[:14]]
    await asyncio.sleep(0)
    forged = request(identifier=30, attributes=[(24, b"forged")])
    for packet in (new[14], new[14], forged):  # one that was shed is a fresh try each time
        with pytest.raises(Overloaded):
            await handler.answer(packet, PEER, LOCAL, NOW)
    working += [spawn(handler.answer(packet, PEER, LOCAL, NOW)) for packet in further[:2]]
    await asyncio.sleep(0)
    for packet in (further[2], new[14]):
        with pytest.raises(Overloaded):
            await handler.answer(packet, PEER, LOCAL, NOW)
    login.gate.set()
    assert None not in await asyncio.gather(*working)
    assert len(login.attempts) == 16
    assert (await answered(handler, new[14])).code == ACCESS_ACCEPT


async def test_no_more_requests_in_flight_than_allowed() -> None:
    """D10, D11: those in flight are finished, the rest is asked again."""
    login = StubLogin()
    login.gate.clear()
    handler = handler_of(login, policy=AnswerPolicy(max_requests_in_flight=1))
    first = spawn(handler.answer(request(), PEER, LOCAL, NOW))
    await asyncio.sleep(0)
    other = request(identifier=8)
    with pytest.raises(Overloaded):
        await handler.answer(other, PEER, LOCAL, NOW)
    login.gate.set()
    assert await first is not None
    assert (await answered(handler, other)).code == ACCESS_ACCEPT


async def test_status_server_is_an_accept_that_is_no_login() -> None:
    """S01, S05."""
    login, duplicates = StubLogin(), DuplicateCache()
    reply = await answered(handler_of(login, duplicates=duplicates), request(code=STATUS_SERVER))
    assert reply.code == ACCESS_ACCEPT
    assert len(reply.attributes) == 1
    assert login.attempts == []
    assert len(duplicates) == 0


@pytest.mark.parametrize(
    ("options", "message_authenticator", "discard"),
    [
        ({"nas": {"status_server": False}}, "first", StatusServerRefused),
        ({"backends_up": lambda: False}, "first", StatusServerRefused),
        ({"nas": {"require_message_authenticator": False}}, "none", MissingMessageAuthenticator),
        ({}, "wrong", BadMessageAuthenticator),
    ],
)
async def test_status_server_is_silent_when_it_must_be(
    options: dict[str, Any], message_authenticator: str, discard: type[Exception]
) -> None:
    """S02, S03, S04."""
    packet = request(code=STATUS_SERVER, message_authenticator=message_authenticator)
    with pytest.raises(discard):
        await handler_of(StubLogin(), **options).answer(packet, PEER, LOCAL, NOW)


async def test_status_server_is_answered_so_often_a_second_and_no_login_pays_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S03: each client by itself, and the next second again."""
    clock = [1000.2]
    monkeypatch.setattr("radius_mfa.server.handler.time.monotonic", lambda: clock[0])
    here = ipaddress.ip_network("192.0.2.1"), ipaddress.ip_network("192.0.2.2")
    table = NasTable([Nas("one", here[:1], SECRET), Nas("other", here[1:], SECRET)])
    handler = Handler(table, cast("Login", StubLogin()))
    packet, other = request(code=STATUS_SERVER), ("192.0.2.2", 1)
    for second in range(2):
        clock[0] = 1000.2 + second
        for _ in range(STATUS_SERVER_PER_SECOND):
            assert await handler.answer(packet, PEER, LOCAL, NOW)
        with pytest.raises(StatusServerRefused, match="in a second"):
            await handler.answer(packet, PEER, LOCAL, NOW)
    assert (await answered(handler, packet, other)).code == ACCESS_ACCEPT
    assert (await answered(handler, request())).code == ACCESS_ACCEPT


async def test_every_reject_looks_alike() -> None:
    """Rule 7, A08, B10: the same fixed text, and nothing of the request."""
    seen = set()
    for reason in RejectReason:
        login = StubLogin(Outcome(Reject(reason, "a hint for the log")))
        reply = await answered(handler_of(login), request())
        assert reply.code == ACCESS_REJECT
        seen.add(tuple(pair for pair in reply.attributes[1:]))
    assert seen == {((REPLY_MESSAGE, b"Access denied"),)}


async def test_a_reject_is_delayed_from_its_arrival_on() -> None:
    """A14, A16: the delay of one reject holds nobody else up."""
    slow = StubLogin(Outcome(Reject(RejectReason.WRONG_CODE)))
    handler = handler_of(slow, policy=AnswerPolicy(reject_delay_seconds=0.2))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(answered(handler, request(identifier=n)) for n in range(50)))
    assert 0.2 <= loop.time() - began < 1.0


async def test_the_delay_of_each_reject_has_a_chance_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A14: up to a tenth on top, drawn anew each time; an Accept draws none and waits for none."""
    chances = [0.0, 0.999, 0.5]
    left = list(chances)
    monkeypatch.setattr("radius_mfa.authentication.refusal.random.random", lambda: left.pop(0))
    login = StubLogin(Outcome(Reject(RejectReason.WRONG_CODE)))
    handler = handler_of(login, policy=AnswerPolicy(reject_delay_seconds=0.2))
    loop = asyncio.get_running_loop()
    for chance in chances:
        began = loop.time()
        await answered(handler, request())
        assert loop.time() - began >= 0.2 * (1 + 0.1 * chance) - 0.002
    login.ending = Outcome(Accept("totp"))
    began = loop.time()
    await answered(handler, request())
    assert loop.time() - began < 0.2
    assert left == []


async def test_what_the_login_is_told() -> None:
    """The attempt holds what the NAS sent, decrypted, and names the packet."""
    login = StubLogin()
    await answered(handler_of(login), request(typed="secret123456"))
    attempt = login.attempts[0]
    assert (attempt.client, attempt.user_name, attempt.typed) == ("asa", "alice", b"secret123456")
    assert attempt.method == "pap"
    assert "secret123456" not in repr(attempt)


async def test_end_to_end_over_memory() -> None:
    """The real login behind the real line: a code works once."""
    device = Device("d", "phone", base64.b32decode(totp.SEED))
    login = Login(
        MemoryAttempts(),
        MemoryEnrolments({"alice": Enrolment(1, known=True, devices=(device,))}),
        MemoryDirectory({"alice": "pw"}),
        MemoryRecoveryCodes(),
        digest_key=b"k" * 32,
    )
    metrics = Metrics()
    handler = handler_of(login, metrics=metrics)
    typed = "pw" + totp.code(at=NOW)
    assert (await answered(handler, request(typed=typed))).code == ACCESS_ACCEPT
    assert (await answered(handler, request(typed=typed))).code == ACCESS_REJECT
    logins = "radius_mfa_logins_total"
    assert metric(metrics, logins, result="accept") == 1
    assert metric(metrics, logins, result="reject", reason="code_replayed") == 1


def metric(metrics: Metrics, name: str, **labels: str) -> float:
    """Return the sum of the samples called *name* that bear *labels*."""
    return sum(
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
