"""What Hypothesis sends to the whole straight line: octets in, octets or silence out."""

import asyncio
import base64
import contextlib
import ipaddress
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from radius_mfa.authentication.login import Login
from radius_mfa.errors import Discard, MalformedPacket
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.totp import Device
from radius_mfa.protocol.nas import Nas, NasTable
from radius_mfa.server.handler import AnswerPolicy, Handler
from radius_mfa.stores.memory import (
    MemoryAttempts,
    MemoryDirectory,
    MemoryEnrolments,
    MemoryRecoveryCodes,
)
from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    STATUS_SERVER,
    USER_NAME,
    USER_PASSWORD,
    encode,
    hide,
    packet_of,
    verified,
)
from tests.wire.test_fuzz import cut, deleted, doubled, fields, flipped, inserted

SECRET = b"a shared secret of the tests"
STRICT, LENIENT, LOCAL = ("192.0.2.1", 40_000), ("198.51.100.1", 40_000), ("192.0.2.99", 1812)
NOW = 1_700_000_000.0
SLOW_MACHINES_TOO = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)

Mutation = tuple[Callable[[bytes, int, int], bytes], int, int]

peers = st.sampled_from([STRICT, LENIENT])
authenticators = st.binary(min_size=16, max_size=16)
mutations = st.lists(
    st.tuples(
        st.sampled_from([flipped, inserted, deleted, cut, doubled]),
        st.integers(0, 4095),
        st.integers(1, 255),
    ),
    max_size=4,
)
typed_values = st.binary(max_size=128) | st.text(max_size=30).map(str.encode)
names = st.sampled_from([b"alice", b"ALICE", b"alice@corp.example"]) | st.binary(max_size=253)


def handler() -> Handler:
    """A server's handler over stores in memory, with alice on record."""
    networks = [(ipaddress.ip_network(f"{peer[0]}/32"),) for peer in (STRICT, LENIENT)]
    table = NasTable(
        [
            Nas("strict", networks[0], SECRET),
            Nas("lenient", networks[1], SECRET, require_message_authenticator=False),
        ]
    )
    device = Device("d", "phone", base64.b32decode(totp.SEED))
    login = Login(
        MemoryAttempts(),
        MemoryEnrolments({"alice": Enrolment(1, known=True, devices=(device,))}),
        MemoryDirectory({"alice": "pw"}),
        MemoryRecoveryCodes(),
        digest_key=b"k" * 32,
    )
    return Handler(table, login, policy=AnswerPolicy(reject_delay_seconds=0))


def answer(datagram: bytes, peer: tuple[str, int]) -> bytes | None:
    """Return the reply to *datagram*, None for silence; a fault of the program is an error."""
    with capture_logs() as lines:
        try:
            reply = asyncio.run(handler().answer(datagram, peer, LOCAL, NOW))
        except Discard:
            return None
    assert [line["event"] for line in lines] in (["login.rejected"], ["login.accepted"], [])
    assert reply is not None
    return reply


def assert_refused(datagram: bytes, peer: tuple[str, int]) -> None:
    """Rule 4: silence or a verified Access-Reject; a Status-Server is owed an Access-Accept."""
    octets = answer(datagram, peer)
    if octets is not None:
        expected = ACCESS_ACCEPT if datagram[0] == STATUS_SERVER else ACCESS_REJECT
        assert verified(octets, datagram, SECRET).code == expected


@SLOW_MACHINES_TOO
@given(datagram=st.binary(max_size=200), peer=peers)
def test_no_datagram_at_all_is_accepted(datagram: bytes, peer: tuple[str, int]) -> None:
    """P17, rule 4."""
    assert_refused(datagram, peer)


@SLOW_MACHINES_TOO
@given(authenticator=authenticators, sent=fields, peer=peers, mutated=mutations)
def test_a_mutated_packet_is_never_accepted(
    authenticator: bytes,
    sent: list[tuple[int, bytes]],
    peer: tuple[str, int],
    mutated: list[Mutation],
) -> None:
    """P17, rule 4: whatever a packet has become on its way."""
    datagram = packet_of(1, 7, authenticator, [f for f in sent if f[0] != 80], SECRET)
    for mutate, at, octet in mutated:
        if datagram:
            datagram = mutate(datagram, at % len(datagram), octet)
    assert_refused(datagram, peer)


@SLOW_MACHINES_TOO
@given(
    code=st.sampled_from([1, 1, 1, 12]),
    authenticator=authenticators,
    name=names,
    typed=typed_values,
    sent=fields,
)
def test_a_signed_packet_of_any_content_is_answered_or_discarded(
    code: int,
    authenticator: bytes,
    name: bytes,
    typed: bytes,
    sent: list[tuple[int, bytes]],
) -> None:
    """Rule 4, P11: past the signature, names and passwords of any octets raise nothing."""
    content = [(USER_NAME, name), (USER_PASSWORD, hide(typed, SECRET, authenticator))]
    others = [field for field in sent if field[0] not in (USER_NAME, USER_PASSWORD, 80)]
    assert_refused(packet_of(code, 7, authenticator, [*content, *others], SECRET), STRICT)


def test_the_right_login_would_be_accepted() -> None:
    """So the refusals above are none of a server that refuses everybody."""
    authenticator = bytes(range(16))
    typed = f"pw{totp.code(at=NOW)}".encode()
    content = [(USER_NAME, b"alice"), (USER_PASSWORD, hide(typed, SECRET, authenticator))]
    request = packet_of(1, 7, authenticator, content, SECRET)
    octets = answer(request, STRICT)
    assert octets is not None
    assert verified(octets, request, SECRET).code == ACCESS_ACCEPT


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Keep what measures coverage off the clock for as long as the block lasts."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def test_a_packet_of_2038_attributes_costs_at_most_100_microseconds() -> None:
    """P13: the most that fit into 4096 octets; the best of many, so that noise has no say."""
    datagram = encode(1, 7, bytes(16), [(26, b"")] * 2038)
    assert len(datagram) == 4096
    server, costs = handler(), []
    with untraced():
        for _ in range(300):
            began = time.thread_time_ns()
            with pytest.raises(MalformedPacket):
                server.answer(datagram, STRICT, LOCAL, NOW).send(None)
            costs.append((time.thread_time_ns() - began) / 1000)
    assert min(costs) <= 100, f"{min(costs):.0f} us"
