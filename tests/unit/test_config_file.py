"""Faulty configurations: every fault at once, with its place, in an operator's words."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest

from radius_mfa.app import nas
from radius_mfa.config import EXAMPLE_SECRET, Settings
from radius_mfa.config_file import (
    DEFAULT_PATH,
    Configuration,
    FaultyConfiguration,
    configuration_path,
    load,
)
from radius_mfa.errors import ConfigurationError
from radius_mfa.policy.access import Mode

GOOD_SECRET = "0123456789abcdef"
CLIENT = f'[[client]]\nname = "a"\naddress = "192.0.2.1"\nsecret = "{GOOD_SECRET}"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.toml"


def loaded(path: Path, text: str, environ: Mapping[str, str] | None = None) -> Configuration:
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return load(path, environ or {})


def faults(path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the faults of a configuration, each without the folder of the file."""
    with pytest.raises(FaultyConfiguration) as caught:
        loaded(path, text, environ)
    assert caught.value.exit_code == 3
    assert caught.value.message == "\n".join(map(str, caught.value.faults))
    return [str(fault).replace(f"{path}:", "") for fault in caught.value.faults]


WRONG_TYPES = """\
data_folder = 3
[radius]
listen = "0.0.0.0"
require_message_authenticator = "maybe"
status_server = "true"
reject_message = 5
reject_delay_seconds = nan
reply_cache_seconds = "30"
receive_buffer_bytes = 12.5
max_requests_in_flight = true
[totp]
digits = "6"
[lockout]
count = "code"
[log]
file = 3
[redis]
password = 5
"""

WRONG_TYPES_SAID = """\
1: data_folder: must be text in quotes
3: radius.listen: must be a list (write listen = ["0.0.0.0:1812", "[::]:1812"])
4: radius.require_message_authenticator: must be true or false
5: radius.status_server: must be true or false, without quotes
6: radius.reject_message: must be text in quotes
7: radius.reject_delay_seconds: must be a number
8: radius.reply_cache_seconds: must be a number, without quotes
9: radius.receive_buffer_bytes: must be a whole number
10: radius.max_requests_in_flight: must be a whole number
12: totp.digits: must be 6 or 8, without quotes
14: lockout.count: must be a list (write count = ["password", "code"])
16: log.file: must be text in quotes
18: redis.password: must be text in quotes
"""

WRONG_VALUES = """\
data_folder = ""
[radius]
listen = [
  "0.0.0.0", "::1:1812",
  "[::1", "1.2.3.4:99999",
  "host:1812", "1.2.3.4:", # a comment
]
reject_delay_seconds = 11
reply_cache_seconds = 4.9
[[client]]
name = "a b"
address = ["10.0.0.1/8", "10.0.0.300"]
secret = ""
code_position = "middle"
separator = "123456789"
password_charsets = ["utf-9", "base64"]
failover_grace_seconds = -1
on_backend_failure = "accept"
[[client]]
name = "b"
address = []
secret = "0123456789abcdef"
separator = "ä"
password_charsets = []
[totp]
lookback_steps = 11
issuer = "a:b"
algorithm = "md5"
[lockout]
count = ["code", "pasword"]
[redis]
url = "http://x"
key_prefix = "a b"
[database]
url = "mysql://x"
[directory.local]
realms = [""]
[metrics]
listen = "9812"
"""

