"""Tokens in CSV: with headings, as OATH CSV (serial, seed, type, digits, step), or privacyIDEA's.

OATH CSV: https://privacyidea.readthedocs.io, "Import of seed files". privacyIDEA writes
``owner, serial, seed, type, digits[, step]`` (``pi-tokenjanitor find export --format csv``).
"""

from collections.abc import Callable, Iterator
from enum import StrEnum

from radius_mfa.errors import Refused
from radius_mfa.imports import columns, text
from radius_mfa.imports.devices import (
    SERIAL_HEADINGS,
    USER_HEADINGS,
    Entry,
    seed_from_base32,
    seed_from_hex,
)
from radius_mfa.policy.new_device import Finding


class SeedEncoding(StrEnum):
    """How seeds are written in a text file."""

    AUTO = "auto"
    HEX = "hex"
    BASE32 = "base32"


COLUMNS = {
    "user": USER_HEADINGS,
    "serial": SERIAL_HEADINGS,
    "seed": ("seed", "secret", "secret key", "key", "otp key"),
    "kind": ("type", "token type", "kind"),
    "algorithm": ("algorithm", "hash", "digest", "hashlib"),
    "digits": ("digits", "otp length", "otp len", "length"),
    "time_step_seconds": ("time step", "time step seconds", "time interval", "interval", "period"),
    "name": ("name", "device", "description"),
}
"""What a column is, and the headings that mean it; Microsoft's and the token sellers' too."""

OATH_ORDER = ("serial", "seed", "kind", "digits", "time_step_seconds")
PRIVACYIDEA_ORDER = ("user", "serial", "seed", "kind", "digits", "time_step_seconds")

_KINDS = frozenset({"totp", "hotp", "ocra"})
_NOBODY = frozenset({"n/a", "none"})
_DECODERS: dict[SeedEncoding, Callable[[str], bytes | None]] = {
    SeedEncoding.HEX: seed_from_hex,
    SeedEncoding.BASE32: seed_from_base32,
}


def entries(
    octets: bytes,
    encoding: SeedEncoding = SeedEncoding.AUTO,
    *,
    order: tuple[str, ...] | None = None,
    algorithm: str = "",
) -> list[Entry]:
    """Return the tokens in a CSV file; *order* is that of its columns where it has no headings.

    *algorithm* is that of tokens whose row names none. Raises Refused where the file can't be
    read at all, or could be read in two ways.
    """
    rows = list(text.records(text.decoded(octets).text))
    if not rows:
        raise Refused("the file is empty")
    where = columns.named(rows[0][1], COLUMNS)
    if "seed" in where:
        rows, kind = rows[1:], "totp"
    else:
        where = _without_headings(rows[0][1], order)
        kind = "hotp"  # what a row of OATH CSV without a type is
    rows = [(number, cells) for number, cells in rows if not cells[0].startswith("#")]
    written = {number: columns.cell(cells, where, "seed") for number, cells in rows}
    decode = _DECODERS[_encoding(list(written.values()), encoding)]
    return [_entry(n, cells, where, decode(written[n]), kind, algorithm) for n, cells in rows]


def _without_headings(first: list[str], order: tuple[str, ...] | None) -> dict[str, int]:
    if order is None:
        at_kind = [at for at, cell in enumerate(first) if cell.strip().lower() in _KINDS]
        of_place = {2: OATH_ORDER, 3: PRIVACYIDEA_ORDER}
        order = of_place.get(at_kind[0] if at_kind else 0)
    if order is None:
        raise Refused(
            "the columns of the file are not known",
            "begin it with headings, such as: user,serial,seed,digits",
        )
    return {name: at for at, name in enumerate(order)}


def _encoding(written: list[str], asked: SeedEncoding) -> SeedEncoding:
    """Return how all seeds of a file are written; one that fits both ways proves nothing."""
    if asked is not SeedEncoding.AUTO:
        return asked
    fits = {
        name: sum(decode(seed) is not None for seed in written)
        for name, decode in _DECODERS.items()
    }
    if fits[SeedEncoding.HEX] == fits[SeedEncoding.BASE32] > 0:
        raise Refused(
            "the seeds may be hexadecimal or base32",
            "say which: --seed-encoding hex, or --seed-encoding base32",
        )
    return max(fits, key=lambda name: fits[name])


def _entry(  # noqa: PLR0917 - a row, and how to read it
    number: int,
    cells: list[str],
    where: dict[str, int],
    seed: bytes | None,
    kind: str,
    algorithm: str,
) -> Entry:
    row = {name: columns.cell(cells, where, name).strip() for name in COLUMNS}
    return Entry(
        f"row {number}",
        user="" if row["user"].lower() in _NOBODY else row["user"],
        serial=row["serial"],
        name=row["name"],
        kind=row["kind"] or kind,
        seed=seed or b"",
        algorithm=row["algorithm"] or algorithm,
        digits=row["digits"] or "6",
        time_step_seconds="30"
        if row["time_step_seconds"] in ("", "None")
        else row["time_step_seconds"],
        faults=tuple(_faults(seed, columns.cell(cells, where, "seed"))),
    )


def _faults(seed: bytes | None, written: str) -> Iterator[Finding]:
    if not written.strip():
        yield "it has no seed", "export it with its seed, or enrol another device"
    elif seed is None:
        yield (
            "its seed is not written as the others are",
            "is the column right, and did a spreadsheet change the cell? Or see --seed-encoding",
        )
