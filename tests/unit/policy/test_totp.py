"""Which time step a code belongs to: the vectors of the RFCs, and the edges of the window."""

import hashlib
import hmac
from collections import Counter
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest

from radius_mfa.hmacs import Hmac
from radius_mfa.policy.totp import (
    HINT_STEPS,
    MAX_LOOK_STEPS,
    Algorithm,
    Device,
    Match,
    Window,
    base32,
    clock_offset_seconds,
    code_at,
    in_groups,
    matches,
    matches_in_a_row,
    newest_match,
    otpauth_uri,
)
from tests.support.totp import code as code_by_hand

NOW = 1_700_000_010.0
DIGITS = "1234567890"
SEEDS = {  # RFC 6238 appendix B, as erratum 2866 mends it: as long as the hash
    Algorithm.SHA1: (DIGITS * 2).encode(),
    Algorithm.SHA256: (DIGITS * 4)[:32].encode(),
    Algorithm.SHA512: (DIGITS * 7)[:64].encode(),
}
APPENDIX_B = {
    59: ("94287082", "46119246", "90693936"),
    1_111_111_109: ("07081804", "68084774", "25091201"),
    1_111_111_111: ("14050471", "67062674", "99943326"),
    1_234_567_890: ("89005924", "91819424", "93441116"),
    2_000_000_000: ("69279037", "90698825", "38618901"),
    20_000_000_000: ("65353130", "77737706", "47863826"),
}
HOTP_APPENDIX_D = [
    "755224",
    "287082",
    "359152",
    "969429",
    "338314",
    "254676",
    "287922",
    "162583",
    "399871",
    "520489",
]

PHONE = Device("d-phone", "phone", SEEDS[Algorithm.SHA1])
TOKEN = Device(
    "d-token",
    "token",
    SEEDS[Algorithm.SHA256],
    algorithm=Algorithm.SHA256,
    digits=8,
    time_step_seconds=60,
)
PRESENT = PHONE.time_step(NOW)
ONLY_NOW = Window(0, 0)


def steps_found(code: str, now: float, window: Window, *devices: Device) -> list[int]:
    return [match.time_step for match in matches(devices or (PHONE,), code, now, window)]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", "nothing"),
        ("7081804", "the leading zero is part of the code"),
        ("7081804 ", "a space is no zero"),
        ("007081804", "one zero too many"),
        ("07081805", "the last digit differs"),
        ("17081804", "the first digit differs"),
        ("081804", "the last six of eight digits"),
        ("070818", "the first six of eight digits"),
    ],
)
def test_a_code_is_text_that_fits_in_every_digit(code: str, why: str) -> None:
    """O09: compared as text, not as a number; RFC 6238 appendix B has 07081804."""
    device = replace(PHONE, digits=8)
    assert steps_found(code, 1_111_111_109, Window(), device) == [], why
    assert steps_found("07081804", 1_111_111_109, ONLY_NOW, device) != []


@pytest.mark.parametrize("zero", ["\u0660", "\uff10", "\U0001d7ce"], ids=ascii)
def test_digits_of_other_scripts_never_match(zero: str) -> None:
    """O09: pyotp's own comparison takes fullwidth digits for ASCII ones."""
    device = replace(PHONE, digits=8)
    for code in ("".join(chr(ord(zero) + int(digit)) for digit in "07081804"), "0708180" + zero):
        with pytest.raises(UnicodeEncodeError):
            matches([device], code, 1_111_111_109, Window())


