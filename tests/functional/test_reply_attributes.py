"""Reply attributes of rules against FreeRADIUS: radclient reads every one as it was written."""

from collections.abc import Sequence
from typing import Any

import pytest

from radius_mfa.policy.attributes import Encoded, Person, granted, reply_attribute
from radius_mfa.protocol.reply import signed_reply
from radius_mfa.protocol.reply_attributes import UnfitAttribute, encoder
from radius_mfa.protocol.wire import Code, parsed
from tests.functional.test_dictionaries import (
    SECRET,
    Server,
    asked,
    line,
    named_values,
    names_by_packet,
    sample,
    tagged,
)


class OurReplies(Server):
    """Answers the request with NAS-Port number n with the n-th of *replies*."""

    def __init__(self, replies: Sequence[Sequence[Encoded]]) -> None:
        super().__init__(lambda _request, _reply: None)
        self._replies = replies

    def _reply(self, octets: bytes) -> bytes:
        packet = parsed(octets)
        number = int.from_bytes(packet.firsts[5], "big")
        return signed_reply(packet, SECRET, Code.ACCESS_ACCEPT, encoded=self._replies[number])


def read_by_radclient(replies: Sequence[Sequence[Encoded]]) -> list[list[str]]:
    return asked(OurReplies(replies), [f"NAS-Port = {number}" for number in range(len(replies))])


def may_be_sent(name: str) -> bool:
    try:
        encoder(name)
    except UnfitAttribute:
        return False
    return True


def text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def made(name: str, *values: str) -> tuple[Encoded, ...]:
    """Return what a rule sends of an attribute."""
    return tuple(granted([reply_attribute(name, values, encoder(name))], Person("a")).attributes)


def test_radclient_reads_every_attribute_that_a_rule_can_send() -> None:
    """A17, T07: number, type, tag, vendor and encryption of each attribute of the dictionary."""
    packets = [[name for name in names if may_be_sent(name)] for names in names_by_packet()]
    replies = [
        [encoder(tagged(name))(text(sample(name).value)) for name in names] for names in packets
    ]
    for names, lines in zip(packets, read_by_radclient(replies), strict=True):
        assert lines == [line(name) for name in names]
    assert sum(map(len, packets)) > 300


def test_radclient_reads_every_named_value_that_a_rule_can_send() -> None:
    names = {name: values for name, values in named_values().items() if may_be_sent(name)}
    replies = [[encoder(tagged(name))(one) for one in values] for name, values in names.items()]
    for name, lines in zip(names, read_by_radclient(replies), strict=True):
        assert lines == [f"{tagged(name)} = {value}" for value in names[name]]


CASES: dict[str, tuple[str, tuple[str, ...], list[str]]] = {
    "digits are text": ("Filter-Id", ("123",), ['Filter-Id = "123"']),
    "digits are octets": ("Class", ("123",), ["Class = 0x313233"]),
    "0x is text": ("Class", ("0xAB",), ["Class = 0x30784142"]),
    "hex is octets": ("Class", ("a{hex:00ff}{{b}}",), ["Class = 0x6100ff7b627d"]),
    "umlauts": ("Filter-Id", ("Gruppe Süd",), ['Filter-Id = "Gruppe Süd"']),
    "number": ("Session-Timeout", ("28800",), ["Session-Timeout = 28800"]),
    "largest": ("Idle-Timeout", ("4294967295",), ["Idle-Timeout = 4294967295"]),
    "name": ("Service-Type", ("Framed-User",), ["Service-Type = Framed-User"]),
    "address": ("Framed-IP-Address", ("192.0.2.9",), ["Framed-IP-Address = 192.0.2.9"]),
    "address of AD": ("Framed-IP-Address", ("-1073741303",), ["Framed-IP-Address = 192.0.2.9"]),
    "IPv6 address": (
        "Framed-IPv6-Address",
        ("2001:DB8::1",),
        ["Framed-IPv6-Address = 2001:db8::1"],
    ),
    "IPv6 prefix": (
        "Delegated-IPv6-Prefix",
        ("2001:db8:1::/56", "::/0"),
        ["Delegated-IPv6-Prefix = 2001:db8:1::/56", "Delegated-IPv6-Prefix = ::/0"],
    ),
    "tagged number": ("Tunnel-Type:1", ("VLAN",), ["Tunnel-Type:1 = VLAN"]),
    "untagged number": ("Tunnel-Type", ("VLAN",), ["Tunnel-Type:0 = VLAN"]),
    "tagged text": (
        "Tunnel-Private-Group-Id:31",
        ("42",),
        ['Tunnel-Private-Group-Id:31 = "42"'],
    ),
    "untagged text": ("Tunnel-Private-Group-Id", ("42",), ['Tunnel-Private-Group-Id:0 = "42"']),
    "longest tagged": (
        "Tunnel-Client-Endpoint:1",
        ("x" * 252,),
        [f'Tunnel-Client-Endpoint:1 = "{"x" * 252}"'],
    ),
    "hidden": ("Tunnel-Password:1", ("canary",), ['Tunnel-Password:1 = "canary"']),
    "hidden block": ("Tunnel-Password:2", ("x" * 15,), [f'Tunnel-Password:2 = "{"x" * 15}"']),
    "longest hidden": ("Tunnel-Password", ("y" * 239,), [f'Tunnel-Password:0 = "{"y" * 239}"']),
    "two hidden": (
        "Tunnel-Password:1",
        ("one", "two"),
        ['Tunnel-Password:1 = "one"', 'Tunnel-Password:1 = "two"'],
    ),
    "Cisco": (
        "Cisco-AVPair",
        ("shell:priv-lvl=15", "x" * 247),
        ['Cisco-AVPair = "shell:priv-lvl=15"', f'Cisco-AVPair = "{"x" * 247}"'],
    ),
    "Fortinet": ("Fortinet-Group-Name", ("Süd",), ['Fortinet-Group-Name = "Süd"']),
    "Palo Alto": ("PaloAlto-User-Group", ("vpn",), ['PaloAlto-User-Group = "vpn"']),
    "ASA": ("ASA-Group-Policy", ("0x12",), ['ASA-Group-Policy = "0x12"']),
    "long message": (
        "Reply-Message",
        ("ü" * 200,),
        [f'Reply-Message = "{"ü" * 126}"', f'Reply-Message = "{"ü" * 74}"'],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_radclient_reads_the_value_exactly_as_it_was_written(case: str) -> None:
    """A17, T09: nothing is taken for a number, or hexadecimal, that was not meant to be."""
    name, values, lines = CASES[case]
    assert read_by_radclient([made(name, *values)]) == [lines]
