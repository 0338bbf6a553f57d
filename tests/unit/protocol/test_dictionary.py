"""The RADIUS dictionary: our own files, found where the package is installed or checked out.

That FreeRADIUS reads what is encoded with them is the matter of tests/functional.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import pytest
from pyrad.dictionary import Dictionary
from pyrad.packet import AuthPacket

from radius_mfa.protocol.client import ClientRequest
from radius_mfa.protocol.dictionary import dictionary
from radius_mfa.protocol.wire import Attribute

FOLDER = Path(__file__).parents[3] / "dictionaries"
ROOT = FOLDER / "dictionary"
SOURCES = sorted(FOLDER.glob("dictionary.*"))
EXTENDED = [FOLDER / f"dictionary.rfc{number}" for number in (2865, 2866, 2868, 3576)]
"""The RFCs whose attributes get values from later ones."""

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


@pytest.fixture
def unread() -> Iterator[None]:
    """The dictionary as before its first use; what the test reads is forgotten after it."""
    dictionary.cache_clear()
    yield
    dictionary.cache_clear()


# ---- Where it stands -----------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", Attribute)
def test_every_attribute_of_the_server_is_known_by_its_number(attribute: Attribute) -> None:
    """The names of the code are those of the dictionary, so that logs and files agree."""
    name = dictionary().attrindex.GetBackward(int(attribute))
    assert name.upper().replace("-", "_") == attribute.name


def test_it_is_read_once() -> None:
    assert dictionary() is dictionary()


@pytest.mark.usefixtures("unread")
def test_an_installed_package_brings_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a wheel it stands inside the package; there is no checkout around that."""
    folder = tmp_path / "dictionaries"
    folder.mkdir()
    (folder / "dictionary").write_text("ATTRIBUTE\tOf-The-Wheel\t250\tstring\n")
    monkeypatch.setattr(resources, "files", lambda _package: tmp_path)
    assert "Of-The-Wheel" in dictionary().attributes
    assert "User-Name" not in dictionary().attributes


@pytest.mark.usefixtures("unread")
def test_a_checkout_has_it_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "files", lambda _package: tmp_path)
    assert "User-Name" in dictionary().attributes


# ---- The files -----------------------------------------------------------------------------------


class Line(NamedTuple):
    """A definition: its words, and the vendor whose numbers it is among."""

    vendor: str
    words: list[str]


def definitions(source: Path) -> Iterator[Line]:
    """Read a file by the letter: pyrad passes over words that it does not know, this does not."""
    vendor = ""
    for text in source.read_text("ascii").splitlines():
        words = text.partition("#")[0].split()
        match words:
            case []:
                continue
            case ["BEGIN-VENDOR", name]:
                assert not vendor
                vendor = name
            case ["END-VENDOR", name]:
                assert name == vendor
                vendor = ""
            case ["VENDOR", _, _] | ["ATTRIBUTE", _, _, _] | ["VALUE", _, _, _]:
                yield Line(vendor, words)
            case ["ATTRIBUTE", _, _, _, flags]:
                assert set(flags.split(",")) <= {"has_tag", "encrypt=1", "encrypt=2"}
                yield Line(vendor, words)
            case _:
                pytest.fail(f"{source.name}: {text}")
    assert not vendor, "the block has no end"


@cache
def words_of(keyword: str) -> list[Line]:
    """Return what follows *keyword* in all files."""
    lines = [line for source in SOURCES for line in definitions(source)]
    return [Line(vendor, words[1:]) for vendor, words in lines if words[0] == keyword]


def twice(things: Iterable[object]) -> set[object]:
    return {thing for thing, times in Counter(things).items() if times > 1}


def test_every_file_is_included_once_and_none_besides() -> None:
    lines = ROOT.read_text("ascii").splitlines()
    included = [line.removeprefix("$INCLUDE ") for line in lines if line.startswith("$")]
    assert sorted(included) == [source.name for source in SOURCES]


@each_source
def test_every_file_is_listed_with_its_number(source: Path) -> None:
    page = (FOLDER.parent / "docs" / "dictionaries.md").read_text("utf-8")
    [row] = re.findall(rf"^\| `dictionaries/{re.escape(source.name)}` .*$", page, re.MULTILINE)
    vendors = [words for _, words in definitions(source) if words[0] == "VENDOR"]
    number = vendors[0][2] if vendors else source.name.partition("rfc")[2]
    assert f" {number}" in row


