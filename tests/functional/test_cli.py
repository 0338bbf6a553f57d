"""The command line as an operator types it: real stores, run in this process."""

import base64
import io
import json
import logging
import os
import re
import sqlite3
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from radius_mfa.cli import common, run
from radius_mfa.cli.client import client_block
from radius_mfa.cli.client_file import edited, with_client
from radius_mfa.config import CLIENT_NAME_PATTERN, PATTERN_IN_WORDS
from radius_mfa.config_file import load
from radius_mfa.policy.decision import Reject, RejectReason
from radius_mfa.stores import schema
from radius_mfa.stores.interfaces import Settlement, Subject
from tests.support import totp
from tests.support.server import SECRET, Finished, Site

OTHER_SEED = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

Command = Callable[..., Finished]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a few users on record; each test has some of its own."""
    with Site(tmp_path_factory.mktemp("cli")) as site:
        site.add_spare_users(12)
        yield site


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared: Site
) -> Iterator[Command]:
    """Give how to run a command over the shared site, or over another configuration."""
    with in_process(monkeypatch, capsys, shared.config) as call:
        yield call


@contextmanager
def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], default: Path
) -> Iterator[Command]:
    """Give how to run a command in this process; the log is set up as before in the end."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def call(*words: str, text: str | bytes = "", config: Path = default) -> Finished:
        octets = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets), "utf-8"))
        capsys.readouterr()
        exit_code = run(["--config", str(config), *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "a fault of radius-mfa itself" not in err, err
        return Finished(int(exit_code), out, err)

    yield call
    root.handlers[:] = handlers
    root.setLevel(level)


def refused(done: Finished, exit_code: int = 1) -> str:
    """Return the one line of error, whose cure is one more line at most."""
    assert done.exit_code == exit_code, done
    lines = [line for line in done.err.splitlines() if not line.startswith("{")]  # the log
    assert 1 <= len(lines) <= 2, done.err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


# Users


def test_a_user_is_added_shown_and_deleted(command: Command) -> None:
    done = command("user", "add", "Zoë", text="pässword\n")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out == "Added zoë. Next: radius-mfa device add 'zoë'\n"

    [listed] = [one for one in command("user", "list", "--json").json() if one["name"] == "zoë"]
    shown = command("user", "show", "ZOË", "--json").json()
    assert shown == listed
    assert (shown["state"], shown["devices"], shown["consecutive_failures"]) == ("active", [], 0)
    assert "zoë" in command("user", "list").out
    assert re.search(r"^state: +active$", command("user", "show", "zoë").out, re.MULTILINE)

    assert command("user", "delete", "zoë", "--yes").exit_code == 0
    assert refused(command("user", "show", "zoë")) == "there is no user zoë"


def test_groups_kept_here_are_joined_shown_left_and_audited(command: Command) -> None:
    """Case does not make another group, and whoever is in no such group is told so."""
    options = ("--group", "VPN Staff", "--group", "ops")
    assert command("user", "add", "gail", *options, text="pässword\n").exit_code == 0
    done = command("user", "join", "GAIL", "vpn staff", "Süd")
    assert (done.out, done.err) == ("gail is in vpn staff, Süd.\n", "")
    assert command("user", "show", "gail", "--json").json()["groups"] == ["Süd", "VPN Staff", "ops"]
    assert command("user", "leave", "gail", "VPN STAFF").exit_code == 0
    assert re.search(r"^groups: +Süd, ops$", command("user", "show", "gail").out, re.MULTILINE)
    assert refused(command("user", "leave", "gail", "staff")) == "gail is not in the group staff"
    entries = command("audit", "list", "--user", "gail", "--json").json()
    acts = {one["act"]: one["detail"] for one in entries}
    assert acts["user.join"] == {"groups": ["vpn staff", "Süd"]}
    assert acts["user.add"] == {"groups": ["VPN Staff", "ops"]}
    assert acts["user.leave"] == {"groups": ["VPN STAFF"]}


def test_a_mail_address_is_given_changed_and_taken_away(command: Command) -> None:
    done = command("user", "add", "mailed", "--mail", "m@corp.example", text="pw\n")
    assert (done.exit_code, done.err) == (0, "")
    shown = command("user", "show", "mailed").out
    assert re.search("^mail: +m@corp.example$", shown, re.MULTILINE)
    done = command("user", "set", "mailed", "--mail", "mü@corp.example")
    assert done.out == "Mails to mailed go to mü@corp.example.\n"
    assert command("user", "set", "mailed", "--mail", "").out == "mailed gets no mails.\n"
    assert command("user", "show", "mailed", "--json").json()["mail"] is None


@pytest.mark.parametrize("state", ["suspended", "active"])
def test_suspending_and_resuming_is_seen(command: Command, shared: Site, state: str) -> None:
    user = shared.fresh_user()
    assert command("user", "suspend", user).exit_code == 0
    if state == "active":
        assert command("user", "resume", user).exit_code == 0
    assert command("user", "show", user, "--json").json()["state"] == state
    assert re.search(rf"^{user} +{state} ", command("user", "list").out, re.MULTILINE)


def failures(site: Site, user: str, count: int, source: str = "nas|10.9.8.7") -> None:
    """Count *count* failures against *user*."""

    async def work(stores: Any) -> None:
        for number in range(count):
            subject, now = Subject(user, source), 1e9 + number
            loaded = await stores.attempts.load(subject, [], now)
            reject = Reject(RejectReason.WRONG_CODE)
            settlement = Settlement(reject, counted=True, wrong_value=f"{user} {number}")
            await stores.attempts.settle(subject, settlement, loaded, [], now)

    site.with_stores(work)


def test_locks_are_shown_and_ended(command: Command, shared: Site) -> None:
    """What is counted and until when it locks, from where; and that unlocking ends it."""
    user = shared.fresh_user()
    failures(shared, user, 3)
    shown = command("user", "show", user, "--json").json()
    assert shown["consecutive_failures"] == 3
    assert shown["sources"] == [{"source": "nas|10.9.8.7", "failures": 3, "locked_until": None}]
    assert re.search(
        r"^failing from: +nas 10.9.8.7: 3$", command("user", "show", user).out, re.MULTILINE
    )
    assert command("user", "unlock", user).out == f"{user} is unlocked.\n"
    assert command("user", "show", user, "--json").json()["sources"] == []


@pytest.mark.parametrize(
    ("words", "text", "error"),
    [
        (("add", "user000"), "pw\n", "the user user000 exists already"),
        (("add", "USER000"), "pw\n", "the user user000 exists already"),
        (("add", "new"), "\n", "the password is empty"),
        (("add", "new"), "", "the password is empty"),
        (("add", "new"), b"\xff\n", "standard input can't be read: it is not UTF-8 text"),
        (("add", "new", "--password-file", "/nonexistent"), "",
         "/nonexistent can't be read: No such file or directory"),
        (("add", "new", "--password-file", "/"), "", "/ can't be read: Is a directory"),
        (("add", ""), "pw\n", "the user name is empty or longer than 253 characters"),
        (("add", "x" * 254), "pw\n", "the user name is empty or longer than 253 characters"),
        (("add", "a\x1b[31m"), "pw\n", "the user name holds a control or invisible character"),
        (("add", "a\u202eb"), "pw\n", "the user name holds a control or invisible character"),
        (("add", "a\nb"), "pw\n", "the user name holds a control or invisible character"),
        (("add", " a"), "pw\n", "the user name begins or ends with a space"),
        (("add", "new", "--mail", "a b@c"), "pw\n",
         "'a b@c': the part before the @ is not one that mail servers take"),
        (("set", "user000", "--mail", "none"), "",
         "'none': a mail address is of the form alice@corp.example"),
        (("set", "nobody", "--mail", "a@b"), "", "there is no user nobody"),
        (("passwd", "nobody"), "pw\n", "there is no user nobody"),
        (("show", "nobody"), "", "there is no user nobody"),
        (("suspend", "nobody"), "", "there is no user nobody"),
        (("unlock", "nobody"), "", "there is no user nobody"),
        (("delete", "nobody"), "", "there is no user nobody"),
        (("delete", "nobody", "--yes"), "", "there is no user nobody"),
    ],
)  # fmt: skip
def test_a_user_command_that_is_refused_says_why(
    command: Command, words: tuple[str, ...], text: str | bytes, error: str
) -> None:
    assert refused(command("user", *words, text=text)) == error


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_deleting_asks_and_anything_but_yes_keeps_the_user(command: Command, answer: str) -> None:
    done = command("user", "delete", "user000", text=answer)
    assert done.exit_code == 1
    assert "Delete user000 with password and devices?" in done.out
    assert command("user", "show", "user000").exit_code == 0


@pytest.mark.parametrize("way", ["input", "dash", "file"])
def test_a_password_comes_from_input_or_a_file_and_its_first_line_counts(
    command: Command, shared: Site, tmp_path: Path, way: str
) -> None:
    user, password = shared.fresh_user(), " two words, and 'quotes' ; ä"
    text, words = f"{password}\r\nmore\n", [user]
    if way == "dash":
        words += ["--password-file", "-"]
    if way == "file":
        (tmp_path / "password").write_text(text, "utf-8")
        words += ["--password-file", str(tmp_path / "password")]
    assert command("user", "passwd", *words, text=text).exit_code == 0

    async def right(stores: Any) -> Any:
        return await stores.directory.verify(user, password, await stores.enrolments.fetch(user))

    assert shared.with_stores(right).name == "RIGHT"


def test_no_password_is_ever_an_argument(command: Command) -> None:
    for words in (("user", "add", "x", "pw"), ("user", "add", "x", "--password", "pw")):
        assert command(*words).exit_code == 2


def test_names_are_printed_as_they_are(command: Command, tmp_path: Path) -> None:
    """Rich's markup, emoji names and long or wide names change nothing and cut nothing."""
    with Site(tmp_path) as site:
        names = ["[red]x[/red]", ":smile:", "山田" * 60, "a" * 253]
        site.add_users(names, seed=None)
        table = command("user", "list", config=site.config).out.splitlines()
        assert {line.split()[0] for line in table[1:]} == set(names)
        listed = command("user", "list", "--json", config=site.config).json()
        assert [one["name"] for one in listed] == sorted(names)
        done = command("device", "add", "a" * 253, "--confirmed", config=site.config)
        assert done.exit_code == 0


@pytest.mark.parametrize(
    ("words", "empty"),
    [
        (("user", "list"), "No users yet: radius-mfa user add NAME\n"),
        (("client", "list"), "No clients yet: radius-mfa client add NAME ADDRESS\n"),
    ],
)
def test_an_empty_list_says_what_to_do_next(
    command: Command, tmp_path: Path, words: tuple[str, ...], empty: str
) -> None:
    site = Site(tmp_path, clients=[])
    assert command(*words, config=site.config).out == empty
    assert command(*words, "--json", config=site.config).json() == []


# Devices


def uri_in(out: str) -> tuple[str, dict[str, str]]:
    """Return the label and the parameters of the otpauth URI in *out*."""
    found = re.search(r"otpauth://\S+", out)
    assert found is not None, out
    url = urlsplit(found[0])
    assert (url.scheme, url.netloc) == ("otpauth", "totp")
    return url.path, {name: value for name, [value] in parse_qs(url.query).items()}


def test_a_new_device_is_shown_and_counts_after_its_first_code(
    command: Command, shared: Site
) -> None:
    user = shared.fresh_user()
    done = command("device", "add", user, "--name", "tablet", "--seed", OTHER_SEED,
                   text=f" {totp.code(OTHER_SEED)[:3]} {totp.code(OTHER_SEED)[3:]} \n")  # fmt: skip
    assert done.exit_code == 0, done.err
    label, parameters = uri_in(done.out)
    assert label == f"/radius-mfa:{user}"
    assert parameters == {"secret": OTHER_SEED, "issuer": "radius-mfa"}
    assert "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ" in done.out
    assert sum("█" in line for line in done.out.splitlines()) > 15, "a QR code"
    assert done.out.endswith(f"Confirmed: tablet of {user} counts from now on.\n")
    devices = command("device", "list", user, "--json").json()
    assert [(one["name"], one["confirmed_at"] is None) for one in devices] == [
        ("phone", False),
        ("tablet", False),
    ]


def test_a_fresh_seed_is_random_and_long_enough(command: Command, shared: Site) -> None:
    """O10: 160 bits."""
    user = shared.fresh_user()
    seeds = set()
    for name in ("one", "two"):
        done = command("device", "add", user, "--name", name, "--confirmed")
        seeds.add(uri_in(done.out)[1]["secret"])
    assert len(seeds) == 2
    assert {len(base64.b32decode(seed)) for seed in seeds} == {20}


def test_a_device_with_every_option_is_in_the_uri(command: Command, shared: Site) -> None:
    words = ("--algorithm", "sha256", "--digits", "8", "--time-step", "60", "--confirmed")
    done = command("device", "add", shared.fresh_user(), "--name", "token", *words)
    _, parameters = uri_in(done.out)
    parameters.pop("secret")
    assert parameters == {
        "issuer": "radius-mfa",
        "algorithm": "SHA256",
        "digits": "8",
        "period": "60",
    }


@pytest.mark.parametrize(
    ("text", "tries"),
    [("000\nabcdef\n\u0663\u0663\u0663\u0663\u0663\u0663\n", 3), ("000\n", 1), ("", 0)],
)
def test_a_device_without_its_first_code_does_not_count(
    command: Command, text: str, tries: int
) -> None:
    """Rule 11: a half-finished enrolment changes nothing, and can be done again."""
    done = command("device", "add", "user000", "--name", "half", "--seed", OTHER_SEED, text=text)
    assert done.out.count("That is not its code now.") == tries
    assert refused(done) == "half of user000 is not confirmed and does not count"
    assert done.err.endswith("start again: radius-mfa device add user000 --name half\n")
    [half] = [
        one
        for one in command("device", "list", "user000", "--json").json()
        if one["name"] == "half"
    ]
    assert half["confirmed_at"] is None
    assert "1, 1 unconfirmed" in command("user", "list").out
    assert "half, waiting for its first code" in command("user", "show", "user000").out


@pytest.mark.parametrize(
    ("seed", "text"),
    [
        (OTHER_SEED, ""),
        ("gezd gnbv gy3t qojq gezd gnbv gy3t qojq", ""),
        (f"{OTHER_SEED[:16]}-{OTHER_SEED[16:]}======", ""),
        ("-", f" {OTHER_SEED} \r\n"),
    ],
)
def test_a_seed_is_taken_in_any_form_from_argument_or_input(
    command: Command, seed: str, text: str
) -> None:
    words = ("user001", "--name", " old token ", "--seed", seed, "--confirmed")
    done = command("device", "add", *words, text=text)
    assert done.exit_code == 0, done.err
    assert uri_in(done.out)[1]["secret"] == OTHER_SEED
    removed = command("device", "remove", "user001", "old token ")
    assert removed.out == "old token of user001 is removed.\n"


@pytest.mark.parametrize(
    ("words", "text", "error"),
    [
        (("add", "user000", "--seed", "xyz1"), "", "the seed is not base32"),
        (("add", "user000", "--seed", "ä"), "", "the seed is not base32"),
        (("add", "user000", "--seed", "-"), "0000\n", "the seed is not base32"),
        (("add", "user000", "--seed", "abcd"), "",
         "the seed is 16 bits long: 128 at least (RFC 4226 section 4)"),
        (("add", "user000", "--seed", ""), "",
         "the seed is 0 bits long: 128 at least (RFC 4226 section 4)"),
        (("add", "user000", "--seed", totp.SEED, "--name", "other"), "",
         "the seed is enrolled already, as user000's device phone"),
        (("add", "user000", "--seed", OTHER_SEED), "",
         "user000 has a device named phone already"),
        (("add", "user000", "--name", "a\nb"), "",
         "a device's name is 1 to 64 printable characters"),
        (("add", "user000", "--name", " "), "",
         "a device's name is 1 to 64 printable characters"),
        (("add", "user000", "--name", "x" * 65), "",
         "a device's name is 1 to 64 printable characters"),
        (("add", "nobody", "--confirmed"), "", "there is no user nobody"),
        (("list", "nobody"), "", "there is no user nobody"),
        (("remove", "user000", "nothing"), "", "user000 has no device named nothing"),
    ],
)  # fmt: skip
def test_a_device_command_that_is_refused_says_why(
    command: Command, words: tuple[str, ...], text: str, error: str
) -> None:
    assert refused(command("device", *words, text=text)) == error


@pytest.mark.parametrize(
    "words", [("--digits", "7"), ("--digits", "0"), ("--time-step", "45"), ("--algorithm", "md5")]
)
def test_what_no_device_can_have_is_a_misuse(command: Command, words: tuple[str, str]) -> None:
    done = command("device", "add", "user000", *words)
    assert words[0].lstrip("-") in refused(done, 2)
    assert done.err.endswith("see: radius-mfa device add --help\n")


# Clients


def test_a_client_is_added_shown_and_removed(command: Command, tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.config.chmod(0o640)
    before = site.config.read_text("utf-8")
    done = command("client", "add", "asa-hq", "192.0.2.10", config=site.config)
    assert done.exit_code == 0, done.err
    [secret] = re.findall(r"^    (\w{31})$", done.out, re.MULTILINE)
    text = site.config.read_text("utf-8")
    assert text == before.rstrip() + (
        f'\n\n[[client]]\nname = "asa-hq"\naddress = "192.0.2.10"\nsecret = "{secret}"\n'
    )
    assert site.config.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in tmp_path.iterdir()} == {"radius-mfa.toml", "data"}

    listed = command("client", "list", "--json", config=site.config).json()
    assert [one["name"] for one in listed] == ["nas", "asa-hq"]
    shown = command("client", "show", "asa-hq", "--json", config=site.config).json()
    assert shown == listed[1]
    assert (shown["address"], shown["require_message_authenticator"]) == (["192.0.2.10"], True)
    for words in (("list",), ("show", "asa-hq"), ("list", "--json"), ("show", "asa-hq", "--json")):
        out = command("client", *words, config=site.config).out
        assert secret not in out
        assert SECRET not in out
        assert "asa-hq" in out

    assert command("client", "remove", "asa-hq", config=site.config).exit_code == 0
    assert site.config.read_text("utf-8") == before
    assert refused(command("client", "remove", "asa-hq", config=site.config)) == (
        "there is no client asa-hq"
    )


def test_options_and_several_addresses_are_written(command: Command, tmp_path: Path) -> None:
    site = Site(tmp_path)
    words = (
        "client",
        "add",
        "fg",
        "10.0.0.0/8",
        "2001:db8::/32",
        "--no-require-message-authenticator",
    )
    assert command(*words, config=site.config).exit_code == 0
    client = tomllib.loads(site.config.read_text("utf-8"))["client"][1]
    assert client["address"] == ["10.0.0.0/8", "2001:db8::/32"]
    assert client["require_message_authenticator"] is False


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("nas", "192.0.2.1"), "nas is the name of another client too"),
        (("new", "::1"), "::1 stands twice: see radius-mfa.toml:N"),
        (("new", "10.0.0.0/8", "10.0.0.0/8"), "10.0.0.0/8 stands twice: see radius-mfa.toml:N"),
        (("new", "10.0.0.1/8"),
         "'10.0.0.1/8' has bits set to the right of its prefix; did you mean 10.0.0.0/8?"),
        (("new", "gw.corp.example"),
         "'gw.corp.example' is neither an IP address nor a network like 192.0.2.0/24"),
        (("a b", "192.0.2.1"), f"the name {PATTERN_IN_WORDS[CLIENT_NAME_PATTERN]}"),
    ],
)  # fmt: skip
def test_a_client_that_would_be_faulty_is_refused_and_the_file_is_as_it_was(
    command: Command, tmp_path: Path, words: tuple[str, ...], error: str
) -> None:
    site = Site(tmp_path)
    before = site.config.read_text("utf-8")
    said = refused(command("client", "add", *words, config=site.config))
    assert re.sub(r":\d+$", ":N", said) == error
    assert site.config.read_text("utf-8") == before
    assert len(list(tmp_path.iterdir())) == 2, "the draft is gone"


