"""Files that hold one user's token: google-authenticator's and multiOTP's."""

import base64
from typing import Any

import pytest

from radius_mfa.errors import Refused
from radius_mfa.imports import formats, multiotp
from radius_mfa.imports.devices import judged
from radius_mfa.imports.formats import Format, Told

SEED = b"canary-seed-octets!!"
BASE32 = base64.b32encode(SEED).decode()
HOME_FILE = "/home/alice/.google_authenticator"

GOOGLE = f"""{BASE32}
" RATE_LIMIT 3 30 1700000000
" WINDOW_SIZE 17
" STEP_SIZE 60
" DISALLOW_REUSE 56666666
" TOTP_AUTH
12345678
87654321
"""


def judged_file(text: str, path: str, **told: Any) -> Any:
    octets = text.encode()
    kind = formats.recognised(octets)
    return judged(formats.entries(octets, kind, path, Told(now=0, **told)))


@pytest.mark.parametrize("path", [HOME_FILE, "/var/lib/gauth/alice"])
def test_a_google_authenticator_file_is_of_whose_it_is(path: str) -> None:
    found = judged_file(GOOGLE, path)
    [row] = found.rows
    assert (row.user, row.seed, row.digits, row.time_step_seconds) == ("alice", SEED, 6, 60)
    assert row.place == path
    [loss] = found.losses
    assert loss.what.startswith("2 scratch codes")
    assert "12345678" not in repr(found)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f'{BASE32}\n" HOTP_COUNTER 7\n', "it is HOTP"),
        (f'{BASE32[:16]}\n" TOTP_AUTH\n', "the seed is 80 bits long"),
        (f'{BASE32}\n" TOTP_AUTH\n" STEP_SIZE 10\n', "a new code every 10 s"),
    ],
)
def test_a_google_authenticator_file_that_can_t_be_taken_over_says_why(
    text: str, what: str
) -> None:
    found = judged_file(text, HOME_FILE)
    assert what in found.faults[0].what
    assert BASE32[:16] not in repr(found)


def test_what_is_no_google_authenticator_file_is_refused() -> None:
    with pytest.raises(Refused, match="no file of google-authenticator") as caught:
        formats.entries(b"canary\n", Format.GOOGLE_AUTHENTICATOR, HOME_FILE, Told(now=0))
    assert "canary" not in str(caught.value)


def multiotp_file(key: str = multiotp.DEFAULT_KEY, **fields: str) -> str:
    """Write a user's file as multiOTP does: XORed with key and name of the field, in base64."""

    def hidden(name: str, value: str) -> str:
        octets = bytes(
            ord(c) ^ ord(key[at % len(key)]) ^ ord(name[at % len(name)])
            for at, c in enumerate(value)
        )
        return base64.b64encode(octets).decode()

    plain = {
        "encryption_hash": multiotp.control_hash(key),
        "algorithm": "totp",
        "number_of_digits": "6",
        "time_interval": "30",
        "token_algo_suite": "HMAC-SHA1",
    }
    secret = {"token_seed": SEED.hex(), "user_pin": "4711"}
    lines = [f"{name}={fields.get(name, value)}" for name, value in plain.items()]
    lines += [f"{name}:={hidden(name, fields.get(name, v))}" for name, v in secret.items()]
    return "\n".join([multiotp.HEADER, "", *lines, ""])


def test_a_multiotp_file_gives_its_seed_up() -> None:
    assert SEED.hex() not in multiotp_file()
    found = judged_file(multiotp_file(), "/etc/multiotp/users/alice.db")
    [row] = found.rows
    assert (row.user, row.seed, row.digits, row.time_step_seconds) == ("alice", SEED, 6, 30)
    assert [loss.what.partition(":")[0] for loss in found.losses] == ["the PIN"]
    assert "4711" not in repr(found)


def test_a_multiotp_file_opens_with_its_own_key_alone() -> None:
    path, text = "/etc/multiotp/users/alice.db", multiotp_file("a key of their own")
    assert judged_file(text, path, key="a key of their own").rows[0].seed == SEED
    for wrong in ({}, {"key": "another"}):
        with pytest.raises(Refused, match="encrypted with another key") as caught:
            judged_file(text, path, **wrong)
        assert "another-" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"algorithm": "hotp"}, "it is HOTP"),
        ({"algorithm": "motp"}, "it is MOTP"),
        ({"token_algo_suite": "HMAC-MD5"}, "its digest is not supported"),
        ({"number_of_digits": "10"}, "codes of 10 digits"),
        ({"token_seed": "canary"}, "its seed can't be read"),
        ({"token_seed": "3132333435363738393031323334353637383930"}, "multiOTP publishes"),
    ],
)
def test_a_multiotp_file_that_can_t_be_taken_over_says_why(
    fields: dict[str, str], what: str
) -> None:
    found = judged_file(multiotp_file(**fields), "alice.db")
    assert what in found.faults[0].what
    assert found.rows == []
    assert "canary" not in repr(found)
