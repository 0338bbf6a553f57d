"""The key ring and its file: what is refused, how it is made, how a key is rotated."""

import base64
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from radius_mfa.errors import ConfigurationError
from radius_mfa.stores import keyring
from radius_mfa.stores.keyring import KEY_OCTETS, KeyRing, WrongKeyError

KEY = base64.b64encode(b"canary-key-of-32-octets-exactly!").decode()
OTHER_KEY = base64.b64encode(b"another-canary-key-of-32-octets!").decode()
SHORT_KEY = base64.b64encode(b"canary").decode()

NOBODY = 65_534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody: root reads every file."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


FORM = 'not of the form "version base64"'
VERSION = "the version is not between 1 and 2147483647"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the key ring {path} holds no key"),
        (keyring.HEADER + "\n  \n", "the key ring {path} holds no key"),
        (f"# a\n1 {KEY}\nrubbish\n", "{path}, line 3: " + FORM),
        (f"1 {KEY} x\n", "{path}, line 1: " + FORM),
        (f"one {KEY}\n", "{path}, line 1: " + FORM),
        (f"1.5 {KEY}\n", "{path}, line 1: " + FORM),
        (f"1 {KEY[:-1]}\n", "{path}, line 1: " + FORM),
        (f"1 {KEY[:8]}*{KEY[8:]}\n", "{path}, line 1: " + FORM),
        ("1\n", "{path}, line 1: " + FORM),
        (f"{KEY}\n", "{path}, line 1: " + FORM),
        (f"0 {KEY}\n", "{path}, line 1: " + VERSION),
        (f"-1 {KEY}\n", "{path}, line 1: " + VERSION),
        (f"2147483648 {KEY}\n", "{path}, line 1: " + VERSION),
        (f"1 {SHORT_KEY}\n", "{path}, line 1: a key is 32 octets long, this one 6"),
        (f"1 {KEY}\n2 {OTHER_KEY}\n1 {KEY}\n", "{path}, line 3: version 1 stands twice"),
    ],
)
def test_a_file_that_is_no_key_ring_is_refused_by_line(
    tmp_path: Path, text: str, fault: str
) -> None:
    """The place and the cure stand in the error; the key never does."""
    path = tmp_path / "keyring"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        keyring.load(path)
    assert refused.value.message == fault.format(path=path)
    assert refused.value.cure == "restore the file from your backup"
    for key in (KEY[:-4], OTHER_KEY, SHORT_KEY):
        assert key not in refused.value.message


def test_a_missing_key_ring_is_never_made_anew_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    with pytest.raises(ConfigurationError, match="is missing") as refused:
        keyring.load(path)
    assert str(path) in refused.value.message
    assert "restore it from your backup" in refused.value.cure
    assert not path.exists()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("forbidden", "Permission denied"),
        ("folder", "Is a directory"),
        ("octets", "it is not text"),
    ],
)
def test_a_key_ring_that_can_not_be_read_is_refused_with_the_cause(
    tmp_path: Path, fault: str, why: str
) -> None:
    path = tmp_path / "keyring"
    if fault == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe")
    if fault == "forbidden":
        path.chmod(0)
    reader = unprivileged() if fault == "forbidden" else nullcontext()
    with reader, pytest.raises(ConfigurationError) as refused:
        keyring.load(path)
    assert refused.value.message == f"the key ring {path} can't be read: {why}"
    assert "chmod 600" in refused.value.cure


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_new_key_ring_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "keyring"
    before = os.umask(umask)
    try:
        keyring.create(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keyring.load(path).versions == {1}


def test_a_key_ring_is_never_overwritten(tmp_path: Path) -> None:
    """It may be all that opens a database."""
    path = tmp_path / "keyring"
    keyring.create(path)
    before = path.read_text()
    with pytest.raises(FileExistsError):
        keyring.create(path)
    assert path.read_text() == before


def test_every_key_is_another(tmp_path: Path) -> None:
    rings = []
    for name in ("a", "b"):
        keyring.create(tmp_path / name)
        rings.append(keyring.load(tmp_path / name))
    version, sealed = rings[0].encrypt(b"seed", "place")
    with pytest.raises(WrongKeyError):
        rings[1].decrypt(version, sealed, "place")


def test_a_line_appended_rotates_the_key(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    keyring.create(path)
    old = keyring.load(path)
    version, sealed = old.encrypt(b"seed", "place")
    with path.open("a") as file:
        file.write(keyring.new_key_line(2))
    new = keyring.load(path)
    assert new.decrypt(version, sealed, "place") == b"seed"
    version, sealed = new.encrypt(b"seed", "place")
    assert (version, new.primary) == (2, 2)
    with pytest.raises(WrongKeyError, match="no key of version 2"):
        old.decrypt(version, sealed, "place")


def test_the_last_line_encrypts_whatever_its_number(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    path.write_text(f"7 {KEY}\r\n\r\n# the older one again\r\n3 {OTHER_KEY}\r\n")
    ring = keyring.load(path)
    assert ring.encrypt(b"seed", "place")[0] == 3
    assert ring.versions == {3, 7}


def test_a_ciphertext_is_bound_to_its_place_and_never_the_same_twice() -> None:
    ring = KeyRing({1: bytes(KEY_OCTETS)})
    sealed = {ring.encrypt(b"seed", "seed alice 1")[1] for _ in range(100)}
    assert len(sealed) == 100
    for place in ("seed alice 2", "seed bob 1", "seed alice", ""):
        with pytest.raises(WrongKeyError):
            ring.decrypt(1, next(iter(sealed)), place)


def test_no_repr_shows_a_key(tmp_path: Path) -> None:
    """L01: not by accident either, in a traceback or a log."""
    path = tmp_path / "keyring"
    path.write_text(f"1 {KEY}\n")
    ring = keyring.load(path)
    for shown in (repr(ring), str(ring), f"{ring.__dict__.get('_ciphers')!r}"):
        assert KEY not in shown
        assert "canary" not in shown


def test_derived_keys_are_the_same_on_every_node_and_tell_purposes_apart() -> None:
    here, there = (KeyRing({1: bytes(KEY_OCTETS)}) for _ in range(2))
    other = KeyRing({1: bytes(range(KEY_OCTETS))})
    assert here.derived("digests") == there.derived("digests")
    keys = {here.derived("digests"), here.derived("cookies"), other.derived("digests")}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {KEY_OCTETS}
    assert bytes(KEY_OCTETS) not in keys