def test_a_linked_configuration_stays_a_link(command: Command, tmp_path: Path) -> None:
    site = Site(tmp_path / "real")
    link = tmp_path / "link.toml"
    link.symlink_to(site.config)
    assert command("client", "add", "new", "192.0.2.1", config=link).exit_code == 0
    assert link.is_symlink()
    assert len(load(site.config, {}).settings.client) == 2


def test_clients_added_at_once_are_all_there(tmp_path: Path) -> None:
    """Of two commands that change the file, neither undoes what the other did."""
    site = Site(tmp_path)

    def add(number: int) -> None:
        block = client_block(f"c{number}", [f"192.0.2.{number}"], SECRET)
        edited(site.config, lambda text: with_client(text, block))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.name for one in site.settings.client} == {"nas", *(f"c{n}" for n in range(8))}


def test_a_faulty_file_is_mended_before_it_is_added_to(command: Command, tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.config.write_text(before := "[radius]\nx = 1\n", "utf-8")
    done = command("client", "add", "new", "192.0.2.1", config=site.config)
    assert "radius.x: there is no such setting" in refused(done, 3)
    assert site.config.read_text("utf-8") == before


# Configuration


def test_init_makes_what_a_server_needs_and_overwrites_nothing(
    command: Command, tmp_path: Path
) -> None:
    config, data = tmp_path / "etc" / "r.toml", tmp_path / "data"
    words = ("init", "--data-folder", str(data))
    done = command(*words, config=config)
    assert done.exit_code == 0, done.err
    assert load(config, {}).settings.data_folder == data
    assert [stat_mode(path) for path in (config, data, data / "keyring")] == [0o600, 0o700, 0o600]
    assert command("user", "list", config=config).exit_code == 0

    kept = config.read_text("utf-8"), (data / "keyring").read_text("utf-8")
    assert refused(command(*words, config=config)) == f"{config} exists already"
    config.unlink()
    assert "Kept the key ring" in command(*words, config=config).out
    assert (config.read_text("utf-8"), (data / "keyring").read_text("utf-8")) == kept


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_check_counts_clients_and_shows_warnings(command: Command, tmp_path: Path) -> None:
    site = Site(tmp_path, clients=[{"name": "a", "address": "::1", "secret": "short"}])
    site.config.chmod(0o600)
    done = command("config", "check", config=site.config)
    assert done.exit_code == 0
    assert done.out == f"{site.config} is fine: 1 client.\n"
    assert re.fullmatch(r"warning: \S+:\d+: client\[1\].secret: 5 octets can .*\n", done.err)
    [warning] = command("config", "check", "--json", config=site.config).json()
    assert (warning["severity"], warning["setting"]) == ("warning", "client[1].secret")
    assert set(warning) == {"severity", "place", "setting", "message", "cure"}


def test_check_says_every_fault_on_a_line_and_ends_in_3(command: Command, tmp_path: Path) -> None:
    config = tmp_path / "r.toml"
    config.write_text('x = 1\n[log]\nlevel = "\\u001b[31m"\n[totp]\ndigits = 7\n', "utf-8")
    done = command("config", "check", config=config)
    assert (done.exit_code, done.out) == (3, "")
    assert [line.split(": ")[2] for line in done.err.splitlines()] == [
        "x",
        "log.level",
        "totp.digits",
    ]
    as_json = command("config", "check", "--json", config=config)
    assert as_json.exit_code == 3
    assert [one["setting"] for one in json.loads(as_json.out)] == ["x", "log.level", "totp.digits"]


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_show_masks_secrets(command: Command, shared: Site, words: tuple[str, ...]) -> None:
    """L01."""
    done = command("config", "show", *words)
    assert SECRET not in done.out
    parsed = json.loads(done.out) if words else tomllib.loads(done.out)
    assert parsed["client"][0]["secret"] == "***"
    assert parsed["data_folder"] == str(shared.data)


def test_schema_is_json_and_needs_no_configuration(command: Command) -> None:
    assert command("config", "schema", config=Path("/nonexistent")).json()["title"]


# What ends in which exit code


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("user",),
        ("user", "add"),
        ("user", "list", "--nonsense"),
        ("test", "alice", "--server", "host.example"),
        ("test", "alice", "--server", "::1"),
        ("test", "alice", "--timeout", "0"),
    ],
)
def test_a_misuse_ends_in_2(command: Command, words: tuple[str, ...]) -> None:
    done = command(*words)
    assert done.exit_code == 2
    assert done.out or done.err.startswith("error: ")