WRONG_VALUES_SAID = """\
1: data_folder: must be the path of a file, in quotes
4: radius.listen[2]: '::1:1812': an IPv6 address stands in brackets, like [::1]:1812
5: radius.listen[3]: '[::1': write an IPv6 address as [address]:port
5: radius.listen[4]: '99999' is not a port: 1 to 65535
6: radius.listen[5]: 'host' is not an IP address
6: radius.listen[6]: '' is not a port: 1 to 65535
8: radius.reject_delay_seconds: must be from 0 to 10
9: radius.reply_cache_seconds: must be from 5 to 60
11: client[1].name: must be 1 to 63 letters, digits, dots, hyphens or underscores, \
and begin with a letter or a digit
12: client[1].address[1]: '10.0.0.1/8' has bits set to the right of its prefix; \
did you mean 10.0.0.0/8?
12: client[1].address[2]: '10.0.0.300' is neither an IP address nor a network like 192.0.2.0/24
13: client[1].secret: the shared secret is empty
14: client[1].code_position: must be "end" or "start"
15: client[1].separator: must be at most 8 characters long
16: client[1].password_charsets[1]: 'utf-9' is not a character set that Python knows
16: client[1].password_charsets[2]: 'base64' does not encode text
17: client[1].failover_grace_seconds: must be from 0 to 15
18: client[1].on_backend_failure: must be "silent" or "reject"
21: client[2].address: must not be empty
23: client[2].separator: must be of printable ASCII characters
24: client[2].password_charsets: must not be empty
26: totp.lookback_steps: must be from 0 to 10
27: totp.issuer: must be 1 to 64 characters without a colon
28: totp.algorithm: must be one of "SHA1", "SHA256" or "SHA512"
30: lockout.count[2]: must be "password" or "code"
32: redis.url: neither "embedded" nor a URL like redis://host:6379/0, rediss://... \
or unix:///socket
33: redis.key_prefix: must be at most 64 letters, digits, dots, colons, hyphens or underscores
35: database.url: neither "embedded" nor a URL like postgresql://user@host/name or sqlite:////path
37: directory.local.realms[1]: must not be empty
39: metrics.listen: '9812' is not an IP address
"""

WRONG_NAMES = """\
data_foldr = "/x"
reject_delay_seconds = 2
[radus]
[[client]]
nam = "x"
secert = "x"
adress = "1.2.3.4"
[directory.ldap]
url = "x"
[directory.local]
realm = "x"
[log]
colour = true
"""

WRONG_NAMES_SAID = """\
1: data_foldr: there is no such setting (did you mean data_folder?)
2: reject_delay_seconds: there is no such setting (did you mean radius.reject_delay_seconds?)
3: radus: there is no such setting (did you mean radius?)
4: client[1].name: is missing (set name)
4: client[1].address: is missing (set address)
4: client[1].secret: is missing (set secret, or name its file with secret_file)
5: client[1].nam: there is no such setting (did you mean name?)
6: client[1].secert: there is no such setting (did you mean secret?)
7: client[1].adress: there is no such setting (did you mean address?)
8: directory.ldap: must be one table for each directory (write [[directory.ldap]], in two \
pairs of brackets, on a line above each one's settings)
11: directory.local.realm: there is no such setting (did you mean realms?)
13: log.colour: there is no such setting (known here: format, level, file)
"""