@pytest.mark.parametrize("now", APPENDIX_B)
@pytest.mark.parametrize("algorithm", Algorithm)
def test_rfc_6238_appendix_b(algorithm: Algorithm, now: int) -> None:
    """O01."""
    expected = APPENDIX_B[now][list(Algorithm).index(algorithm)]
    device = Device("d", "token", SEEDS[algorithm], algorithm=algorithm, digits=8)
    assert code_at(device, device.time_step(now)) == expected
    assert matches([device], expected, now, ONLY_NOW) == [Match(device, now // 30)]


@pytest.mark.parametrize(("counter", "code"), list(enumerate(HOTP_APPENDIX_D)))
def test_rfc_4226_appendix_d(counter: int, code: str) -> None:
    """O01: the counter is the time step."""
    assert code_at(PHONE, counter) == code
    assert steps_found(code, counter * 30 + 29, ONLY_NOW) == [counter]


@pytest.mark.parametrize("step", [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**40])
def test_time_steps_over_32_bits(step: int) -> None:
    """O02: RFC 6238 section 4.2: T must go past 32 bits, for the time after 2038."""
    seed = base32(PHONE.seed)
    assert code_at(PHONE, step) == code_by_hand(seed, at=step * 30)
    assert code_at(PHONE, step) != code_at(PHONE, step % 2**32) or step < 2**32
    assert steps_found(code_at(PHONE, step), step * 30, ONLY_NOW) == [step]


@pytest.mark.parametrize("second", [0, 15, 29.999])
@pytest.mark.parametrize(
    "window",
    [Window(), ONLY_NOW, Window(1, 0), Window(0, 1), Window(2, 1), Window(10, 10)],
    ids=str,
)
def test_the_window_is_bounded_both_ways_by_whole_steps(window: Window, second: float) -> None:
    """O03: RFC 6238 section 5.2."""
    now = PRESENT * 30 + second
    reach = range(-window.lookback_steps, window.lookforward_steps + 1)
    for offset in range(-MAX_LOOK_STEPS - 2, MAX_LOOK_STEPS + 3):
        found = steps_found(code_at(PHONE, PRESENT + offset), now, window)
        assert found == ([PRESENT + offset] if offset in reach else []), offset


def test_the_default_window_is_one_step_either_way() -> None:
    """O03: as the checklist settles it; ten are the most."""
    assert Window() == Window(lookback_steps=1, lookforward_steps=1)
    assert MAX_LOOK_STEPS == 10


def test_no_time_step_is_before_the_epoch() -> None:
    assert list(Window(10, 0).steps(PHONE, 65)) == [0, 1, 2]
    assert steps_found(HOTP_APPENDIX_D[0], 0, Window(10, 10)) == [0]


def test_each_device_is_asked_in_its_own_steps() -> None:
    """O06: two devices of one user; a code belongs to the one that made it."""
    ours, theirs = code_at(PHONE, PRESENT), code_at(TOKEN, TOKEN.time_step(NOW) - 1)
    devices = [PHONE, TOKEN]
    assert matches(devices, ours, NOW, Window()) == [Match(PHONE, PRESENT)]
    assert matches(devices, theirs, NOW, Window()) == [Match(TOKEN, int(NOW) // 60 - 1)]
    assert matches([TOKEN], ours, NOW, Window()) == []
    assert matches([], ours, NOW, Window()) == []


def test_a_code_that_several_steps_share_belongs_to_each() -> None:
    """O04: replay is judged for each; to hide one would be to judge it here."""
    twin = replace(PHONE, device_id="d-twin")
    found = matches([PHONE, twin], code_at(PHONE, PRESENT), NOW, Window())
    assert found == [Match(PHONE, PRESENT), Match(twin, PRESENT)]


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("digits", [6, 8])
@pytest.mark.parametrize("step", [0, 1, PRESENT, 2**31, 2**40])
def test_codes_are_those_of_pyotp(algorithm: Algorithm, digits: int, step: int) -> None:
    """O01: a second implementation, which authenticator apps are known to agree with."""
    device = replace(PHONE, algorithm=algorithm, digits=digits, seed=SEEDS[algorithm])
    generator = pyotp.TOTP(
        base32(device.seed), digits=digits, digest=getattr(hashlib, algorithm.lower())
    )
    assert code_at(device, step) == generator.generate_otp(step)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the codes that are made, and the comparisons in constant time."""
    calls: Counter[str] = Counter()
    make, compare = Hmac.digest, hmac.compare_digest

    def digest(keyed: Hmac, message: bytes) -> bytes:
        calls["made"] += 1
        return make(keyed, message)

    def compare_digest(one: Any, other: Any) -> bool:
        calls["compared"] += 1
        return compare(one, other)

    monkeypatch.setattr(Hmac, "digest", digest)
    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    return calls


@pytest.mark.parametrize("offset", [-1, 0, 1, 5])
def test_every_step_of_the_window_is_computed_whatever_matches(
    offset: int, counted: Counter[str]
) -> None:
    """O16, B14: the first match ends nothing, and time tells nothing."""
    code = code_by_hand(base32(PHONE.seed), at=NOW, offset=offset)
    spare = replace(PHONE, device_id="d-spare", seed=b"another seed of 20 octets"[:20])
    counted.clear()
    found = steps_found(code, NOW, Window(), PHONE, spare)
    assert found == ([PRESENT + offset] if abs(offset) <= 1 else [])
    assert counted == {"made": 6, "compared": 6}


@pytest.mark.parametrize(
    ("offset", "seconds"),
    [
        (0, 0),
        (1, 30),
        (-1, -30),
        (5, 150),
        (-5, -150),
        (HINT_STEPS, 600),
        (-HINT_STEPS, -600),
        (HINT_STEPS + 1, None),
        (-HINT_STEPS - 1, None),
    ],
)
def test_a_wrong_clock_is_named(offset: int, seconds: int | None) -> None:
    """The hint of the log: behind is negative; what lies too far away is no hint."""
    code = code_at(PHONE, PRESENT + offset)
    assert clock_offset_seconds([PHONE], code, NOW) == seconds


def test_the_nearest_wrong_clock_is_named() -> None:
    """Of two devices that could have made the code, the one that is less wrong."""
    code = code_at(PHONE, PRESENT - 3)
    minute = replace(PHONE, device_id="d-minute", time_step_seconds=60)
    there = replace(minute, time_step_seconds=30, seed=b"another seed of 20 octets"[:20])
    assert clock_offset_seconds([there, PHONE], code, NOW) == -90
    assert clock_offset_seconds([], code, NOW) is None
    assert clock_offset_seconds([TOKEN], code_at(TOKEN, TOKEN.time_step(NOW) + 2), NOW) == 120


@pytest.mark.parametrize("now", [0, 29.999, 30, NOW, 2**33 + 0.5])
@pytest.mark.parametrize("seconds", [30, 60])
def test_a_time_step_begins_on_its_second(now: float, seconds: int) -> None:
    device = replace(PHONE, time_step_seconds=seconds)
    step = device.time_step(now)
    assert step * seconds <= now < (step + 1) * seconds


def test_the_uri_says_what_an_app_needs_and_no_more() -> None:
    """Defaults stay out: some apps stumble over what they need not read."""
    uri = otpauth_uri(PHONE, "alice", "radius-mfa")
    assert uri == f"otpauth://totp/radius-mfa:alice?secret={base32(PHONE.seed)}&issuer=radius-mfa"


@pytest.mark.parametrize("account", ["alice", "alice@corp.example", "Jörg Müller", "a/b?c&d#e%f"])
@pytest.mark.parametrize("algorithm", [Algorithm.SHA256, Algorithm.SHA512])
def test_an_app_that_scans_the_uri_makes_the_same_codes(account: str, algorithm: Algorithm) -> None:
    device = replace(TOKEN, algorithm=algorithm, seed=SEEDS[algorithm])
    uri = otpauth_uri(device, account, "ACME & Co")
    parts = urlsplit(uri)
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert unquote(parts.path) == f"/ACME & Co:{account}"
    assert asked == {
        "secret": base32(device.seed),
        "issuer": "ACME & Co",
        "algorithm": algorithm,
        "digits": "8",
        "period": "60",
    }
    made = code_by_hand(
        asked["secret"] + "=" * (-len(asked["secret"]) % 8),
        at=NOW,
        digits=int(asked["digits"]),
        step=int(asked["period"]),
        algorithm=asked["algorithm"].lower(),
    )
    assert made == code_at(device, device.time_step(NOW))


def test_base32_has_no_padding() -> None:
    """Apps take it without; RFC 4648 section 10 has the vectors."""
    assert base32(b"foobar") == "MZXW6YTBOI"
    assert base32(b"fooba") == "MZXW6YTB"


def test_a_device_does_not_show_its_seed() -> None:
    """Rule 8: neither it nor a match of it."""
    shown = repr(Match(PHONE, 1)) + str(PHONE)
    assert "12345678901234567890" not in shown
    assert base32(PHONE.seed) not in shown


# ---- Two codes in a row --------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [-120, -30, 0, 1, 119, 120])
def test_two_codes_in_a_row_tell_where_a_clock_is(offset: int) -> None:
    """O07: up to an hour to either side; the step is that of the second code."""
    present = PHONE.time_step(NOW)
    codes = code_at(PHONE, present + offset) + code_at(PHONE, present + offset + 1)
    assert matches_in_a_row([PHONE], codes, NOW) == [Match(PHONE, present + offset + 1)]


@pytest.mark.parametrize(
    ("first", "second"), [(-121, -120), (121, 122), (0, 0), (0, 2), (1, 0), (-5, 5)]
)
def test_other_two_codes_tell_nothing(first: int, second: int) -> None:
    """O07: beyond the hour, the same twice, one left out, the wrong way round."""
    present = PHONE.time_step(NOW)
    codes = code_at(PHONE, present + first) + code_at(PHONE, present + second)
    assert matches_in_a_row([PHONE], codes, NOW) == []
    assert matches_in_a_row([PHONE], codes[:-1], NOW) == []
    assert matches_in_a_row([PHONE], "", NOW) == []


@pytest.mark.parametrize("drift", [-40, -1, 0, 3, 40])
def test_a_known_drift_moves_the_window_along(drift: int) -> None:
    """O07: with its drift a device is as good as one whose clock is right, and no better."""
    device = replace(PHONE, drift_steps=drift)
    there = int(NOW) // 30 + drift
    for offset, accepted in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        found = matches([device], code_at(PHONE, there + offset), NOW, Window())
        assert bool(found) is accepted


@pytest.mark.parametrize(
    ("typed", "offset"),
    [("{}", 0), (" {} ", -1), ("{}", 1), ("{}", 2), ("x{}", 0), ("\u0660{}", 0)],
)
def test_the_first_code_of_a_device_is_of_a_step_of_the_window(typed: str, offset: int) -> None:
    """Spaces are fine, as an app shows them; nothing else but digits is."""
    device, now = Device("d", "phone", b"s" * 20), 1_700_000_000
    step = device.time_step(now) + offset
    found = newest_match(device, typed.format(code_at(device, step)), now, Window())
    right = typed.strip() == "{}" and abs(offset) < 2
    assert found == (step if right else None)


def test_a_key_is_shown_in_groups_of_four() -> None:
    assert in_groups("ABCDEFGHIJ") == "ABCD EFGH IJ"