@pytest.mark.parametrize("words", [("user", "list"), ("status",), ("client", "list"), ("serve",)])
def test_a_faulty_configuration_ends_in_3(
    command: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert "there is no configuration file" in refused(command(*words, config=tmp_path / "r"), 3)
    (tmp_path / "r").write_text("[radius]\nx = 1\n", "utf-8")
    assert "radius.x: there is no such setting" in refused(
        command(*words, config=tmp_path / "r"), 3
    )


def without_key_ring(site: Site) -> None:
    (site.data / "keyring").unlink()


def with_another_key_ring(site: Site) -> None:
    key = base64.b64encode(bytes(32)).decode()
    (site.data / "keyring").write_text(f"1 {key}\n", "ascii")


def with_a_newer_database(site: Site) -> None:
    with closing(sqlite3.connect(site.data / "radius-mfa.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (without_key_ring, "keyring is missing"),
        (with_another_key_ring, "is not the one this database was made with"),
        (with_a_newer_database, "at migration 9999, which this release does not know"),
    ],
)
@pytest.mark.parametrize("words", [("user", "list"), ("serve",), ("status",)])
def test_what_does_not_fit_together_ends_in_3_and_nothing_is_lost(
    command: Command,
    tmp_path: Path,
    damage: Callable[[Site], None],
    error: str,
    words: tuple[str, ...],
) -> None:
    site = Site(tmp_path)
    site.add_users(["alice"])
    keyring = (site.data / "keyring").read_bytes()
    damage(site)
    assert error in refused(command(*words, config=site.config), 3)
    (site.data / "keyring").write_bytes(keyring)
    with closing(sqlite3.connect(site.data / "radius-mfa.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (schema.HEAD,))
        assert database.execute("SELECT count(*) FROM device").fetchone() == (1,)


@pytest.mark.parametrize(
    ("section", "error"),
    [
        ({"redis": {"url": "redis://127.0.0.1:1/0"}}, "redis does not answer"),
        ({"database": {"url": "postgresql://u:canary@127.0.0.1:1/n"}}, "database does not answer"),
    ],
)
@pytest.mark.parametrize("words", [("user", "list"), ("user", "add", "x"), ("serve",)])
def test_a_backend_that_is_down_ends_in_4(
    command: Command,
    tmp_path: Path,
    section: dict[str, dict[str, str]],
    error: str,
    words: tuple[str, ...],
) -> None:
    site = Site(tmp_path, section)
    done = command(*words, text="password\n", config=site.config)
    assert refused(done, 4).startswith(error)
    assert "canary" not in done.err
    assert "url right" in done.err, "the cure"


def test_a_file_where_the_data_folder_should_be_ends_in_3(command: Command, tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "file").touch()
    site.config.write_text(f'data_folder = "{tmp_path}/file"\n', "utf-8")
    assert refused(command("user", "list", config=site.config), 3) == (
        f"the data folder {tmp_path}/file can't be written: File exists"
    )


# Status without a server


def test_status_tells_each_part_by_itself(command: Command, tmp_path: Path) -> None:
    site = Site(tmp_path, {"radius": {"listen": ["127.0.0.1:1"]}})
    site.add_users(["alice", "bob"])
    done = command("status", config=site.config)
    assert done.exit_code == 4
    no_server = "no answer from 127.0.0.1 port 1: nothing listens there"
    assert re.sub(" +", " ", done.out).splitlines() == [
        f"server down {no_server} (is radius-mfa serve running?)",
        "redis up answers, and can write",
        "database up 2 users, 2 devices",
    ]
    assert set(json.loads(command("status", "--json", config=site.config).out)) == {
        "server",
        "redis",
        "database",
    }


@pytest.mark.parametrize(
    ("sections", "ups"),
    [
        ({"redis": {"url": "redis://127.0.0.1:1/0"}}, [False, True]),
        ({"database": {"url": "postgresql://u@127.0.0.1:1/n"}}, [True, False]),
        ({"redis": {"url": "redis://127.0.0.1:1/0"},
          "database": {"url": "postgresql://u@127.0.0.1:1/n"}}, [False, False]),
    ],
)  # fmt: skip
def test_status_names_the_backend_that_is_down(
    command: Command, tmp_path: Path, sections: dict[str, dict[str, str]], ups: list[bool]
) -> None:
    site = Site(tmp_path, sections)
    done = command("status", "--json", config=site.config)
    assert done.exit_code == 4
    parts = json.loads(done.out)
    assert [parts["redis"]["up"], parts["database"]["up"]] == ups


def test_status_does_not_call_down_what_it_may_not_ask(command: Command, tmp_path: Path) -> None:
    site = Site(tmp_path, clients=[])
    done = command("status", "--server-only", config=site.config)
    assert done.exit_code == 4
    assert re.match(r"server +unknown +no client holds 127.0.0.1", done.out)


# Root


def test_root_acts_as_the_owner_of_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that root left in the folder would keep the server from starting."""
    calls: list[tuple[Any, ...]] = []
    for name in ("initgroups", "setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda *words, name=name: calls.append((name, *words)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    class Folder:
        def __init__(self, owner: int) -> None:
            self._status = os.stat_result((0o700, 0, 0, 0, owner, 65534, 0, 0, 0, 0))

        def exists(self) -> bool:
            return True

        def stat(self) -> os.stat_result:
            return self._status

    common.act_as_owner(Folder(0))  # type: ignore[arg-type]
    common.act_as_owner(tmp_path / "none")
    assert calls == [], "root's own"
    common.act_as_owner(Folder(54_321))  # type: ignore[arg-type]
    assert calls == [("setgroups", []), ("setgid", 65534), ("setuid", 54_321)]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    common.act_as_owner(Folder(54_321))  # type: ignore[arg-type]
    assert len(calls) == 3, "others can't"
