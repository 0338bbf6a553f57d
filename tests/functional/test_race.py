"""Two server processes on one Redis and one database, asked by many sockets at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT, CALLING_STATION_ID, Nas
from tests.support.redis import RealRedis
from tests.support.server import PASSWORD, SECRET, RunningServer, Site

Nodes = tuple[RunningServer, RunningServer]

BY_SOURCE = 4


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two servers, each with a port of its own, and all else shared."""
    with RealRedis() as redis:
        sections = {
            "redis": {"url": redis.url},
            "lockout": {"failures_by_source": BY_SOURCE, "failures_by_user": 50},
        }
        with Site(tmp_path_factory.mktemp("race"), sections) as site:
            site.add_spare_users(12)
            yield site.start(), site.start()


@pytest.fixture
def user(nodes: Nodes) -> str:
    return nodes[0].site.fresh_user()


def at_both(nodes: Nodes, count: int, stack: ExitStack) -> list[Nas]:
    """Return *count* NASes with sockets of their own, half of them at each node."""
    return [
        stack.enter_context(Nas(nodes[number % 2].address, SECRET.encode()))
        for number in range(count)
    ]


def race(nases: list[Nas], requests: list[bytes]) -> Counter[int]:
    """Send every request before the first reply is read; return how often each code came."""
    for nas, request in zip(nases, requests, strict=True):
        nas.send(request)
    pairs = zip(nases, requests, strict=True)
    return Counter(nas.receive(request).code for nas, request in pairs)


def reasons(nodes: Nodes, user: str) -> Counter[str]:
    return Counter(
        line["reason"] for node in nodes for line in node.lines("login.rejected", user=user)
    )


@pytest.mark.parametrize("attempt", range(3))
def test_one_code_asked_by_a_hundred_sockets_at_two_nodes_is_accepted_once(
    nodes: Nodes, user: str, attempt: int
) -> None:
    """O05, rule 1: new packets of different stations; all but one are told that it was used."""
    typed = PASSWORD + totp.code()
    with ExitStack() as stack:
        nases = at_both(nodes, 100, stack)
        requests = [
            nas.access_request(user, typed, [(CALLING_STATION_ID, b"%d-%d" % (attempt, number))])
            for number, nas in enumerate(nases)
        ]
        codes = race(nases, requests)
    assert codes == {ACCESS_ACCEPT: 1, ACCESS_REJECT: 99}
    assert sum(len(node.lines("login.accepted", user=user)) for node in nodes) == 1
    assert reasons(nodes, user) == {"code_replayed": 99}


def test_wrong_values_sent_at_once_are_counted_to_the_limit_and_no_further(
    nodes: Nodes, user: str
) -> None:
    """O05, O11: check and count are one step; the right login among the late ones is locked out."""
    with ExitStack() as stack:
        nases = at_both(nodes, 40, stack)
        requests = [
            nas.access_request(user, f"wrong-{number}-{totp.code()}")
            for number, nas in enumerate(nases)
        ]
        assert race(nases, requests) == {ACCESS_REJECT: 40}
        assert reasons(nodes, user) == {
            "wrong_password": BY_SOURCE,
            "account_locked": 40 - BY_SOURCE,
        }
        assert nases[0].login(user, PASSWORD + totp.code()).code == ACCESS_REJECT
    assert nodes[0].site.failures(user) == BY_SOURCE


def test_both_nodes_share_failures_locks_and_codes(nodes: Nodes, user: str) -> None:
    """O12: what one node counts locks at the other; what one accepts the other refuses."""
    with ExitStack() as stack:
        one, other = at_both(nodes, 2, stack)
        typed = PASSWORD + totp.code()
        assert one.login(user, typed).code == ACCESS_ACCEPT
        assert other.login(user, typed).code == ACCESS_REJECT  # counted: the first failure
        for number in range(BY_SOURCE - 1):
            nas = (one, other)[number % 2]
            assert nas.login(user, f"wrong-{number}-{totp.code(offset=1)}").code == ACCESS_REJECT
        for nas in (one, other):
            assert nas.login(user, PASSWORD + totp.code(offset=1)).code == ACCESS_REJECT
    assert reasons(nodes, user)["account_locked"] == 2


def test_a_change_on_one_machine_holds_on_every_node_at_once(nodes: Nodes, user: str) -> None:
    """Both nodes have the user cached when the device is removed."""
    with ExitStack() as stack:
        one, other = at_both(nodes, 2, stack)
        assert one.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert other.login(user, PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT
        assert nodes[0].site.cli("device", "remove", user, "phone").exit_code == 0
        for nas in (one, other):
            assert nas.login(user, PASSWORD + totp.wrong_code()).code == ACCESS_REJECT
    assert reasons(nodes, user) == {"not_enrolled": 2}
