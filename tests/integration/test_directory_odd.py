"""Answers of an LDAP server that no real one gives to order: a hand-written one does."""

from collections.abc import Sequence

import pytest

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores.interfaces import PasswordVerdict, UserMoved
from tests.support.fake_ldap import BIND_RESPONSE, SEARCH_DONE, FakeLdap, entry, reference, result
from tests.support.ldap_directory import directory, found

DONE = result(SEARCH_DONE)
ALICE = entry(b"uid=alice,dc=fake", uid=[b"alice"])


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ([entry(b"uid=\xff\xfe,dc=fake"), DONE], "a name that is not UTF-8"),
        ([result(SEARCH_DONE, 51, b"busy")], "LDAP result 51 \\(busy\\)"),
        ([result(SEARCH_DONE, 80, b"\xff\xfe")], "LDAP result 80|not UTF-8"),
        ([result(SEARCH_DONE, 10)], "LDAP result 10"),
        ([b"\x64\x03\x04\x01x"], "."),
        ([result(BIND_RESPONSE)], "not to the question"),
        ([], "no answer within"),
    ],
    ids=ascii,
)
async def test_an_answer_that_is_none_is_no_answer(answers: Sequence[bytes], cause: str) -> None:
    """Rule 9: silence for the NAS, a clear line for the log, and the next login is served."""
    async with FakeLdap(answers) as server, directory(server.section(timeout_seconds=1)) as fake:
        with pytest.raises(BackendUnavailable, match=cause):
            await fake.find("alice")
        server.answers = [ALICE, DONE]
        assert (await found(fake, "alice")).dn == "uid=alice,dc=fake"


@pytest.mark.parametrize(
    "answers",
    [
        [ALICE, reference(b"ldap://127.0.0.1:1/dc=elsewhere"), DONE],
        [reference(b"ldap://127.0.0.1:1/"), reference(b"ldap://127.0.0.1:1/"), ALICE, DONE],
    ],
)
async def test_referrals_are_not_followed(answers: Sequence[bytes]) -> None:
    async with FakeLdap(answers) as server, directory(server.section()) as fake:
        user = await found(fake, "alice")
        assert user.dn == "uid=alice,dc=fake"
        server.answers = [reference(b"ldap://127.0.0.1:1/"), DONE]
        assert await fake.find("alice") is None


async def test_more_entries_than_were_asked_for_are_no_user() -> None:
    """A server that does not mind the size limit of 2."""
    others = [entry(b"uid=a%d,dc=fake" % number, uid=[b"x"]) for number in range(9)]
    for answers in ([ALICE, *others, DONE], [ALICE, ALICE, result(SEARCH_DONE, 4)]):
        async with FakeLdap(answers) as server, directory(server.section()) as fake:
            assert (await found(fake, "alice")).state is PasswordVerdict.AMBIGUOUS


async def test_a_distinguished_name_of_64_kb_is_a_user_like_any_other() -> None:
    long = b"uid=" + b"x" * 65_536 + b",dc=fake"
    async with (
        FakeLdap([entry(long, uid=[b"alice"]), DONE]) as server,
        directory(server.section()) as fake,
    ):
        user = await found(fake, "alice")
        assert len(user.key) < 64
        assert await fake.verify(user, "right") is PasswordVerdict.RIGHT
        assert await fake.verify(user, "wrong") is PasswordVerdict.WRONG
        assert long in server.binds[0]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([b"\xff\xfe"], "rdn"),
        ([b"\xff", b"Second"], "second"),
        ([b"a\x00b"], "rdn"),
        ([], "rdn"),
        (["ÄNN".encode()], "änn"),
    ],
    ids=ascii,
)
async def test_a_name_that_can_t_be_shown_is_not(values: Sequence[bytes], name: str) -> None:
    """Invalid UTF-8, control characters: the entry's own name stands in for it."""
    async with (
        FakeLdap([entry(b"uid=rdn,dc=fake", uid=values), DONE]) as server,
        directory(server.section()) as fake,
    ):
        assert (await found(fake, "alice")).name == name


async def test_groups_by_an_attribute_of_the_user() -> None:
    """memberOf, as FreeIPA and 389 Directory Server keep it: each once, whatever stands there."""
    values = [
        b"cn=Sales\\, EMEA,dc=fake",
        b"cn=vpn,dc=fake",
        b"CN=VPN,dc=fake",
        b"n",
        b"\xff",
    ]
    async with (
        FakeLdap([ALICE, DONE]) as server,
        directory(server.section(groups="member-of")) as fake,
    ):
        user = await found(fake, "alice")
        server.answers = [entry(user.dn.encode(), memberOf=values), DONE]
        groups = await fake.groups(user)
        assert [one.name for one in groups] == ["Sales, EMEA", "VPN", "n", "\ufffd"]
        server.answers = [entry(user.dn.encode()), DONE]
        assert await fake.groups(user) == []
        server.answers = [DONE]  # no such entry is no user without groups
        with pytest.raises(UserMoved):
            await fake.groups(user)


async def test_a_bind_that_is_never_answered_is_sent_once() -> None:
    """Rule 3: no second server, no second try, and no verdict."""
    async with FakeLdap([ALICE, DONE]) as server:
        section = server.section(servers=[server.uri, server.uri], timeout_seconds=1)
        async with directory(section) as fake:
            user = await found(fake, "alice")
            server.answers_binds = False
            with pytest.raises(BackendUnavailable, match="no answer within"):
                await fake.verify(user, "right")
    assert len(server.binds) == 1
