"""Mails of a running server: what happens at the VPN and on the command line reaches the user."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from radius_mfa.app import Stores
from tests.functional.test_cli import Command, in_process, refused
from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, Site, eventually
from tests.support.smtp import RealSmtp, body
from tests.support.smtp_server import PASSWORD as MAIL_PASSWORD
from tests.support.smtp_server import Behaviour

PORTAL = "https://mfa.corp.example"
SECTIONS = {
    "portal": {"base_url": PORTAL + "/"},
    "totp": {"issuer": "Corp VPN"},
    "lockout": {"failures_by_source": 3},
}


@pytest.fixture
def smtp() -> Iterator[RealSmtp]:
    with RealSmtp(Behaviour(tls="starttls", login=True)) as server:
        yield server


@pytest.fixture
def mailing(smtp: RealSmtp, tmp_path: Path) -> Iterator[Site]:
    """A site with a mail server, and alice, who has an address and a device."""
    with Site(tmp_path, SECTIONS | {"mail": smtp.settings()}) as site:
        site.canaries.add(MAIL_PASSWORD)
        site.add_users(["alice"])
        site.with_stores(lambda stores: stores.enrolments.set_mail("alice", "alice@corp.example"))
        yield site


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Command]:
    """Give how to run a command over the site of the test."""
    with in_process(monkeypatch, capsys, tmp_path / "radius-mfa.toml") as call:
        yield call


def test_what_happens_at_the_vpn_is_told_and_holds_no_secret(
    mailing: Site, smtp: RealSmtp, command: Command
) -> None:
    """One mail for a lock, whatever else is tried; one for a recovery code."""
    made = command("device", "recovery-codes", "alice", "--yes")
    [code, *_] = re.findall(r"^ {4}([a-z2-9]{5}-[a-z2-9]{5})$", made.out, re.MULTILINE)
    mailing.serve_metrics()
    server = mailing.start()
    with server.nas() as nas:
        assert nas.login("alice", PASSWORD + code).code == ACCESS_ACCEPT
        for number in range(5):
            assert nas.login("alice", f"wrong{number}{totp.code()}").code == ACCESS_REJECT
    server.line("mail.sent", kind="locked", user="alice")
    assert command("mail", "retry", "--all").exit_code == 0
    server.line("mail.sent", kind="recovery_code_used")
    mails = {str(mail["Subject"]).partition(": ")[2]: mail for mail in smtp.wait_for(2)}
    locked = mails["too many failed logins"]
    used = mails["a recovery code was used"]
    assert locked["To"] == used["To"] == "alice@corp.example"
    assert "further ones are refused" in " ".join(body(locked, "plain").split())
    assert f'href="{PORTAL}"' in body(used, "html")
    assert "9 are left" in " ".join(body(used, "plain").split())
    for octets in smtp.files:
        for secret in (*mailing.canaries, code, code.replace("-", "")):
            assert secret.encode() not in octets
    assert server.metric("radius_mfa_mails_total", fate="sent") == 2
    assert server.metric("radius_mfa_mails_waiting") == 0


def test_mails_outlive_the_mail_server_and_our_own(
    mailing: Site, smtp: RealSmtp, command: Command
) -> None:
    """Both are ended without warning while a mail waits; it goes out once, when they are back."""
    with smtp.down():
        server = mailing.start()
        assert command("user", "reset", "alice", "--yes").exit_code == 0
        assert server.line("mail.server_down")["cause"] == "connection refused"
        with server.nas() as nas:
            assert nas.login("alice", "wrong").code == ACCESS_REJECT, "logins go on"
        server.kill()
        waiting = eventually(  # a command may still meet the killed server's Redis, which ends
            lambda: (done := command("mail", "list")).exit_code == 0 and done, "a Redis"
        )
        assert re.search(r"reset +alice +alice@corp.example +waiting", waiting.out)
    assert command("mail", "retry", "--all").exit_code == 0
    server = mailing.start()
    [mail] = smtp.wait_for(1)
    assert mail["Subject"] == "Corp VPN: set up your second factor again"
    assert command("mail", "list").out == "Nothing waits or came to nothing.\n"
    listed = command("mail", "list", "--all", "--json").json()
    assert [(mail["user"], mail["fate"]) for mail in listed] == [("alice", "sent")]
    assert server.lines("mail.server_down") == []


@pytest.mark.usefixtures("mailing")
def test_what_admins_try_by_hand_says_what_is_in_the_way(smtp: RealSmtp, command: Command) -> None:
    sent = command("mail", "test", "bob@corp.example")
    assert sent.out == (
        "The mail server has taken a mail to bob@corp.example. Has it arrived?\n"
    ), sent.err
    assert str(smtp.wait_for(1)[0]["Subject"]) == "Corp VPN: a test"
    assert refused(command("mail", "test", "refused@corp.example")) == (
        "the mail server refuses the mail: 550 5.1.1 nobody of this name here"
    )
    assert command("mail", "test", "a@b\nBcc: c@d").exit_code == 1
    with smtp.down():
        down = command("mail", "test", "bob@corp.example")
    assert (down.exit_code, down.err.splitlines()) == (
        4,
        [
            "error: mail does not answer: connection refused",
            "are mail.host and mail.port right, and does the server run?",
        ],
    )


def test_without_a_mail_server_nothing_is_sent_or_kept(site: Site, command: Command) -> None:
    site.add_users(["alice"], seed=None)

    async def work(stores: Stores) -> int:
        await stores.enrolments.set_mail("alice", "alice@corp.example")
        await stores.outbox.lock("alice", -1, 0)
        return await stores.outbox.waiting()

    assert site.with_stores(work) == 0
    for words in (("test", "a@corp.example"), ("retry", "--all")):
        assert refused(command("mail", *words)) == "no mail server is configured"
    assert command("mail", "list").exit_code == 0


@pytest.mark.parametrize(
    ("mail", "fault"),
    [
        ({"from_address": ""}, "mail.host: mails need a sender"),
        ({"from_address": "vpn"}, "mail.from_address: a mail address is of the form"),
        ({"from_name": "x\r\nBcc: y@z"}, "mail.from_name: must be of printable characters"),
        ({"username": "x"}, "mail.username: a login takes a username and a password"),
        ({"password": "x"}, "mail.password: a login takes a username and a password"),
        ({"tls": "none"}, 'mail.tls: "none" would send mails, and the password, in the clear'),
        ({"ca_file": "/nonexistent"}, "mail.ca_file: /nonexistent can't be used"),
        ({"template_folder": "texts"}, "can't be made: UndefinedError: 'nobody' is undefined"),
    ],
)
def test_config_check_finds_what_would_keep_mails_from_being_sent(
    tmp_path: Path, mail: dict[str, str], fault: str, command: Command
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "texts.toml").write_text('[reset]\nsubject = "{{ nobody }}"', "utf-8")
    table = {"host": "smtp.corp.example", "from_address": "vpn@corp.example", **mail}
    with Site(tmp_path, {"mail": table}):
        said = command("config", "check")
        assert said.exit_code == 3
        assert fault in said.err
        assert "is fine" not in said.out


@pytest.mark.parametrize(
    "url",
    ["mfa.corp.example", "http://mfa.corp.example", "https://", "https://x/?a=b", "javascript:x"],
)
def test_a_link_that_leads_nowhere_or_in_the_clear_is_refused(
    tmp_path: Path, url: str, command: Command
) -> None:
    with Site(tmp_path, {"portal": {"base_url": url}}):
        said = command("config", "check")
    assert said.exit_code == 3
    assert "base_url: " in said.err


@pytest.mark.usefixtures("smtp")
def test_admins_are_told_whom_no_mail_reaches(mailing: Site, command: Command) -> None:
    mailing.add_users(["bob", "carol"], seed=None)
    required = command("user", "require", "--everyone").out.splitlines()
    assert required[0].startswith("Required of 3 users, ")
    assert required[1:] == ["2 users of them can't be told: no mail address."]


def test_mails_by_name_are_tried_again(mailing: Site, smtp: RealSmtp, command: Command) -> None:
    """Refused for good is not the end, once the address is mended."""
    changed = command("user", "set", "alice", "--mail", "refused@corp.example")
    assert changed.exit_code == 0
    server = mailing.start()
    assert command("user", "reset", "alice", "--yes").exit_code == 0
    line = server.line("mail.refused", user="alice")
    assert line["reply"] == "550 5.1.1 nobody of this name here"
    assert command("user", "set", "alice", "--mail", "alice@corp.example").exit_code == 0
    assert command("mail", "retry", "none").exit_code == 1
    assert command("mail", "retry").exit_code == 1
    assert command("mail", "retry", line["mail"]).exit_code == 0
    [mail] = smtp.wait_for(1)
    assert str(mail["Message-ID"]) == f"<{line['mail']}@corp.example>"
    eventually(lambda: server.lines("mail.sent"), "the line")
