"""Mails on the wire: one header a line, whatever a name holds, and seven bits."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from radius_mfa.mails.message import Message, Sender, message
from radius_mfa.mails.texts import Content

NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)
CONTENT = Content("Jörg's device", "Grüße\n.\nFrom here\n", "<p>Grüße</p>", "en")


def made(
    sender: str = "vpn@corp.example",
    name: str = "VPN",
    recipient: str = "alice@corp.example",
    content: Content = CONTENT,
) -> Message:
    return message(content, Sender(sender, name, "help@corp.example"), recipient, "4711", NOW)


def read(octets: bytes) -> EmailMessage:
    found = message_from_bytes(octets, policy=policy.default)
    assert isinstance(found, EmailMessage)
    assert not found.defects
    return found


@pytest.mark.parametrize("text", ["x\r\nBcc: mallory@evil.example", "x\nBcc: y@z", "x\rBcc: y@z"])
def test_no_text_begins_a_header_of_its_own(text: str) -> None:
    """Texts are of one line by then, names and addresses were refused: this is the last door."""
    with pytest.raises(ValueError, match=r"CR or LF|Header values|linefeed"):
        made(content=Content(text, "", "", "en"))
    with pytest.raises(ValueError, match=r"CR or LF|Header values|linefeed"):
        made(name=text)
    with pytest.raises(ValueError, match=r"CR or LF|Header values|linefeed"):
        made(recipient=f"alice@corp.example{text}")


def test_headers_say_from_whom_to_whom_and_that_nobody_need_answer() -> None:
    mail = read(made(name='Corp, "VPN" <x@y>').octets)
    assert {name: str(value) for name, value in mail.items() if name != "Content-Type"} == {
        "From": '"Corp, \\"VPN\\" <x@y>" <vpn@corp.example>',
        "To": "alice@corp.example",
        "Reply-To": "help@corp.example",
        "Subject": "Jörg's device",
        "Date": "Fri, 15 Jan 2027 12:00:00 +0000",
        "Message-ID": "<4711@corp.example>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "MIME-Version": "1.0",
        "Content-Language": "en",
    }
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().replace("\r\n", "\n") == CONTENT.text
    assert html.get_content().strip() == CONTENT.html


@pytest.mark.parametrize(
    ("recipient", "on_the_wire", "utf8"),
    [
        ("alice@corp.example", "alice@corp.example", False),
        ("alice@büro.example", "alice@xn--bro-hoa.example", False),
        ("jörg@büro.example", "jörg@xn--bro-hoa.example", True),
    ],
)
def test_only_a_name_beyond_ascii_needs_a_server_that_takes_it(
    recipient: str, on_the_wire: str, *, utf8: bool
) -> None:
    letter = made(recipient=recipient)
    assert (letter.recipient, letter.utf8) == (on_the_wire, utf8)
    assert letter.octets.isascii() is not utf8
    assert on_the_wire in str(read(letter.octets)["To"])
    assert all(len(line) <= 998 for line in letter.octets.split(b"\r\n")), "RFC 5321 4.5.3.1.6"
