"""Password and code in one field, as users and gateways of every kind type and send them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from radius_mfa.app import Stores
from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCESS_REQUEST,
    USER_NAME,
    USER_PASSWORD,
    hide,
)
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, new_device

END, START, SEPARATOR, START_SEPARATOR, LATIN = (f"127.0.0.{n}" for n in (1, 11, 12, 13, 14))

CLIENTS = [
    {"name": "end", "address": END},
    {"name": "start", "address": START, "code_position": "start"},
    {"name": "separator", "address": SEPARATOR, "separator": ","},
    {
        "name": "start-separator",
        "address": START_SEPARATOR,
        "code_position": "start",
        "separator": "::",
    },
    {"name": "latin", "address": LATIN, "password_charsets": ["utf-8", "latin-1"]},
]

OTHER_SEED = "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"

UMLAUTS = "canary-Pässwörd-ß"
LONGEST = "canary-" + "x" * 115
"""With six digits: a field of 128 octets, the most that RFC 2865 allows."""


def code() -> str:
    return totp.code()


def code8() -> str:
    return totp.code(OTHER_SEED, digits=8)


@dataclass(frozen=True)
class Typed:
    """What is on record of a user, and what is sent for them through which client."""

    password: str
    field: Callable[[], str | bytes]
    source: str = END
    devices: tuple[dict[str, Any], ...] = ({},)


def device(**fields: Any) -> dict[str, Any]:
    return fields


TWO = (device(), device(name="tablet", seed=OTHER_SEED))
MIXED = (device(), device(name="token", seed=OTHER_SEED, digits=8))

ACCEPTED = {
    "code-at-the-end": Typed(PASSWORD, lambda: PASSWORD + code()),
    "code-at-the-start": Typed(PASSWORD, lambda: code() + PASSWORD, START),
    "separator": Typed(PASSWORD, lambda: f"{PASSWORD},{code()}", SEPARATOR),
    "separator-at-the-start": Typed(PASSWORD, lambda: f"{code()}::{PASSWORD}", START_SEPARATOR),
    "separator-in-the-password": Typed("canary,,", lambda: f"canary,,,{code()}", SEPARATOR),
    "digits-at-the-end-of-the-password": Typed(
        "canary-20261234567", lambda: "canary-20261234567" + code()
    ),
    "digits-at-both-ends": Typed(
        "123456canary123456", lambda: code() + "123456canary123456", START
    ),
    "a-password-of-digits": Typed("9876543210123456", lambda: "9876543210123456" + code()),
    "punctuation": Typed("canary ,;'\"\\ $(x)%n ", lambda: "canary ,;'\"\\ $(x)%n " + code()),
    "umlauts-in-utf-8": Typed(UMLAUTS, lambda: UMLAUTS + code()),
    "umlauts-decomposed": Typed(UMLAUTS, lambda: UMLAUTS.replace("ö", "o\u0308") + code()),
    "umlauts-in-latin-1": Typed(UMLAUTS, lambda: (UMLAUTS + code()).encode("latin-1"), LATIN),
    "utf-8-at-the-latin-client": Typed(UMLAUTS, lambda: UMLAUTS + code(), LATIN),
    "one-character": Typed("x", lambda: "x" + code()),
    "16-octets": Typed("canary-123", lambda: "canary-123" + code()),
    "17-octets": Typed("canary-1234", lambda: "canary-1234" + code()),
    "128-octets": Typed(LONGEST, lambda: LONGEST + code()),
    "two-devices-the-first": Typed(PASSWORD, lambda: PASSWORD + code(), devices=TWO),
    "two-devices-the-second": Typed(
        PASSWORD, lambda: PASSWORD + totp.code(OTHER_SEED), devices=TWO
    ),
    "six-digits-beside-eight": Typed(PASSWORD, lambda: PASSWORD + code(), devices=MIXED),
    "eight-digits-beside-six": Typed(PASSWORD, lambda: PASSWORD + code8(), devices=MIXED),
    "sha-256": Typed(
        PASSWORD,
        lambda: PASSWORD + totp.code(algorithm="sha256"),
        devices=(device(algorithm="SHA256"),),
    ),
    "sha-512-of-60-seconds-and-8-digits": Typed(
        PASSWORD,
        lambda: PASSWORD + totp.code(algorithm="sha512", step=60, digits=8),
        devices=(device(algorithm="SHA512", time_step_seconds=60, digits=8),),
    ),
}

ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")

REFUSED = {
    "nothing": (Typed(PASSWORD, lambda: ""), "empty_password"),
    "code-alone": (Typed(PASSWORD, code), "empty_password"),
    "code-alone-at-the-start": (Typed(PASSWORD, code, START), "empty_password"),
    "separator-and-code-alone": (
        Typed(PASSWORD, lambda: f",{code()}", SEPARATOR),
        "empty_password",
    ),
    "password-alone": (Typed(PASSWORD, lambda: PASSWORD), "wrong_code"),
    "code-on-the-wrong-side": (Typed(PASSWORD, lambda: code() + PASSWORD), "wrong_code"),
    "no-separator": (Typed(PASSWORD, lambda: PASSWORD + code(), SEPARATOR), "wrong_code"),
    "digits-of-another-script": (
        Typed(PASSWORD, lambda: PASSWORD + code().translate(ARABIC)),
        "wrong_code",
    ),
    "code-of-six-of-a-device-of-eight": (
        Typed(PASSWORD, lambda: PASSWORD + code8()[-6:], devices=MIXED),
        "wrong_code",
    ),
    "latin-1-at-a-utf-8-client": (
        Typed(UMLAUTS, lambda: (UMLAUTS + code()).encode("latin-1")),
        "undecodable_password",
    ),
    "an-octet-that-is-no-utf-8-is-not-dropped": (
        Typed(PASSWORD, lambda: PASSWORD.encode() + b"\xff" + code().encode()),
        "undecodable_password",
    ),
    "a-NUL-ends-nothing": (Typed(PASSWORD, lambda: f"{PASSWORD}\0x{code()}"), "wrong_password"),
    "a-space-more": (Typed(PASSWORD, lambda: f"{PASSWORD} {code()}"), "wrong_password"),
    "another-case": (Typed(PASSWORD, lambda: PASSWORD.upper() + code()), "wrong_password"),
    "a-character-more-than-16": (
        Typed("canary-123456789", lambda: "canary-1234567890" + code()),
        "wrong_password",
    ),
}

TWO_DEVICES = "two-devices"

DIRECTORY_ASKED = {"wrong_password"}

HASHES = "radius_mfa_hashing_seconds_count"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a user for each case, named after it."""
    cases = ACCEPTED | {name: case for name, (case, _) in REFUSED.items()}
    cases[TWO_DEVICES] = Typed(PASSWORD, str, devices=TWO)

    async def add(stores: Stores) -> None:
        for name, case in cases.items():
            await stores.directory.add(name.lower(), case.password)
            for number, fields in enumerate(case.devices):
                values = {"name": f"phone {number}", "seed": totp.SEED, **fields}
                await stores.enrolments.add_device(
                    name.lower(), new_device(**values), confirmed=True
                )

    with Site(tmp_path_factory.mktemp("credentials"), clients=CLIENTS) as site:
        site.canaries |= {"canary-123", UMLAUTS, OTHER_SEED, LONGEST}
        site.add_spare_users(8)
        site.with_stores(add)
        site.serve_metrics()
        yield site.start()


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_right_credentials_are_accepted(server: RunningServer, name: str) -> None:
    """A03, A04, A06, O01, O06: and the same field a second time is not."""
    case = ACCEPTED[name]
    field = case.field()
    with server.nas(case.source) as nas:
        assert nas.login(name, field).code == ACCESS_ACCEPT
        assert nas.login(name, field).code == ACCESS_REJECT
    assert server.line("login.rejected", user=name)["reason"] == "code_replayed"


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_credentials_are_rejected_for_the_right_reason(
    server: RunningServer, name: str
) -> None:
    """A03, A05, O09: the directory is asked only where password and code may both be right."""
    case, reason = REFUSED[name]
    hashes = server.metric(HASHES)
    with server.nas(case.source) as nas:
        assert nas.login(name, case.field()).code == ACCESS_REJECT
    assert server.line("login.rejected", user=name)["reason"] == reason
    assert server.metric(HASHES) - hashes == (reason in DIRECTORY_ASKED)


