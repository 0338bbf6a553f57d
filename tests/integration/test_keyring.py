"""The key ring and its file: what is refused, how it is made, how a key is rotated."""

import base64
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from radius_mfa.errors import ConfigurationError, Refused
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


def test_a_key_that_is_appended_is_known_to_a_ring_that_was_read_before(tmp_path: Path) -> None:
    """No login waits for a restart: what the ring does not know sends it to its file."""
    path = tmp_path / "keyring"
    path.write_text(f"1 {KEY}")  # whose last line has no end
    old = keyring.load(path)
    keyring.append(path, keyring.new_key_line(2))
    new = keyring.load(path)
    version, sealed = 2, new.sealed(2, b"seed", "place")
    assert (new.newest, old.newest, sorted(old.versions)) == (2, 1, [1])
    assert old.decrypt(version, sealed, "place") == b"seed"
    assert old.decrypt(1, new.sealed(1, b"seed", "place"), "place") == b"seed"
    assert (old.newest, old.primary) == (2, 1), "which key encrypts is not the file's word"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"1 {KEY}\n2 {OTHER_KEY[:-6]}", id="half copied"),
        pytest.param("", id="emptied"),
        pytest.param(f"1 {OTHER_KEY}\n2 {KEY}\n", id="of another database"),
    ],
)
def test_a_file_that_has_become_faulty_leaves_the_ring_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keyring"
    path.write_text(f"1 {KEY}\n")
    ring = keyring.load(path)
    sealed = ring.sealed(1, b"seed", "place")
    path.write_text(text)
    assert not ring.knows(2)
    with pytest.raises(ConfigurationError) as refused:
        ring.read_again()
    assert str(path) in refused.value.message
    assert KEY not in refused.value.message
    assert ring.versions == {1}
    assert ring.decrypt(1, sealed, "place") == b"seed"


def test_a_key_that_is_gone_from_the_file_is_kept_until_it_is_dropped(tmp_path: Path) -> None:
    """A line that was removed too early stops no login before the next restart."""
    path = tmp_path / "keyring"
    path.write_text(f"1 {KEY}\n2 {OTHER_KEY}\n")
    ring = keyring.load(path)
    keyring.remove(path, 1)
    ring.read_again()
    assert ring.versions == {1, 2}
    ring.drop(1)
    assert (sorted(ring.versions), ring.newest, ring.knows(1)) == ([2], 2, False)


def test_a_line_is_removed_and_all_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    path.write_text(f"# 1 comment\n1 {KEY}\n11 {OTHER_KEY}\n\n")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    before = path.stat()
    keyring.remove(path, 1)
    assert path.read_text() == f"# 1 comment\n11 {OTHER_KEY}\n\n"
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: keyring.append(path, keyring.new_key_line(2)), id="append"),
        pytest.param(lambda path: keyring.remove(path, 1), id="remove"),
    ],
)
def test_a_file_that_can_not_be_written_stays_and_the_cure_is_told(
    change: Callable[[Path], None],
) -> None:
    """In a container it may be mounted read-only: what is left to do by hand stands in the cure."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = folder / "keyring"
        path.write_text(f"1 {KEY}\n")
        path.chmod(0o444)
        folder.chmod(0o555)
        with unprivileged(), pytest.raises(ConfigurationError, match="Permission denied") as told:
            change(path)
        assert "by hand" in told.value.cure
        assert path.read_text() == f"1 {KEY}\n"
        folder.chmod(0o755)


def test_a_key_ring_is_changed_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    keyring.create(path)
    with keyring.locked(path), pytest.raises(Refused, match="another"), keyring.locked(path):
        pytest.fail("both have it")
    with keyring.locked(path):
        pass


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