NO_REDIS_URL = (
    'neither "embedded" nor a URL like redis://host:6379/0, rediss://... or unix:///socket'
)
JSON_TABLES = 'tables are written {"name": "value"}, lists of them [{"name": "value"}]'
KUBERNETES = (
    "Kubernetes sets it for a service named radius-mfa: enableServiceLinks: false in the pod's spec"
)
TABLE = "must be a table of settings (write [{}], in one pair of brackets, on a line above {})"
TABLES = (
    "must be one table for each client "
    "(write [[client]], in two pairs of brackets, on a line above each one's settings)"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(WRONG_TYPES, WRONG_TYPES_SAID, id="types"),
        pytest.param(WRONG_VALUES, WRONG_VALUES_SAID, id="values"),
        pytest.param(WRONG_NAMES, WRONG_NAMES_SAID, id="names"),
    ],
)
def test_all_faults_are_named_at_once_each_with_its_line(path: Path, text: str, said: str) -> None:
    assert faults(path, text) == said.splitlines()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("radius = 5\n", f"1: radius: {TABLE.format('radius', 'its settings')}"),
        ("[[radius]]\n", f"1: radius: {TABLE.format('radius', 'its settings')}"),
        (
            "[directory]\nlocal = 3\n",
            f"2: directory.local: {TABLE.format('directory.local', 'its settings')}",
        ),
        ("client = 3\n", f"1: client: {TABLES}"),
        ('[client]\nname = "x"\n', f"1: client: {TABLES}"),
        (
            'client = ["a"]\n',
            f"1: client[1]: must be a table of settings {TABLES.partition('client ')[2]}",
        ),
        ("[radius\n", "1: not TOML: expected ']' at the end of a table declaration"),
        ("level = debug\n", '1: not TOML: invalid value (text stands in quotes: name = "value")'),
        ("a = 1\na = 2\n", "2: not TOML: cannot overwrite a value (put the two together)"),
        (
            "[directory.local]\n[log]\n[directory.local]\n",
            "3: not TOML: cannot declare [directory.local] twice (put the two together)",
        ),
        ('[radius]\nlisten = ["a"\n', "2: not TOML: unclosed array"),
        ("\ufeff[radius]\n", "1: begins with a byte order mark (save it as plain UTF-8)"),
        (
            '[radius]\nlisten = ["0.0.0.0:1812", "0.0.0.0"]\n',
            "2: radius.listen: 0.0.0.0:1812 stands in the list twice",
        ),
        (
            '[database]\nurl = "sqlite://"\n',
            "2: database.url: SQLite needs the absolute path of a file: sqlite:////var/lib/...",
        ),
        (
            '[database]\nurl = "postgresql://u@h/n?application_name=x"\n',
            "2: database.url: the parameter 'application_name' is not known; sslmode is",
        ),
        (
            '[log]\nfile = "a\\u0000b"\n',
            "2: log.file: must be the path of a file, in quotes",
        ),
        (
            f"{CLIENT.replace(GOOD_SECRET, 'x' * 257)}",
            "4: client[1].secret: the shared secret is longer than 256 octets",
        ),
    ],
)
def test_a_fault_is_said_in_an_operators_words(path: Path, text: str, said: str) -> None:
    [fault] = faults(path, text)
    assert fault.startswith(said)


@pytest.mark.parametrize("text", [WRONG_TYPES, WRONG_VALUES, WRONG_NAMES])
def test_no_fault_speaks_as_pydantic_does(path: Path, text: str) -> None:
    for fault in faults(path, text):
        assert not re.search(r"Input|should|valid|String|instance|Settings", fault), fault


CLASHES = """\
[[client]]
name = "hq"
address = ["10.0.0.0/8", "192.0.2.1", "10.0.0.0/8"]
secret = "0123456789abcdef"
[[client]]
name = "hq"
address = "192.0.2.1/32"
secret = "0123456789abcdef"
[[client]]
name = "mapped"
address = "::ffff:10.0.0.0/104"
secret = "0123456789abcdef"
"""


def test_names_and_networks_that_stand_twice_are_named(path: Path) -> None:
    """T02: of two clients with one network one would never be asked."""
    cure = "remove one; a smaller network inside a larger one is fine"
    other_name = "give this one another name; see r.toml:1"
    assert faults(path, CLASHES) == [
        f"3: client[1].address: 10.0.0.0/8 stands twice: see r.toml:1 ({cure})",
        f"6: client[2].name: hq is the name of another client too ({other_name})",
        f"7: client[2].address: 192.0.2.1 stands twice: see r.toml:1 ({cure})",
        f"11: client[3].address: 10.0.0.0/8 stands twice: see r.toml:1 ({cure})",
    ]


NAME = "VPN1.corp.example"
TLS_CLIENT = f'[[client]]\nname = "a"\ncertificate_name = "{NAME}"\n'
TLS_FILES = """[radsec]
listen = ["127.0.0.1"]
certificate_file = "s.pem"
certificate_key_file = "s.key"
client_ca_file = "ca.pem"
"""


