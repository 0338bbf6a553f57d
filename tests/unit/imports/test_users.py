"""Users in a CSV file: every fault by row and cure, and no secret in any of them."""

import pytest

from radius_mfa.errors import Refused
from radius_mfa.imports import users
from radius_mfa.imports.rows import Parsed, UserRow

SALT, DIGEST = "c2FsdHNhbHRzYWx0", "ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGlnZXN0"
ARGON2ID = f"$argon2id$v=19$m=19456,t=2,p=1${SALT}${DIGEST}"


def parsed(*rows: str, heading: str = "user;password_hash;password;suspended") -> Parsed[UserRow]:
    return users.parse("\n".join([heading, *rows]).encode(), ["corp"])


def test_hashes_and_passwords_are_taken_as_they_are_and_names_in_their_one_form() -> None:
    found = parsed(
        f"CORP\\Alice;{ARGON2ID};;no", "zoë;; two words ;YES", f"carol; {ARGON2ID} ;;", ";;;"
    )
    assert found.faults == found.losses == []
    assert [(r.place, r.user, r.password_hash, r.password, r.suspended) for r in found.rows] == [
        ("row 2", "alice", ARGON2ID, None, False),
        ("row 3", "zoë", None, " two words ", True),
        ("row 4", "carol", ARGON2ID, None, None),
    ]


def test_mail_addresses_are_taken_and_bad_ones_named() -> None:
    """Whoever has none keeps the one on record."""
    found = parsed(
        f"alice;{ARGON2ID}; Alice@corp.example ",
        f"bob;{ARGON2ID};",
        f"carol;{ARGON2ID};carol",
        heading="user;password_hash;E-Mail",
    )
    assert [(row.user, row.mail) for row in found.rows] == [
        ("alice", "Alice@corp.example"),
        ("bob", None),
    ]
    assert [(fault.place, fault.what) for fault in found.faults] == [
        ("row 4", "a mail address is of the form alice@corp.example")
    ]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (f";{ARGON2ID};;", "the user name is empty"),
        (f"a\u202eb;{ARGON2ID};;", "control or invisible character"),
        (f"{'x' * 254};{ARGON2ID};;", "longer than 253"),
        ("bob;;;", "neither a password nor a hash"),
        (f"bob;{ARGON2ID};canary;", "both a password and a hash"),
        (f"bob;{ARGON2ID};;perhaps", "suspended is neither yes nor no"),
        (f"bob;{ARGON2ID};;;extra", "5 cells, but 4 headings"),
        (f"ALICE;{ARGON2ID};;", "the same user as in row 2"),
        (f"bob;$argon2id$v=19$m=19456,t=2,p=1${SALT};;", "the argon2id hash is damaged"),
        (f"bob;$argon2id$v=19$m=0,t=2,p=1${SALT}${DIGEST};;", "the argon2id hash is damaged"),
        (f"bob;{ARGON2ID}canary!;;", "the argon2id hash is damaged"),
        (f"bob;{ARGON2ID + 'A' * 200};;", "longer than 255 characters"),
        (f"bob;$argon2id$v=19$m=1048576,t=2,p=1${SALT}${DIGEST};;", "more than a second"),
        (f"bob;$argon2id$v=19$m=8,t=999999999,p=1${SALT}${DIGEST};;", "more than a second"),
    ],
)
def test_a_row_at_fault_is_named_with_its_cure(row: str, what: str) -> None:
    found = parsed(f"alice;{ARGON2ID};;", row)
    assert [fault.place for fault in found.faults] == ["row 3"]
    [fault] = found.faults
    assert what in fault.what
    assert fault.cure
    assert [row.user for row in found.rows] == ["alice"]
    for secret in ("canary", DIGEST, SALT):
        assert secret not in repr(fault)