@each_source
def test_pyrad_reads_every_file_whole(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Alone, with the RFCs that it adds values to: no warning, and nothing left out."""
    with caplog.at_level(logging.DEBUG, "pyrad"):
        read = Dictionary(*map(str, EXTENDED), str(source))
    assert caplog.records == []
    assert read.skipped_attributes == set()
    for _, words in definitions(source):
        match words:
            case ["ATTRIBUTE", name, number, kind, *_]:
                assert (read[name].code, read[name].type) == (int(number), kind)
            case ["VALUE", name, value, _]:
                assert read[name].values.HasForward(value)


def test_the_whole_is_read_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pyrad"):
        read = Dictionary(str(ROOT))
    assert caplog.records == []
    assert len(read) == len(words_of("ATTRIBUTE")) > 500


def test_no_number_is_defined_twice_in_one_space() -> None:
    """Of two, pyrad would take the last without a word."""
    attributes = words_of("ATTRIBUTE")
    assert twice((vendor, int(number)) for vendor, (_, number, *_) in attributes) == set()
    assert twice(int(number) for _, (_, number) in words_of("VENDOR")) == set()


def test_no_name_is_defined_twice() -> None:
    """Nor in another case: FreeRADIUS and its users do not tell them apart."""
    assert twice(name.casefold() for _, (name, *_) in words_of("ATTRIBUTE")) == set()
    assert twice(name.casefold() for _, (name, _) in words_of("VENDOR")) == set()


def test_no_value_is_named_twice_or_has_two_names() -> None:
    values = words_of("VALUE")
    assert twice((attribute, name.casefold()) for _, (attribute, name, _) in values) == set()
    assert twice((attribute, int(number)) for _, (attribute, _, number) in values) == set()


def test_the_numbers_fit_an_octet() -> None:
    assert all(1 <= int(number) <= 255 for _, (_, number, *_) in words_of("ATTRIBUTE"))


def test_there_are_no_tlvs() -> None:
    """What is inside one has the key of a vendor's attribute in pyrad: 173.1 would be both."""
    assert "tlv" not in {kind for _, (_, _, kind, *_) in words_of("ATTRIBUTE")}


@pytest.mark.parametrize(
    ("vendor", "number"),
    [
        ("Aruba", 14823),
        ("Checkpoint", 2620),
        ("Cisco", 9),
        ("Cisco-ASA", 3076),
        ("Citrix", 66),
        ("ERX", 4874),
        ("F5", 3375),
        ("Fortinet", 12356),
        ("Juniper", 2636),
        ("Microsoft", 311),
        ("Mikrotik", 14988),
        ("Netscreen", 3224),
        ("PaloAlto", 25461),
        ("SonicWall", 8741),
        ("pfSense", 13644),
    ],
)
def test_the_vendors_have_their_private_enterprise_numbers(vendor: str, number: int) -> None:
    assert dictionary().vendors.GetForward(vendor) == number
    assert any(attribute.vendor == vendor for attribute in dictionary().attributes.values())


# ---- Attributes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "CHAP-Challenge",
        "CHAP-Password",
        "Class",
        "EAP-Message",
        "MS-CHAP-Challenge",
        "MS-CHAP2-Response",
        "Message-Authenticator",
        "Proxy-State",
        "State",
        "User-Password",
    ],
)
def test_octets_of_any_kind_survive(name: str) -> None:
    """As text, what is not UTF-8 and what is would come back as two different types."""
    packet = AuthPacket(secret=b"x", dict=dictionary())
    number = dictionary().attrindex.GetForward(name)
    for octets in (b"plain", b"\xff\xfe\0", b"0x41", b"123"):
        packet[number] = [octets]
        assert packet[name] == [octets]