def test_a_client_of_tls_alone_has_neither_address_nor_secret(path: Path) -> None:
    """R02: nothing that everybody may know is good over UDP."""
    [client] = loaded(path, TLS_FILES + TLS_CLIENT).settings.client
    assert client.certificate_name == ["vpn1.corp.example"]
    assert client.address == []
    assert nas(client, Settings()).networks == ()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            TLS_CLIENT + 'address = "::1"\n',
            "1: client[1].secret: is missing (set secret, or name its file with secret_file)",
        ),
        (
            TLS_CLIENT.replace("VPN1", " VPN1"),
            "3: client[1].certificate_name[1]: must be a name as it stands in the certificate",
        ),
        (
            TLS_CLIENT.replace(NAME, "VPN1")
            + TLS_CLIENT.replace('"a"', '"b"').replace(NAME, "vpn1"),
            "6: client[2].certificate_name: vpn1 stands twice: see r.toml:1 (remove one)",
        ),
        (
            TLS_FILES.replace('client_ca_file = "ca.pem"\n', ""),
            "1: radsec.client_ca_file: is missing (set client_ca_file)",
        ),
    ],
)
def test_what_tls_lacks_is_named(path: Path, text: str, fault: str) -> None:
    assert faults(path, text) == [fault]


def test_networks_inside_each_other_are_fine(path: Path) -> None:
    blocks = [
        CLIENT.replace('"a"', f'"a{number}"').replace("192.0.2.1", address)
        for number, address in enumerate(["10.0.0.0/8", "10.1.0.0/16", "10.1.1.1", "::1"])
    ]
    known = loaded(path, "".join(blocks))
    assert [client.address for client in known.settings.client] == [
        ["10.0.0.0/8"],
        ["10.1.0.0/16"],
        ["10.1.1.1/32"],
        ["::1/128"],
    ]
    assert not known.warnings


def test_an_ipv4_network_in_ipv6_form_is_the_ipv4_network(path: Path) -> None:
    """T05: packets from IPv4-mapped peers are looked up as IPv4."""
    text = CLIENT.replace("192.0.2.1", "::ffff:10.0.0.0/104")
    assert loaded(path, text).settings.client[0].address == ["10.0.0.0/8"]


OFF = CLIENT + 'mfa = "off"\n'


@pytest.mark.parametrize(
    ("address", "wide"),
    [
        ('"192.0.2.1"', ""),
        ('"192.0.2.0/24"', ""),
        ('"10.0.0.0/23"', "10.0.0.0/23"),
        ('["192.0.2.1", "10.0.0.0/8"]', "10.0.0.0/8"),
        ('"::ffff:10.0.0.0/104"', "10.0.0.0/8"),
        ('"2001:db8::/64"', ""),
        ('"2001:db8::/63"', "2001:db8::/63"),
        ('"::/0"', "::/0"),
    ],
)
def test_a_wide_network_is_not_let_in_with_the_password_alone(
    path: Path, address: str, wide: str
) -> None:
    """Unless whoever wrote it says that they know; a stronger mode needs no such word."""
    text = OFF.replace('"192.0.2.1"', address)
    if wide:
        [fault] = faults(path, text)
        assert f'client[1].mfa: "off" would let all of {wide} in' in fault
        assert "accept_risk = true" in fault
        assert faults(path, text + "accept_risk = false\n") == [fault]
    assert loaded(path, text + "accept_risk = true\n").settings.client[0].mfa is Mode.OFF
    for mode in ("always", "required", "enrolled"):
        assert loaded(path, text.replace('"off"', f'"{mode}"')).settings.client[0].mfa == mode


def test_an_unknown_mode_is_a_fault(path: Path) -> None:
    [fault] = faults(path, OFF.replace("off", "never"))
    assert 'mfa: must be one of "always", "required", "enrolled" or "off"' in fault


# Secrets in files


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_stands_in_a_file_beside_the_configuration(path: Path, ending: str) -> None:
    (path.parent / "asa").write_text(f" s3cret with spaces {ending}", "utf-8")
    text = CLIENT.replace(f'secret = "{GOOD_SECRET}"', 'secret_file = "asa"')
    [client] = loaded(path, text).settings.client
    assert client.secret.get_secret_value() == " s3cret with spaces "


