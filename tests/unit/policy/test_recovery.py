"""The shape of recovery codes, and where in a field one may stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radius_mfa.policy import recovery
from radius_mfa.policy.credentials import CodePosition, SplitPolicy

END, START = SplitPolicy(), SplitPolicy(CodePosition.START)
COMMA = SplitPolicy(separator=",")
CODE = "abcde23456"


@pytest.mark.parametrize(
    ("field", "policy", "passwords"),
    [
        (b"pw" + b"abcde23456", END, [b"pw"]),
        (b"pwABCDE-23456", END, [b"pw"]),
        (b"abcde-23456pw", START, [b"pw"]),
        (b"pw,abcde-23456", COMMA, [b"pw"]),
        (b"abcde23456", END, [b""]),
        (b"pw abcde-23456", COMMA, []),
        (b"pwabcde23450", END, []),
        (b"pwabcdel3456", END, []),
        (b"abcd-e23456", END, []),
        (b"pwabcde_23456", END, []),
        (b"bcde23456", END, []),
        (b"", END, []),
        ("pwabcde2345\N{FULLWIDTH DIGIT SIX}".encode(), END, []),
    ],
)
def test_where_a_recovery_code_may_stand(
    field: bytes, policy: SplitPolicy, passwords: list[bytes]
) -> None:
    found = recovery.candidates(field, policy)
    assert [one.password for one in found] == passwords
    assert {one.code for one in found} <= {CODE}


@given(
    password=st.binary(max_size=20),
    code=st.text(recovery.ALPHABET, min_size=10, max_size=10),
    policy=st.sampled_from([END, START, COMMA, SplitPolicy(CodePosition.START, "::")]),
    hyphen=st.booleans(),
    capitals=st.booleans(),
)
def test_whatever_the_password_is_the_code_is_found(
    password: bytes, code: str, policy: SplitPolicy, *, hyphen: bool, capitals: bool
) -> None:
    """A password that ends in such characters too only adds a reading."""
    typed = (recovery.shown(code) if hyphen else code).encode()
    typed, separator = typed.upper() if capitals else typed, policy.separator.encode()
    field = password + separator + typed
    if policy.code_position is CodePosition.START:
        field = typed + separator + password
    readings = [(one.password, one.code) for one in recovery.candidates(field, policy)]
    assert (password, code) in readings


def test_digests_are_salted() -> None:
    assert recovery.digest(CODE, "one") != recovery.digest(CODE, "other")
    assert len(set(recovery.ALPHABET)) == 32
    assert not set("lo01") & set(recovery.ALPHABET)