@pytest.mark.parametrize("octets", [15, 17, 144], ids=lambda octets: f"{octets} octets")
def test_a_hidden_password_of_an_impossible_length_is_rejected(
    server: RunningServer, octets: int
) -> None:
    """A02: 16 to 128 octets, a multiple of 16."""
    user, authenticator = server.site.fresh_user(), os.urandom(16)
    typed = (PASSWORD + totp.code()).encode().ljust(144, b"\0")
    hidden = hide(typed, SECRET.encode(), authenticator)[:octets]
    fields = [(USER_NAME, user.encode()), (USER_PASSWORD, hidden)]
    with server.nas() as nas:
        reply = nas.ask(nas.request(ACCESS_REQUEST, 1, authenticator, fields, "first"))
    assert reply.code == ACCESS_REJECT
    assert server.line("login.rejected", user=user)["reason"] == "no_password"


def test_each_device_has_its_own_used_codes(server: RunningServer) -> None:
    """O06: the code of one device does not use up that of another at the same time step."""
    with server.nas() as nas:
        newer, of_the_other = totp.code(offset=1), totp.code(OTHER_SEED)
        assert nas.login(TWO_DEVICES, PASSWORD + newer).code == ACCESS_ACCEPT
        assert nas.login(TWO_DEVICES, PASSWORD + of_the_other).code == ACCESS_ACCEPT
        for used in (newer, of_the_other):
            assert nas.login(TWO_DEVICES, PASSWORD + used).code == ACCESS_REJECT


