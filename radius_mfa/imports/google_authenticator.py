"""The file of google-authenticator's PAM module: a seed, options, scratch codes; no user."""

import re

from radius_mfa.errors import Refused
from radius_mfa.imports import text
from radius_mfa.imports.devices import Entry, seed_from_base32

DEVICE_NAME = "google-authenticator"

_SCRATCH_CODE = re.compile(r"\d{8}")


def entry(octets: bytes, user: str, place: str) -> Entry:
    """Return the token in *octets*, which is *user*'s; raises Refused for another kind of file."""
    first, *rest = text.decoded(octets).text.splitlines() or [""]
    seed = seed_from_base32(first)
    options = dict(_option(line) for line in rest if line.startswith('"'))
    if seed is None:
        raise Refused(
            f"{place} is no file of google-authenticator: its first line is no seed",
            "give the .google_authenticator of a user's home folder",
        )
    scratch_codes = sum(bool(_SCRATCH_CODE.fullmatch(line.strip())) for line in rest)
    losses = (f"{scratch_codes} scratch codes: there are no recovery codes yet",)
    return Entry(
        place,
        user=user,
        name=DEVICE_NAME,
        kind="hotp" if "HOTP_COUNTER" in options and "TOTP_AUTH" not in options else "totp",
        seed=seed,
        time_step_seconds=options.get("STEP_SIZE", "30"),
        losses=losses if scratch_codes else (),
    )


def _option(line: str) -> tuple[str, str]:
    name, _, value = line.removeprefix('"').strip().partition(" ")
    return name, value.strip()