@pytest.mark.parametrize("name", ["redis.password", "redis.url", "database.password"])
def test_every_secret_can_stand_in_a_file_named_by_file_or_environment(
    path: Path, name: str
) -> None:
    section, _, key = name.partition(".")
    secret = "unix:///run/redis.sock" if key == "url" else "s3cret"
    file = path.parent / "secret"
    file.write_text(f"{secret}\n", "utf-8")
    variable = f"RADIUS_MFA_{section}__{key}_FILE".upper()
    for known in (
        loaded(path, f'[{section}]\n{key}_file = "{file}"\n'),
        loaded(path, "", {variable: str(file)}),
        loaded(path, f'[{section}]\n{key} = "unix:///other"\n', {variable: str(file)}),
        loaded(
            path, f'[{section}]\n{key}_file = "none"\n', {variable.removesuffix("_FILE"): secret}
        ),
    ):
        value = getattr(getattr(known.settings, section), key)
        assert value.get_secret_value() == secret
        assert secret not in repr(known.settings)


BAD_FILES = """\
[[client]]
name = "a"
address = "10.0.0.1"
secret_file = "nofile"
[[client]]
name = "b"
address = "10.0.0.2"
secret_file = 3
[[client]]
name = "c"
address = "10.0.0.3"
secret_file = "empty"
[[client]]
name = "d"
address = "10.0.0.4"
secret_file = "."
[[client]]
name = "e"
address = "10.0.0.5"
secret_file = "binary"
[[client]]
name = "f"
address = "10.0.0.6"
secret = "x"
secret_file = "x"
[[client]]
name = "g"
address = "10.0.0.7"
secret_file = "lines"
[redis]
url_file = "line"
password_file = "nofile"
[database]
url_file = "nofile"
"""


def test_each_unfit_secret_file_is_one_fault_and_its_text_is_not_shown(path: Path) -> None:
    """T03: among them an empty one."""
    (path.parent / "empty").touch()
    (path.parent / "binary").write_bytes(b"\xff\xfe")
    (path.parent / "lines").write_text("canary\ncanary\n", "utf-8")
    (path.parent / "line").write_text("canary\n", "utf-8")
    said = faults(path, BAD_FILES)
    assert said == [
        "4: client[1].secret_file: nofile can't be read: No such file or directory",
        "8: client[2].secret_file: must be the path of a file, in quotes",
        "12: client[3].secret_file: the shared secret is empty (in empty)",
        "16: client[4].secret_file: . can't be read: Is a directory",
        "20: client[5].secret_file: binary can't be read: it is not UTF-8 text",
        "25: client[6].secret_file: secret is set as well: remove one of the two",
        "29: client[7].secret_file: lines holds more than one line",
        f"31: redis.url_file: {NO_REDIS_URL} (in line)",
        "32: redis.password_file: nofile can't be read: No such file or directory",
        "34: database.url_file: nofile can't be read: No such file or directory",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[redis]\nurl = "http://canary@x"\n',
        '[database]\nurl = "mysql://u:canary@x"\n',
        f"{CLIENT.replace(GOOD_SECRET, 'canary' * 50)}",
        '[redis]\npassword = ["canary"]\n',
    ],
)
def test_a_fault_never_quotes_a_secret(path: Path, text: str) -> None:
    """L02: not in its text, nor in the exception behind it."""
    with pytest.raises(FaultyConfiguration) as caught:
        loaded(path, text)
    assert "canary" not in "".join(format_exception(caught.value))