def test_an_older_code_is_refused_once_a_newer_one_was_used(server: RunningServer) -> None:
    """O04: the accepted time step only grows."""
    user = server.site.fresh_user()
    with server.nas() as nas:
        assert nas.login(user, PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT
        assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_REJECT
    assert server.line("login.rejected", user=user)["reason"] == "code_replayed"


def test_codes_outside_the_window_are_refused_and_the_next_one_is_not(
    server: RunningServer,
) -> None:
    """O03: one step to either side; three steps away is out whatever the moment."""
    user = server.site.fresh_user()
    with server.nas() as nas:
        for offset in (-3, 3):
            reply = nas.login(user, PASSWORD + totp.code(offset=offset))
            assert reply.code == ACCESS_REJECT
            assert server.line("login.rejected", user=user)["reason"] == "wrong_code"
        assert nas.login(user, PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT


@pytest.mark.parametrize("name", [b"", b" ", b"user\0x", b"a\nb", b"\xff\xfe", "a\u202eb".encode()])
def test_a_name_that_no_user_may_have_is_rejected_and_not_counted(
    server: RunningServer, name: bytes
) -> None:
    """P11: the empty name of a peer counted failures for everyone; here it has no counter."""
    before = tallies(server.site)
    with server.nas() as nas:
        for _ in range(6):
            assert nas.login(name, PASSWORD + totp.wrong_code()).code == ACCESS_REJECT
    reasons = [line["reason"] for line in server.lines("login.rejected")[-6:]]
    assert reasons == ["invalid_user_name"] * 6
    assert tallies(server.site) == before


def tallies(site: Site) -> set[bytes]:
    with site.redis as redis:
        return set(redis.scan_iter("*:tally"))
