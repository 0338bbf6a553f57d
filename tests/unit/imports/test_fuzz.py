"""Whatever a file holds, a reader takes it, refuses it, or asks for its key; it never breaks."""

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from radius_mfa.errors import Refused
from radius_mfa.imports import bundle, formats, multiotp, users
from radius_mfa.imports.devices import judged, owners_of_serials
from radius_mfa.imports.formats import Format, Told
from radius_mfa.imports.pskc import KeyNeededError
from tests.support import pskc

SAMPLES = [
    pskc.figure_6("totp"),
    pskc.figure_7("totp"),
    b"user,seed\nalice,3132333435363738393031323334353637383930\n",
    b"alice@realm, T1, 3132333435363738393031323334353637383930, totp, 6, 30\n",
    b"user;password_hash;suspended\nalice;$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$x;yes\n",
    f"{multiotp.HEADER}\ntoken_seed:=AAAA\nalgorithm=totp\nencryption_hash=X\n".encode(),
    b'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP\n" TOTP_AUTH\n12345678\n',
    bundle.sealed([], bundle.key_file(b"A" * 43 + b"=")),
]

TOLD = [Told(0), Told(0, key=pskc.RFC_KEY, passphrase=pskc.RFC_PASSPHRASE)]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sample with pieces cut out, doubled or written over."""
    octets = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted(draw(st.tuples(st.integers(0, len(octets)), st.integers(0, len(octets)))))
        octets = octets[:at] + draw(st.binary(max_size=8)) + octets[min(end, at + 16) :]
    return octets


@settings(max_examples=400, deadline=None)
@given(octets=damaged() | st.binary(max_size=200))
@example(octets=b"")
@example(octets="multiotp-database-format-v3\nencryption_hash=\u00e9\n".encode())
def test_no_file_breaks_a_reader(octets: bytes) -> None:
    for told in TOLD:
        for kind in Format:
            with suppress(Refused, KeyNeededError):
                judged(formats.entries(octets, kind, "/home/alice/x", told))
    for read in (formats.recognised, users.parse, owners_of_serials, bundle.kind_of_lock):
        with suppress(Refused):
            read(octets)
    with suppress(Refused):
        bundle.opened(octets, bundle.key_file(b"A" * 43 + b"="))


KINDS = [
    Format.PSKC,
    Format.PSKC,
    Format.CSV,
    Format.CSV,
    Format.CSV,
    Format.MULTIOTP,
    Format.GOOGLE_AUTHENTICATOR,
]


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KINDS)))
def test_every_kind_of_file_is_recognised(number: int, kind: Format) -> None:
    assert formats.recognised(SAMPLES[number]) is kind


def test_an_export_is_sent_to_the_command_that_reads_it() -> None:
    with pytest.raises(Refused, match="an export of radius-mfa"):
        formats.recognised(SAMPLES[-1])