# The environment


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("RADIUS_MFA_LOG__LEVEL", "debug", ("log", "level", "debug")),
        ("radius_mfa_log__level", "debug", ("log", "level", "debug")),
        ("RADIUS_MFA_TOTP__DIGITS", "8", ("totp", "digits", 8)),
        ("RADIUS_MFA_RADIUS__STATUS_SERVER", "off", ("radius", "status_server", False)),
        ("RADIUS_MFA_RADIUS__REJECT_DELAY_SECONDS", "2.5", ("radius", "reject_delay_seconds", 2.5)),
        ("RADIUS_MFA_RADIUS__REJECT_DELAY_SECONDS", "2", ("radius", "reject_delay_seconds", 2.0)),
        ("RADIUS_MFA_RADIUS__REJECT_MESSAGE", "123", ("radius", "reject_message", "123")),
        ("RADIUS_MFA_RADIUS__REJECT_MESSAGE", "", ("radius", "reject_message", "")),
        ("RADIUS_MFA_RADIUS__LISTEN", '["1.2.3.4"]', ("radius", "listen", ["1.2.3.4:1812"])),
        ("RADIUS_MFA_METRICS__LISTEN", "", ("metrics", "listen", None)),
        ("RADIUS_MFA_KEYRING__FILE", "/k", ("keyring", "file", Path("/k"))),
        ("RADIUS_MFA_RADIUS", '{"status_server": false}', ("radius", "status_server", False)),
    ],
)
def test_the_environment_wins_over_the_file(
    path: Path, variable: str, value: str, setting: tuple[str, str, Any]
) -> None:
    text = (
        '[log]\nlevel = "error"\n[radius]\nreject_message = "no"\nlisten = ["5.6.7.8"]\n'
        '[metrics]\nlisten = "127.0.0.1:1"\n[keyring]\nfile = "x"\n'
    )
    section, name, expected = setting
    got = getattr(getattr(loaded(path, text, {variable: value}).settings, section), name)
    assert got == expected
    assert type(got) is type(expected) or isinstance(expected, Path)


def test_a_deeper_variable_refines_a_wider_one(path: Path) -> None:
    environ = {
        "RADIUS_MFA_RADIUS__STATUS_SERVER": "no",
        "RADIUS_MFA_RADIUS": '{"status_server": true, "reject_message": "x"}',
    }
    radius = loaded(path, "", environ).settings.radius
    assert (radius.status_server, radius.reject_message) == (False, "x")


def test_clients_of_the_environment_replace_those_of_the_file(path: Path) -> None:
    clients = [{"name": "env", "address": "1.2.3.4", "secret_file": "asa"}]
    (path.parent / "asa").write_text(GOOD_SECRET, "utf-8")
    [client] = loaded(path, CLIENT, {"RADIUS_MFA_CLIENT": json.dumps(clients)}).settings.client
    assert (client.name, client.secret.get_secret_value()) == ("env", GOOD_SECRET)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RADIUS_MFA_RADIUS__LISTEN", "::", 'must be JSON (write ["0.0.0.0:1812", "[::]:1812"])'),
        ("RADIUS_MFA_DIRECTORY__LOCAL__REALMS", "x", 'must be JSON (write ["...", "..."])'),
        ("RADIUS_MFA_CLIENT", "x", f"must be JSON ({JSON_TABLES})"),
        ("RADIUS_MFA_RADIUS__LISTEN", '["x"]', "radius.listen[1]: 'x' is not an IP address"),
        ("RADIUS_MFA_RADIUS", '{"listen": ["x"]}', "radius.listen[1]: 'x' is not an IP address"),
        ("RADIUS_MFA_CLIENT", '[{"name": "a", "address": "::1"}]',
         "client[1].secret: is missing (set secret, or name its file with secret_file)"),
        ("RADIUS_MFA_CLIENT__0__SECRET", "x", f"client: {TABLES}"),
        ("RADIUS_MFA_TOTP__DIGITS", "7", "totp.digits: must be 6 or 8"),
        ("RADIUS_MFA_TOTP__DIGITS", "x", "totp.digits: must be 6 or 8"),
        ("RADIUS_MFA_RADIUS__STATUS_SERVER", "x", "radius.status_server: must be true or false"),
        ("RADIUS_MFA_REDIS__PASSWORD_FILE", "nofile",
         "redis.password_file: nofile can't be read: No such file or directory"),
        ("RADIUS_MFA_RADUS__LISTEN", "x",
         "there is no such setting (did you mean RADIUS_MFA_RADIUS__LISTEN?)"),
        ("RADIUS_MFA_RADIUS__LISTN", "x",
         "radius.listn: there is no such setting (did you mean RADIUS_MFA_RADIUS__LISTEN?)"),
        ("RADIUS_MFA_REDIS_URL", "x",
         "there is no such setting (did you mean RADIUS_MFA_REDIS__URL?)"),
        ("RADIUS_MFA_FOO", "x", "there is no such setting (names are like RADIUS_MFA_LOG__LEVEL)"),
        ("RADIUS_MFA_PORT_1812_UDP_ADDR", "x", f"there is no such setting ({KUBERNETES})"),
        ("RADIUS_MFA_DATA_FOLDER", "\udcff", "is not UTF-8 text"),
    ],
)  # fmt: skip
def test_a_fault_of_the_environment_names_its_variable(
    path: Path, variable: str, value: str, said: str
) -> None:
    assert faults(path, CLIENT, {variable: value}) == [f"environment variable {variable}: {said}"]


