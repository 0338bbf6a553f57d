"""The dictionaries against FreeRADIUS: radclient reads what we send, and we read what it sends.

radclient has an encoder and dictionaries of its own, so a wrong name, number, type, tag or
encryption of ours shows.
"""

import hashlib
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import pytest
from pyrad.packet import AuthPacket, CoAPacket, CoARequest

from radius_mfa.protocol.dictionary import dictionary
from tests.support.debian import tool
from tests.support.radius import MESSAGE_AUTHENTICATOR, hide

SECRET = b"only-in-this-test"
LONGEST_PACKET = 4096

Answer = Callable[[Any, Any], None]
"""Looks at a request and fills in its reply; both are pyrad's, with our dictionary."""


_RECEIVED = re.compile(r"^Received (?:Access-Accept|CoA-ACK) ", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^\t(.*)$", re.MULTILINE)


class Server:
    """Answers each request with an Access-Accept, Message-Authenticator first."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._faults: list[Exception] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        host, port = self._socket.getsockname()
        self.address = f"{host}:{port}"
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())  # nothing more to come
        self._thread.join()
        self._socket.close()
        if self._faults:
            raise self._faults[0]

    def _serve(self) -> None:
        while True:
            octets, peer = self._socket.recvfrom(LONGEST_PACKET)
            if not octets:
                return
            try:
                self._socket.sendto(self._reply(octets), peer)
            except Exception as fault:  # noqa: BLE001 - raised again where the test sees it
                self._faults.append(fault)

    def _reply(self, octets: bytes) -> bytes:
        kind = CoAPacket if octets[0] == CoARequest else AuthPacket
        request = kind(packet=octets, secret=SECRET, dict=dictionary())
        reply = request.CreateReply()  # Access-Accept or CoA-ACK
        reply.add_message_authenticator()
        self._answer(request, reply)
        sent: bytes = reply.ReplyPacket()
        assert sent[20] == MESSAGE_AUTHENTICATOR
        assert len(sent) <= LONGEST_PACKET
        return sent


def radclient(requests: Sequence[str], answer: Answer, kind: str = "auth") -> list[list[str]]:
    """Send each of *requests*, an attribute a line; return the lines that each reply came as."""
    return asked(Server(answer), requests, kind)


def asked(opened: Server, requests: Sequence[str], kind: str = "auth") -> list[list[str]]:
    """Let radclient send *requests* to a server that is started for it; return as above."""
    with opened as server:
        done = subprocess.run(
            [tool("radclient"), "-x", "-r1", "-t5", server.address, kind, SECRET.decode()],
            input="\n\n".join(requests).encode(),
            env=os.environ | {"TZ": "UTC"},
            capture_output=True,
            check=False,
            timeout=60,
        )
    output = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode() + output
    replies = []
    for received in _RECEIVED.split(output)[1:]:
        signature, *lines = _ATTRIBUTE.findall(received.partition("Sent ")[0])
        assert signature.startswith("Message-Authenticator = ")
        replies.append(lines)
    assert len(replies) == len(requests), done.stderr.decode() + output
    return replies


class Sample(NamedTuple):
    """A value as pyrad takes and gives it, and as radclient prints and reads it."""

    value: Any
    printed: str


OF_TYPE = {
    "date": Sample(1767225600, '"Jan  1 2026 00:00:00 UTC"'),
    "ether": Sample("02:00:5e:10:00:01", "02:00:5e:10:00:01"),
    "ifid": Sample("211:22ff:fe33:4455", "211:22ff:fe33:4455"),
    "integer": Sample(0xABCDEF, "11259375"),  # 24 bits: a tag takes the first octet
    "ipaddr": Sample("192.0.2.254", "192.0.2.254"),
    "ipv6addr": Sample("2001:db8::1:2", "2001:db8::1:2"),
    "ipv6prefix": Sample("2001:db8:1:200::/56", "2001:db8:1:200::/56"),
    "octets": Sample(b"\x00\xff'A\n0x\xc3", "0x00ff27410a3078c3"),
    "string": Sample('Grüße, "Bob" \\ 1', '"Grüße, \\"Bob\\" \\\\ 1"'),
}

HIDDEN = {  # encrypt=1: by hand, for pyrad leaves that to its caller
    "MS-CHAP-MPPE-Keys": Sample(bytes(range(1, 25)), "0x" + bytes(range(1, 25)).hex()),
    "User-Password": Sample(b"p\xe4sswort", '"p\\344sswort"'),
}

SEEN_AS = {
    "ASA-Access-Hours": "Altiga-Access-Hours-G/U",
    "ASA-WebVPN-ACL": "ASA-WebVPNACL",
    "ASA-WebVPN-Smart-Card-Removal-Disconnect": "ASA-WebVPNSmart-Card-Removal-Disconnect",
    "MS-ARAP-Challenge": "Attr-26.311.33",
    "Mikrotik-DHCP-Option-Param-STR2": "Mikrotik-DHCP-Option-ParamSTR2",
}
"""FreeRADIUS's name where ours is the vendor's or the RFC's."""

NOT_AMONG_OTHERS = {
    "EAP-Message",  # refused beside ARAP-Password: it has a packet of its own
    "Message-Authenticator",  # in every packet, made from its octets
    "Vendor-Specific",  # the envelope of the others
}

TAG = 5

SALTED = 2
"""pyrad's and FreeRADIUS's number for hiding as Tunnel-Password does (RFC 2868 section 3.5)."""


def names_by_packet() -> list[list[str]]:
    """Return all names, as many to a packet as surely fit."""
    names = [name for name in dictionary().attributes if name not in NOT_AMONG_OTHERS]
    return [["EAP-Message"], *(names[at : at + 60] for at in range(0, len(names), 60))]


def sample(name: str) -> Sample:
    return HIDDEN.get(name) or OF_TYPE[dictionary()[name].type]


def tagged(name: str) -> str:
    return f"{name}:{TAG}" if dictionary()[name].has_tag else name


def line(name: str) -> str:
    known_as = SEEN_AS.get(name, name)
    return f"{tagged(name).replace(name, known_as)} = {sample(name).printed}"


def key(name: str) -> Any:
    """Return the key of an attribute in a pyrad packet, for octets as they are."""
    return dictionary().attrindex.GetForward(name)


def number_of(request: Any) -> int:
    return int(request["NAS-Port"][0])


def test_radclient_reads_every_attribute_that_we_send() -> None:
    """T07: name, number, type, tag and encryption of each, as FreeRADIUS knows them."""
    packets = names_by_packet()

    def answer(request: Any, reply: Any) -> None:
        for name in packets[number_of(request)]:
            value = sample(name).value
            if name in HIDDEN:
                reply[key(name)] = [hide(value, SECRET, request.authenticator)]
            else:
                reply[tagged(name)] = value

    replies = radclient([f"NAS-Port = {number}" for number in range(len(packets))], answer)
    for names, lines in zip(packets, replies, strict=True):
        assert lines == [line(name) for name in names]


def test_we_read_every_attribute_that_radclient_sends() -> None:
    """T07: in an Access-Request, but for what hides as Tunnel-Password does: that in a CoA-Request.

    radclient hides those only there. It makes a CHAP-Password itself, see the test below.
    """
    salted = [name for name in dictionary().attributes if dictionary()[name].encrypt == SALTED]
    others = [
        [name for name in names if name not in {"CHAP-Password", *salted}]
        for names in names_by_packet()
    ]
    unread: list[str] = []

    def answer(request: Any, _reply: Any) -> None:
        names = salted if request.code == CoARequest else others[number_of(request)]
        unread.extend(name for name in names if not is_read(request, name))

    radclient([as_lines(number, names) for number, names in enumerate(others)], answer)
    radclient([as_lines(0, salted)], answer, "coa")
    assert unread == []


def as_lines(number: int, names: Sequence[str]) -> str:
    return "\n".join([f"NAS-Port = {number}", *map(line, names)])


def is_read(request: Any, name: str) -> bool:
    value = sample(name).value
    if name in HIDDEN:
        return bool(request[key(name)] == [hide(value, SECRET, request.authenticator)])
    return bool(request[tagged(name)][-1] == value)  # radclient's NAS-Port stands before ours


def test_we_read_the_chap_password_that_radclient_makes() -> None:
    """RFC 2865 section 2.2: MD5 of identifier, password and challenge, here the authenticator."""
    verified = []

    def answer(request: Any, _reply: Any) -> None:
        [made] = request["CHAP-Password"]
        digest = hashlib.md5(made[:1] + b"sesame" + request.authenticator)  # noqa: S324 - the RFC's
        verified.append(made[1:] == digest.digest())

    radclient(['CHAP-Password = "sesame"'], answer)
    assert verified == [True]


def named_values() -> dict[str, list[str]]:
    """Return the names of the values of each attribute."""
    found = {name: list(each.values.forward) for name, each in dictionary().attributes.items()}
    return {name: values for name, values in found.items() if values}


def test_radclient_reads_every_named_value_that_we_send() -> None:
    attributes = list(named_values())

    def answer(request: Any, reply: Any) -> None:
        name = attributes[number_of(request)]
        reply[tagged(name)] = named_values()[name]

    replies = radclient([f"NAS-Port = {number}" for number in range(len(attributes))], answer)
    for name, lines in zip(attributes, replies, strict=True):
        assert lines == [f"{tagged(name)} = {value}" for value in named_values()[name]]


@pytest.mark.parametrize(
    ("name", "value", "printed"),
    [
        ("Session-Timeout", 0, "0"),
        ("Session-Timeout", 2**32 - 1, "4294967295"),
        ("Mikrotik-Recv-Limit", 2**32 - 1, "4294967295"),
        ("Tunnel-Preference:31", 2**24 - 1, "16777215"),
        ("ERX-Service-Timeout:31", 2**24 - 1, "16777215"),
        ("Tunnel-Private-Group-Id:0", "42", '"42"'),
        ("Tunnel-Client-Endpoint:31", "x" * 252, f'"{"x" * 252}"'),
        ("Reply-Message", "ü" * 126 + "x", f'"{"ü" * 126}x"'),
        ("Cisco-AVPair", "x" * 247, f'"{"x" * 247}"'),
        ("Event-Timestamp", 2**32 - 1, '"Feb  7 2106 06:28:15 UTC"'),
        ("Framed-IPv6-Prefix", "::/0", "::/0"),
        ("Framed-IPv6-Prefix", "2001:db8::1/128", "2001:db8::1/128"),
        ("Framed-Interface-Id", "0:0:0:1", "0:0:0:1"),
        ("NAS-IPv6-Address", "2001:db8::", "2001:db8::"),
        ("Framed-IP-Address", "255.255.255.254", "255.255.255.254"),
    ],
)
def test_limits_go_both_ways(name: str, value: Any, printed: str) -> None:
    """T07: prefixes and addresses among them."""

    def answer(request: Any, reply: Any) -> None:
        assert request[name] == [value]
        reply[name] = value

    assert radclient([f"{name} = {printed}"], answer) == [[f"{name} = {printed}"]]


LENGTHS = [1, 15, 16, 32, 239]
"""Less than a block of 16 with the length octet, just one, more, a key, and the most that fits."""


@pytest.mark.parametrize("name", ["Tunnel-Password:1", "MS-MPPE-Send-Key", "MS-MPPE-Recv-Key"])
def test_hidden_values_of_every_length_go_both_ways(name: str) -> None:
    """RFC 2868 section 3.5; E11 rests on the keys."""
    values = [bytes(ord("a") + at % 26 for at in range(length)) for length in LENGTHS]
    text = dictionary()[name.partition(":")[0]].type == "string"
    lines = [f'{name} = "{v.decode()}"' if text else f"{name} = 0x{v.hex()}" for v in values]
    given = [value.decode() if text else value for value in values]
    read = []

    def answer(request: Any, reply: Any) -> None:
        if request.code == CoARequest:
            read.extend(request[name])
        else:
            reply[name] = given[number_of(request)]

    requests = [f"NAS-Port = {number}" for number in range(len(given))]
    assert radclient(requests, answer) == [[line] for line in lines]
    radclient(lines, answer, "coa")
    assert read == given


@pytest.mark.parametrize(
    ("octets", "printed"),
    [
        (b"123", '"123"'),
        (b"0xABCD", '"0xABCD"'),
        ("Gruppe Süd".encode(), '"Gruppe Süd"'),
        (b"S\xfcd", '"S\\374d"'),
        (b"a\0b", '"a\\000b"'),
    ],
)
def test_octets_given_by_number_go_as_they_are(octets: bytes, printed: str) -> None:
    """A17: of a value given by name, pyrad makes a number if it is digits or begins with 0x."""
    lines = [
        f"Class = 0x{octets.hex()}",
        f"Filter-Id = {printed}",
        f"ASA-Group-Policy = {printed}",
        f"Fortinet-Client-IPv6-Address = 0x{octets.hex()}",
    ]

    def answer(request: Any, reply: Any) -> None:
        for line in lines:
            number = key(line.partition(" ")[0])
            assert request[number] == [octets]
            reply[number] = [octets]

    assert radclient(["\n".join(lines)], answer) == [lines]


def test_one_reply_carries_several_tunnels() -> None:
    """RFC 2868: what belongs to one tunnel has one tag."""
    lines = [
        "Tunnel-Type:1 = ESP",
        "Tunnel-Type:2 = L2TP",
        'Tunnel-Server-Endpoint:1 = "192.0.2.1"',
        'Tunnel-Server-Endpoint:2 = "192.0.2.2"',
        'Tunnel-Password:1 = "first"',
        'Tunnel-Password:2 = "second"',
    ]

    def answer(_request: Any, reply: Any) -> None:
        for line in lines:
            name, _, printed = line.partition(" = ")
            reply.AddAttribute(name, printed.strip('"'))

    assert radclient(["NAS-Port = 0"], answer) == [lines]
