"""Mails on their way to a real mail server: what is in the way is named, and nothing is lost."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from radius_mfa.authentication.enrolment import EnrolmentService
from radius_mfa.errors import BackendUnavailable, ConfigurationError
from radius_mfa.mails.message import Sender
from radius_mfa.mails.texts import Texts
from radius_mfa.server.mail_sender import MailSender, Writer
from radius_mfa.server.metrics import Metrics
from radius_mfa.stores.enrolments import EnrolmentStore, NewDevice
from radius_mfa.stores.keyring import KEY_OCTETS, KeyRing
from radius_mfa.stores.outbox import Outbox
from radius_mfa.stores.records import Database
from radius_mfa.stores.smtp import LetterRefused, SmtpOptions, SmtpServer
from tests.integration.conftest import Told
from tests.integration.test_outbox import NoLocks
from tests.support.smtp import RealSmtp, body
from tests.support.smtp_server import PASSWORD, USER, Behaviour

WRITER = Writer(Texts(), Sender("vpn@corp.example", "Corp VPN"), "https://mfa.corp.example")
HOUR = 3600.0


@pytest.fixture
def backend() -> str:
    """The database is not what these tests are about."""
    return "sqlite"


class Clock:
    """Time that a test moves; it starts a little ahead, so that what is queued is due."""

    def __init__(self) -> None:
        self.ahead = 20.0

    def __call__(self) -> float:
        return time() + self.ahead


class Node:
    """A node that sends mails."""

    def __init__(self, database: Database, smtp: RealSmtp, clock: Clock, **options: Any) -> None:
        self.metrics = Metrics()
        self.outbox = Outbox(database)
        server = server_of(smtp, **options)
        self.sender = MailSender(self.outbox, server, WRITER, self.metrics, clock=clock)

    async def round(self) -> list[tuple[str, str]]:
        """Let the node send; return the event and the cause of each line of its log."""
        with capture_logs() as lines:
            await self.sender.round()
        return [(x["event"], x.get("cause") or x.get("reply") or "") for x in lines]

    async def fates(self) -> dict[str, str]:
        return {one.user: one.fate for one in await self.outbox.listed(everything=True)}


def server_of(smtp: RealSmtp, **options: Any) -> SmtpServer:
    behaviour = smtp.behaviour
    known: dict[str, Any] = {
        "host": "localhost",
        "port": smtp.port,
        "tls": behaviour.tls,
        "ca_file": None if behaviour.tls == "none" else smtp.folder / "ca.pem",
        "username": USER if behaviour.login else "",
        "password": PASSWORD if behaviour.login else "",
        "timeout_seconds": 5.0,
    }
    return SmtpServer(SmtpOptions(**(known | options)))


@pytest.fixture(scope="module")
def smtp() -> Iterator[RealSmtp]:
    with RealSmtp() as server:
        yield server


@pytest.fixture(scope="module", params=["starttls", "tls"])
def safe_smtp(request: pytest.FixtureRequest) -> Iterator[RealSmtp]:
    with RealSmtp(Behaviour(tls=request.param, login=True)) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def node(sending: Database, smtp: RealSmtp, clock: Clock) -> Node:
    return Node(sending, smtp, clock)


@pytest.fixture
def store(sending: Database) -> EnrolmentStore:
    return EnrolmentStore(sending, KeyRing({1: bytes(range(KEY_OCTETS))}), Told())


async def enrolled(store: EnrolmentStore, *addresses: str) -> None:
    """Enrol a user at each address, and so queue a mail to each."""
    for address in addresses:
        name = address.partition("@")[0]
        await store.add_user(name, mail=address)
        await store.add_device(name, NewDevice("phone"), confirmed=True)


async def attempt(server: SmtpServer, recipient: str = "alice@corp.example") -> None:
    async with server.connection() as connection:
        await connection.send(WRITER.test_letter(recipient, "4711", time()))


# What is in the way


async def cause_of(server: SmtpServer) -> str:
    with pytest.raises(BackendUnavailable) as unavailable:
        await attempt(server)
    assert unavailable.value.backend == "mail"
    assert "canary" not in unavailable.value.cause
    return unavailable.value.cause


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"ca_file": None}, "its certificate is refused: unable to get local issuer"),
        ({"host": "localhost.localdomain"}, "its certificate is refused: Hostname mismatch"),
        ({"password": "wrong"}, "the login is refused: 535"),
        ({"username": "", "password": ""}, "the sender is refused: 530"),
    ],
)
async def test_a_server_that_is_not_trusted_gets_nothing(
    safe_smtp: RealSmtp, options: dict[str, Any], cause: str
) -> None:
    found = await cause_of(server_of(safe_smtp, **options))
    assert found.startswith((cause, "its name is not known"))
    assert safe_smtp.files == []


async def test_a_certificate_is_not_looked_at_where_that_is_asked_for(safe_smtp: RealSmtp) -> None:
    await attempt(server_of(safe_smtp, ca_file=None, verify_certificate=False))
    [mail] = safe_smtp.mails
    assert mail["Subject"] == "Corp VPN: a test"
    for file in (safe_smtp.folder / "mails").iterdir():
        file.unlink()


@pytest.mark.parametrize("certificate", ["elsewhere", "expired"])
async def test_another_s_or_an_old_certificate_is_refused(certificate: str) -> None:
    with RealSmtp(Behaviour(tls="tls", certificate=certificate)) as server:
        assert (await cause_of(server_of(server))).startswith("its certificate is refused: ")


async def test_where_encryption_was_stripped_nothing_is_sent(smtp: RealSmtp) -> None:
    """Neither the mail nor the password, whoever stands in the way."""
    before = len(smtp.files)
    login = {"username": USER, "password": PASSWORD}
    assert await cause_of(server_of(smtp, tls="starttls", **login)) == "it offers no STARTTLS"
    assert await cause_of(server_of(smtp, tls="tls", **login)) == "no TLS on this port"
    assert len(smtp.files) == before
    assert "canary" not in smtp.log


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"host": "none.invalid"}, "its name is not known"),
        ({"port": 1}, "connection refused"),
    ],
)
async def test_a_server_that_is_not_there_is_told_from_one_that_is_down(
    smtp: RealSmtp, options: dict[str, Any], cause: str
) -> None:
    assert await cause_of(server_of(smtp, **options)) == cause


async def test_a_server_that_says_nothing_is_waited_for_so_long_and_no_longer() -> None:
    with RealSmtp(Behaviour(silent=True)) as server:
        assert await cause_of(server_of(server, timeout_seconds=0.3)) == "no answer in time"


async def test_a_server_that_lets_nobody_log_in_without_encryption_says_so() -> None:
    with RealSmtp(Behaviour(tls="starttls", login=True)) as server:
        assert await cause_of(server_of(server, tls="none")) == "it offers no login"


async def test_a_sender_who_may_not_send_is_the_server_s_matter() -> None:
    with RealSmtp(Behaviour(sender_refused=True)) as server:
        cause = await cause_of(server_of(server))
    assert cause == "the sender is refused: 553 5.7.1 not your address"


async def test_an_address_beyond_ascii_takes_a_server_that_knows_them(smtp: RealSmtp) -> None:
    before = len(smtp.files)
    await attempt(server_of(smtp), "jörg@büro.example")
    mail = smtp.wait_for(before + 1)[-1]
    assert mail["X-Envelope"] == "vpn@corp.example jörg@xn--bro-hoa.example"
    with RealSmtp(Behaviour(utf8=False)) as old:
        await attempt(server_of(old), "joerg@büro.example")
        with pytest.raises(LetterRefused, match="no SMTPUTF8") as refused:
            await attempt(server_of(old), "jörg@büro.example")
        assert refused.value.permanent


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_certificates_that_can_t_be_read_are_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ca.pem"
    if text:
        file.write_text(text, "ascii")
    with pytest.raises(ConfigurationError, match="can't be used"):
        SmtpServer(SmtpOptions("localhost", ca_file=file))


# What the sender makes of it


async def test_what_waits_is_sent_over_one_encrypted_connection(
    sending: Database, safe_smtp: RealSmtp, clock: Clock, store: EnrolmentStore
) -> None:
    before = len(safe_smtp.files)
    await enrolled(store, "alice@corp.example", "bob@corp.example")
    node = Node(sending, safe_smtp, clock)
    assert await node.round() == [("mail.sent", "")] * 2
    assert [str(mail["To"]) for mail in safe_smtp.wait_for(before + 2)[before:]] == [
        "alice@corp.example",
        "bob@corp.example",
    ]
    assert await node.round() == []
    assert (await node.fates()) == {"alice": "sent", "bob": "sent"}


async def test_nothing_is_lost_while_the_server_is_down_and_one_line_tells(
    node: Node, smtp: RealSmtp, clock: Clock, store: EnrolmentStore
) -> None:
    """It is left alone for growing times; the mails wait, and go out in the end."""
    before = len(smtp.files)
    with smtp.down():
        await enrolled(store, "alice@corp.example", "bob@corp.example")
        assert await node.round() == [("mail.server_down", "connection refused")]
        assert await node.round() == [], "it is left alone for a while"
        for wait in (31, 61, 121):
            clock.ahead += wait
            assert await node.round() == []
        assert await node.fates() == {"alice": "waiting", "bob": "waiting"}
        assert node.metrics.mails_waiting._value.get() == 2
    assert await node.round() == []
    clock.ahead += 241
    sent = [("mail.sent", "")]
    assert await node.round() == [*sent, ("mail.server_up", ""), *sent]
    smtp.wait_for(before + 2)
    assert node.metrics.mails_waiting._value.get() == 0


async def test_a_refused_recipient_is_not_tried_again_and_stops_nobody(
    node: Node, smtp: RealSmtp, clock: Clock, store: EnrolmentStore
) -> None:
    before = len(smtp.files)
    await enrolled(store, "refused@corp.example", "later@corp.example", "alice@corp.example")
    assert await node.round() == [
        ("mail.refused", "550 5.1.1 nobody of this name here"),
        ("mail.deferred", "451 4.7.1 come again"),
        ("mail.sent", ""),
    ]
    clock.ahead += 31
    assert await node.round() == [("mail.sent", "")]
    assert await node.fates() == {"refused": "refused", "later": "sent", "alice": "sent"}
    assert len(smtp.wait_for(before + 2)) == before + 2
    assert await node.outbox.retry(None, clock()) == 1
    assert await node.round() == [("mail.refused", "550 5.1.1 nobody of this name here")]


async def test_a_mail_that_can_t_be_sent_for_days_is_given_up_and_can_be_tried_again(
    node: Node, smtp: RealSmtp, clock: Clock, store: EnrolmentStore
) -> None:
    before = len(smtp.files)
    await enrolled(store, "alice@corp.example")
    with smtp.down():
        await node.round()
        clock.ahead += 71 * HOUR
        assert await node.round() == []
        clock.ahead += HOUR
        assert await node.round() == [("mail.given_up", "connection refused")]
    assert await node.fates() == {"alice": "given up"}
    clock.ahead += HOUR
    assert await node.round() == []
    assert await node.outbox.retry(None, clock()) == 1
    assert [event for event, _ in await node.round()] == ["mail.sent", "mail.server_up"]
    smtp.wait_for(before + 1)


async def test_a_server_that_ends_the_connection_after_some_mails_gets_a_new_one(
    sending: Database, clock: Clock, store: EnrolmentStore
) -> None:
    with RealSmtp(Behaviour(most=2)) as smtp:
        await enrolled(store, *(f"user{number}@corp.example" for number in range(5)))
        node = Node(sending, smtp, clock)
        assert await node.round() == [("mail.sent", "")] * 5
        smtp.wait_for(5)


async def test_two_nodes_send_each_mail_once(
    sending: Database,
    other_sending: Database,
    smtp: RealSmtp,
    clock: Clock,
    store: EnrolmentStore,
) -> None:
    before = len(smtp.files)
    await enrolled(store, *(f"user{number}@corp.example" for number in range(12)))
    nodes = [Node(database, smtp, clock) for database in (sending, other_sending)]
    with capture_logs() as lines:
        await asyncio.gather(*(node.sender.round() for node in nodes))
    assert [line["event"] for line in lines] == ["mail.sent"] * 12
    recipients = [str(mail["To"]) for mail in smtp.wait_for(before + 12)[before:]]
    assert len(set(recipients)) == 12


async def test_what_is_not_true_any_more_is_not_sent(
    node: Node, smtp: RealSmtp, store: EnrolmentStore
) -> None:
    before = len(smtp.files)
    for name in ("alice", "bob", "carol"):
        await store.add_user(name, mail=f"{name}@corp.example")
    service = EnrolmentService(store, NoLocks())
    await service.require(["alice", "bob", "carol"], time())
    await service.withdraw(["alice"])
    await store.add_device("bob", NewDevice("phone"), confirmed=True)
    await store.set_mail("carol", None)
    events = await node.round()
    assert sorted(events) == [
        ("mail.dropped", "it is not true any more"),
        ("mail.dropped", "it is not true any more"),
        ("mail.dropped", "the user has no mail address any more"),
        ("mail.sent", ""),
    ]
    assert str(smtp.wait_for(before + 1)[-1]["Subject"]) == "Corp VPN: your second factor is set up"


async def test_the_reminder_names_the_end_that_holds_now(
    node: Node, smtp: RealSmtp, clock: Clock, store: EnrolmentStore
) -> None:
    before = len(smtp.files)
    await store.add_user("alice", mail="alice@corp.example")
    service = EnrolmentService(store, NoLocks())
    await service.require(["alice"], time(), days=3)
    assert await node.round() == [("mail.sent", "")]
    clock.ahead += 2 * 24 * HOUR
    for expected in ([("mail.sent", "")], []):
        assert await node.round() == expected
    mail = smtp.wait_for(before + 2)[-1]
    assert "your second factor is due by" in str(mail["Subject"])
    assert "https://mfa.corp.example" in body(mail, "html")


async def test_a_name_from_outside_stays_in_its_place(
    node: Node, smtp: RealSmtp, store: EnrolmentStore
) -> None:
    """A device may be called anything printable."""
    before = len(smtp.files)
    await store.add_user("zoë <b>@x", mail="zoe@corp.example")
    device = NewDevice("<img src=x> {{ portal }} Bcc: m@evil.example")
    await store.add_device("zoë <b>@x", device, confirmed=True)
    await node.round()
    mail = smtp.wait_for(before + 1)[-1]
    assert mail["Bcc"] is None
    assert mail["X-Envelope"] == "vpn@corp.example zoe@corp.example"
    assert device.name in " ".join(body(mail, "plain").split())
    assert "&lt;img src=x&gt; {{ portal }}" in body(mail, "html")