def test_faults_of_the_environment_come_first_then_those_of_the_file_by_line(path: Path) -> None:
    environ = {"RADIUS_MFA_FOO": "x", "RADIUS_MFA_TOTP__DIGITS": "7", "HOME": "/", "RADIUS": "x"}
    said = faults(path, 'x = 1\n[log]\nlevel = "x"\n[totp]\ndigits = 9\n', environ)
    assert [fault.partition(":")[0] for fault in said] == [
        "environment variable RADIUS_MFA_FOO",
        "environment variable RADIUS_MFA_TOTP__DIGITS",
        "1",
        "3",
    ]


# The file itself


def test_the_file_is_the_one_given_then_the_environments_then_the_default() -> None:
    environ = {"RADIUS_MFA_CONFIG": "/of/environment"}
    assert configuration_path(Path("/given"), environ) == Path("/given")
    assert configuration_path(None, environ) == Path("/of/environment")
    assert configuration_path(None, {"RADIUS_MFA_CONFIG": ""}) == DEFAULT_PATH


def test_a_relative_file_s_paths_hold_in_every_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded Redis starts in a folder of its own, and is given the data folder."""
    monkeypatch.chdir(path.parent)
    for found in (
        configuration_path(Path(path.name), {}),
        configuration_path(None, {"RADIUS_MFA_CONFIG": path.name}),
    ):
        assert found == path
        assert loaded(found, 'data_folder = "data"\n').settings.data_folder == path.parent / "data"


def test_the_variable_that_names_the_file_is_no_setting(path: Path) -> None:
    assert loaded(path, "", {"RADIUS_MFA_CONFIG": "/x"}).settings == Settings()


def test_a_missing_file_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    assert caught.value.cure == f"make one: radius-mfa --config {path} init"


@pytest.mark.parametrize(
    ("content", "why"), [(None, "Is a directory"), (b"\xff", "it is not UTF-8 text")]
)
def test_an_unreadable_file_says_why(path: Path, content: bytes | None, why: str) -> None:
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    assert caught.value.message == f"the configuration file {path} can't be read: {why}"
    assert caught.value.cure


def test_relative_paths_start_from_the_folder_of_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/server")
    text = 'data_folder = "data"\n[log]\nfile = "~/log"\n[keyring]\nfile = "/k"\n'
    known = loaded(path, text).settings
    assert known.data_folder == path.parent / "data"
    assert (known.log.file, known.keyring.file) == (Path("/home/server/log"), Path("/k"))


# What is legal but unwise


def slow_directory(timeout_seconds: float, *servers: str) -> str:
    return (
        f'[[directory.ldap]]\ntimeout_seconds = {timeout_seconds}\nname = "corp"\n'
        f'preset = "openldap"\nbase = "dc=corp"\nservers = {json.dumps(servers)}\n'
    )


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (CLIENT, None),
        (
            CLIENT.replace(GOOD_SECRET, GOOD_SECRET[1:]),
            "4: client[1].secret: 15 octets can be guessed",
        ),
        (
            CLIENT.replace(GOOD_SECRET, "ä" * 8),  # 16 octets
            None,
        ),
        (CLIENT.replace(GOOD_SECRET, EXAMPLE_SECRET), "4: client[1].secret: everyone knows"),
        (CLIENT.replace("192.0.2.1", "0.0.0.0/0"), "3: client[1].address: 0.0.0.0/0 lets"),
        (CLIENT.replace("192.0.2.1", "::/0"), "3: client[1].address: ::/0 lets"),
        ("[lockout]\nfailures_by_user = 0\n", None),
        (TLS_CLIENT, "3: client[1].certificate_name: is of no use: nothing is served over TLS"),
        (TLS_FILES + TLS_CLIENT, None),
        (slow_directory(3.9, "ldaps://a"), None),
        (
            slow_directory(4, "ldaps://a"),
            "2: directory.ldap[1].timeout_seconds: a server takes up to 4 s, and a login has 4 s",
        ),
        (slow_directory(1.9, "ldaps://a", "ldaps://b", "ldaps://c"), None),
        (
            slow_directory(2, "ldaps://a", "ldaps://b"),
            "2: directory.ldap[1].timeout_seconds: two servers one after the other take up to 4 s",
        ),
        (
            "[lockout]\nfailures_by_source = 0\nfailures_by_user = 0\n",
            "3: lockout.failures_by_user: nothing slows down guessing",
        ),
    ],
)
def test_what_is_unwise_warns_and_loads(path: Path, text: str, warning: str | None) -> None:
    """T03: a short shared secret warns."""
    warnings = [str(one).replace(f"{path}:", "") for one in loaded(path, text).warnings]
    assert len(warnings) == (warning is not None)
    assert all(one.startswith(warning or "") and one.endswith(")") for one in warnings)


@pytest.mark.parametrize(
    ("mode", "text", "warned"),
    [
        (0o644, CLIENT, True),
        (0o640, CLIENT, False),
        (0o644, '[redis]\npassword = "s3cret"\n', True),
        (0o644, "[log]\n", False),
        (0o644, '[redis]\npassword_file = "s"\n', False),
    ],
)
def test_a_file_with_secrets_that_everyone_can_read_warns(
    path: Path, mode: int, text: str, *, warned: bool
) -> None:
    path.write_text(text, "utf-8")
    (path.parent / "s").write_text("s3cret", "utf-8")
    path.chmod(mode)
    warnings = load(path, {}).warnings
    assert [one.message for one in warnings] == (
        ["holds secrets, and every user of this machine can read it"] if warned else []
    )


# Settings


def test_no_hash_threads_means_one_for_each_processor(path: Path) -> None:
    processors = len(os.sched_getaffinity(0))
    assert Settings().directory.local.hash_threads == processors
    for given, threads in ((0, processors), (3, 3)):
        text = f"[directory.local]\nhash_threads = {given}\n"
        assert loaded(path, text).settings.directory.local.hash_threads == threads


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "sqlite+aiosqlite:////d/radius-mfa.db"),
        ('[database]\nurl = "sqlite:////x/y.db"\n', "sqlite+aiosqlite:////x/y.db"),
        ('[database]\nurl = "postgresql://u@h/n"\n', "postgresql+asyncpg://u@h/n"),
        (
            '[database]\nurl = "postgresql+psycopg://u@h:1/n?sslmode=require"\npassword = "p"\n',
            "postgresql+asyncpg://u:p@h:1/n?ssl=require",
        ),
    ],
)
def test_a_database_url_gets_driver_and_password(path: Path, text: str, url: str) -> None:
    known = loaded(path, f'data_folder = "/d"\n{text}').settings
    assert known.database_url.render_as_string(hide_password=False) == url