@pytest.mark.parametrize(
    ("name", "vendor", "number", "kind", "flags"),
    [
        ("Framed-IP-Address", "", 8, "ipaddr", ""),
        ("Filter-Id", "", 11, "string", ""),
        ("Class", "", 25, "octets", ""),
        ("Session-Timeout", "", 27, "integer", ""),
        ("Acct-Session-Id", "", 44, "string", ""),
        ("Event-Timestamp", "", 55, "date", ""),
        ("Tunnel-Type", "", 64, "integer", "tag"),
        ("Tunnel-Password", "", 69, "string", "tag,salt"),
        ("Tunnel-Private-Group-Id", "", 81, "string", "tag"),
        ("NAS-IPv6-Address", "", 95, "ipv6addr", ""),
        ("Framed-Interface-Id", "", 96, "ifid", ""),
        ("Framed-IPv6-Prefix", "", 97, "ipv6prefix", ""),
        ("Error-Cause", "", 101, "integer", ""),
        ("Delegated-IPv6-Prefix", "", 123, "ipv6prefix", ""),
        ("Framed-IPv6-Address", "", 168, "ipv6addr", ""),
        ("ASA-Group-Policy", "Cisco-ASA", 25, "string", ""),
        ("ASA-Tunnel-Group-Lock", "Cisco-ASA", 85, "string", ""),
        ("ASA-VLAN", "Cisco-ASA", 140, "integer", ""),
        ("ASA-Address-Pools", "Cisco-ASA", 217, "string", ""),
        ("Aruba-User-Role", "Aruba", 1, "string", ""),
        ("Aruba-MPSK-Passphrase", "Aruba", 44, "octets", "salt"),
        ("CP-Gaia-User-Role", "Checkpoint", 229, "string", ""),
        ("Cisco-AVPair", "Cisco", 1, "string", ""),
        ("Citrix-User-Groups", "Citrix", 16, "string", ""),
        ("ERX-Virtual-Router-Name", "ERX", 1, "string", ""),
        ("ERX-LI-Action", "ERX", 58, "integer", "salt"),
        ("ERX-Med-Ip-Address", "ERX", 60, "ipaddr", "salt"),
        ("ERX-Service-Activate", "ERX", 65, "string", "tag"),
        ("ERX-Service-Timeout", "ERX", 68, "integer", "tag"),
        ("F5-LTM-User-Role", "F5", 1, "integer", ""),
        ("Fortinet-Group-Name", "Fortinet", 1, "string", ""),
        ("Fortinet-FAC-Challenge-Code", "Fortinet", 15, "string", ""),
        ("Fortinet-WirelessController-Device-MAC", "Fortinet", 23, "ether", ""),
        ("Juniper-Local-User-Name", "Juniper", 1, "string", ""),
        ("Juniper-Primary-Dns", "Juniper", 31, "ipaddr", ""),
        ("MS-MPPE-Send-Key", "Microsoft", 16, "octets", "salt"),
        ("MS-MPPE-Recv-Key", "Microsoft", 17, "octets", "salt"),
        ("MS-CHAP2-Response", "Microsoft", 25, "octets", ""),
        ("MS-CHAP2-Success", "Microsoft", 26, "octets", ""),
        ("MS-Primary-DNS-Server", "Microsoft", 28, "ipaddr", ""),
        ("Mikrotik-Group", "Mikrotik", 3, "string", ""),
        ("Mikrotik-Rate-Limit", "Mikrotik", 8, "string", ""),
        ("NS-User-Group", "Netscreen", 3, "string", ""),
        ("PaloAlto-User-Group", "PaloAlto", 5, "string", ""),
        ("PaloAlto-Client-Source-IP", "PaloAlto", 7, "string", ""),
        ("SonicWall-User-Group", "SonicWall", 3, "string", ""),
        ("pfSense-Bandwidth-Max-Up", "pfSense", 1, "integer", ""),
    ],
)
def test_what_vpn_gateways_need_is_there(
    name: str, vendor: str, number: int, kind: str, flags: str
) -> None:
    attribute = dictionary()[name]
    assert (attribute.vendor, attribute.code, attribute.type) == (vendor, number, kind)
    assert attribute.has_tag == ("tag" in flags)
    assert attribute.encrypt == (2 if "salt" in flags else 0)


def test_our_client_shows_a_reply_by_name() -> None:
    """What ``radius-mfa test`` prints; of a vendor without a file, the numbers."""
    request = ClientRequest(b"only-in-this-test")
    received = AuthPacket(packet=request.octets, secret=b"only-in-this-test", dict=dictionary())
    reply = received.CreateReply()
    reply[25] = [b"123"]
    reply[(3076, 25)] = [b"VPN-Staff"]
    reply[(12356, 1)] = [b"vpn-users", b"admins"]
    reply[(99999, 1)] = [b"opaque"]
    reply["Service-Type"] = 2
    reply["Tunnel-Type:1"] = 9
    reply["Framed-IPv6-Prefix"] = "2001:db8::/64"
    reply["Tunnel-Password:1"] = "a canary"
    assert request.reply(reply.ReplyPacket()).attributes == (
        ("Class", ("123",)),
        ("ASA-Group-Policy", ("VPN-Staff",)),
        ("Fortinet-Group-Name", ("vpn-users", "admins")),
        ("(99999, 1)", ("opaque",)),
        ("Service-Type", ("Framed-User",)),
        ("Tunnel-Type", ("ESP",)),
        ("Framed-IPv6-Prefix", ("2001:db8::/64",)),
        ("Tunnel-Password", ("***",)),
    )
