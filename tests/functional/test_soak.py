"""``make soak`` in small: a sound server passes, and each way to be unsound is found."""

import pytest

from tests.soak.run import Report, Soak

ON_EACH_DATAGRAM = """
import asyncio, os, time
from radius_mfa.server.handler import Handler
kept, answer = [], Handler.answer
async def unsound(self, octets, peer, local, now):
    kept.append(1)
    if len(kept) > 2500:
        {}
    return await answer(self, octets, peer, local, now)
Handler.answer = unsound
"""

LEAKING = """
        kept.append(bytearray(b"x" * 20_000))
        if len(kept) % 100 == 0:
            kept.append(open("/dev/null"))
            kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(99)))
        if len(kept) > 4000 and "told" not in globals():
            globals()["told"] = True
            with open(os.environ["SOAK_TASKS"][:-5] + "auth.log", "ab") as file:
                file.write(b"a line that ends \\x1b in control\\n")
            1 / 0
"""


def soaked(unsound: str = "") -> Report:
    soak = Soak(users=100, max_mib=250, seed=1, patience_seconds=3)
    soak.sabotage = ON_EACH_DATAGRAM.format(unsound) if unsound else ""
    return soak.run(rounds=5, datagrams=5000, logins=300)


def test_a_sound_server_passes() -> None:
    """P17: no crash, no hang, no growth; every mutant silent or refused, every login accepted."""
    report = soaked()
    assert report.findings == []
    assert (report.datagrams, report.accepts, len(report.samples)) == (5000, 300, 5)
    assert report.replies > 100, "some mutants are well-formed"


@pytest.mark.parametrize(
    ("unsound", "findings"),
    [
        pytest.param(
            LEAKING,
            ["memory grew", "descriptors grew", "tasks grew", "a raw control", "a fault of the"],
            id="leaks",
        ),
        pytest.param("os._exit(9)", ["the server ended: 9"], id="crash"),
        pytest.param("time.sleep(99)", ["no reply to Status-Server"], id="hang"),
        pytest.param(
            'if b"hostile" in octets: return b"\\2" + octets[1:2] + b"\\0\\x14" + bytes(16)',
            ["an Access-Accept for a mutated datagram"],
            id="accept",
        ),
        pytest.param("now -= 3600", ["right logins were rejected"], id="reject"),
    ],
)
def test_an_unsound_server_is_found(unsound: str, findings: list[str]) -> None:
    """A soak that can't fail is worse than none."""
    found = soaked(unsound).findings
    for finding in findings:
        assert any(finding in one for one in found), found