def test_a_cell_holds_several_groups_and_an_empty_one_none() -> None:
    """None stands for a file that says nothing of groups: an update leaves them as they are."""
    rows = (f"alice,{ARGON2ID!r},VPN Staff; vpn staff ;Ops", f"bob,{ARGON2ID!r},")
    found = users.parse("\n".join(["user,hash,groups", *rows]).replace("'", '"').encode())
    assert [row.groups for row in found.rows] == [("VPN Staff", "Ops"), ()]
    assert parsed(f"alice;{ARGON2ID};;").rows[0].groups is None
    unfit = users.parse(f'user,hash,groups\nalice,"{ARGON2ID}",ok;{"x" * 129}'.encode())
    assert [fault.what for fault in unfit.faults] == ["a group's name has at most 128 characters"]


@pytest.mark.parametrize(
    ("password_hash", "kind"),
    [
        ("$2b$12$canarycanarycanarycana", "bcrypt"),
        ("$1$canary$canary", "md5crypt"),
        ("$5$canary$canary", "sha256crypt"),
        ("$6$rounds=5000$canary$canary", "sha512crypt"),
        ("$y$j9T$canary$canary", "yescrypt"),
        ("$7$C6..../....canary", "scrypt"),
        ("$pbkdf2-sha256$29000$canary$canary", "PBKDF2"),
        ("pbkdf2_sha256$600000$canary$canary", "PBKDF2"),
        ("$argon2i$v=19$m=65536,t=3,p=4$canary$canary", "argon2d or argon2i"),
        ("{SSHA}canary", "LDAP"),
        ("0123456789abcdef0123456789abcdef", "MD5 or NT"),
        ("0123456789abcdef0123456789abcdef01234567", "SHA-1"),
    ],
)
def test_a_hash_of_another_kind_is_refused_by_name(password_hash: str, kind: str) -> None:
    [fault] = parsed(f"alice;{password_hash};;").faults
    assert fault.what.startswith(f"a hash of kind {kind}: argon2id hashes alone")
    assert "new password" in fault.cure
    assert "canary" not in repr(fault)
    assert password_hash not in repr(fault)


def test_a_hash_that_nobody_knows_is_not_quoted() -> None:
    [fault] = parsed("alice;canary;;").faults
    assert fault.what.startswith("a hash of no known kind")
    assert "canary" not in repr(fault)


def test_every_fault_of_every_row_is_listed() -> None:
    found = parsed(";canary;;", "bob;;;maybe", f"carol;{ARGON2ID};;")
    assert [fault.place for fault in found.faults] == ["row 2", "row 2", "row 3", "row 3"]


def test_a_secret_in_the_wrong_column_is_not_shown() -> None:
    found = parsed(f"{ARGON2ID};alice;;")
    assert found.faults
    assert DIGEST not in repr(found.faults)


def test_secrets_are_in_no_repr() -> None:
    found = parsed(f"alice;{ARGON2ID};;", "bob;;canary;")
    assert "canary" not in repr(found)
    assert DIGEST not in repr(found)


def test_a_column_that_is_not_read_is_told() -> None:
    found = users.parse(f'Login,Telephone,Hash\nalice,4711,"{ARGON2ID}"\n'.encode())
    assert [row.user for row in found.rows] == ["alice"]
    [loss] = found.losses
    assert "Telephone" in loss.what


def test_a_guessed_encoding_is_told() -> None:
    found = users.parse("user;password\nzoë;canary\n".encode("cp1252"))
    assert found.rows[0].user == "zoë"
    assert "Windows-1252" in found.losses[0].what


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "the first row must name the columns"),
        (b"alice,canary\nbob,canary\n", "the first row must name the columns"),
        (b"user,email\nalice,x\n", "the first row must name the columns"),
        (b"user,user name,password\na,b,c\n", "columns 1 and 2 are both for user"),
        (b"user,password\n\n", "the file holds no user"),
    ],
)
def test_a_file_that_is_no_list_of_users_is_refused(octets: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why) as caught:
        users.parse(octets)
    assert "canary" not in str(caught.value)
