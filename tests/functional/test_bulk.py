"""Imports and exports as an operator does them, and logins with what was moved."""

import base64
import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from radius_mfa.app import Stores
from radius_mfa.imports import bundle
from radius_mfa.policy.decision import RejectReason
from radius_mfa.policy.totp import base32
from radius_mfa.stores.interfaces import Identity
from tests.functional.test_cli import Command, in_process
from tests.support import pskc, totp
from tests.support.debian import tool
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, Finished, RunningServer, Site

SEED = totp.SEED
OTHER_SEED = "MNQW4YLSPEWXGZLFMQWTEMBNN5RXIZLU"
PASSPHRASE = "canary passphrase of words"
PROPER = 0o600


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], site: Site
) -> Iterator[Command]:
    """Give how to run a command in this process, which spares its start."""
    with in_process(monkeypatch, capsys, site.config) as call:
        yield call


def file(folder: Path, name: str, content: str | bytes, mode: int = PROPER) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return str(path)


def quiet(done: Finished, *, exit_code: int = 0) -> Finished:
    """Return *done*, which ended so and shows no secret."""
    assert done.exit_code == exit_code, done
    shown = done.out + done.err
    for secret in (SEED, OTHER_SEED, PASSWORD, PASSPHRASE, "canary", "$argon2id$v=19$m"):
        assert secret not in shown
        assert base64.b32decode(SEED).hex() not in shown
    return done


def oathtool(seed: str, *options: str) -> str:
    """Return the code of the next step: the present one is used up by an import."""
    words = [tool("oathtool"), "--totp", "--base32", "--now", "now + 30 seconds", *options, seed]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def login(server: RunningServer, user: str, code: str) -> int:
    with server.nas() as nas:
        return nas.ask(nas.access_request(user, PASSWORD + code)).code


def test_an_export_read_by_a_fresh_installation_lets_its_users_in(
    tmp_path: Path, command: Command
) -> None:
    """Round trip: hash, suspension and seeds move; what was used there is not used again here."""
    exported = str(tmp_path / "all.rmx")
    key = file(tmp_path, "key", base64.b64encode(os.urandom(32)))
    with Site(tmp_path / "old") as old, Site(tmp_path / "new") as new:
        old.add_users(["alice", "bob"])
        quiet(command("user", "suspend", "bob", config=old.config))
        with_key = ("--key-file", key)
        done = quiet(command("export", exported, *with_key, config=old.config))
        assert "Wrote 2 users and 2 devices" in done.out
        assert (tmp_path / "all.rmx").stat().st_mode & 0o777 == PROPER
        for secret in (b"alice", base64.b32decode(SEED), PASSWORD.encode(), b"argon2id$"):
            assert secret not in Path(exported).read_bytes()

        done = quiet(command("import", exported, *with_key, "--dry-run", config=new.config))
        assert "It would be: 2 users added, 2 devices added" in done.out
        assert command("user", "list", "--json", config=new.config).json() == []
        used = totp.code(SEED)
        done = quiet(command("import", exported, *with_key, config=new.config))
        assert done.out == "Done: 2 users added, 2 devices added.\n"
        server = new.start()
        assert login(server, "alice", used) == ACCESS_REJECT
        assert login(server, "alice", oathtool(SEED)) == ACCESS_ACCEPT
        assert login(server, "bob", oathtool(SEED)) == ACCESS_REJECT
        reasons = [line["reason"] for line in server.lines("login.rejected")]
        assert reasons == [RejectReason.CODE_REPLAYED, RejectReason.USER_SUSPENDED]

        refused = quiet(command("import", exported, *with_key, config=new.config), exit_code=1)
        assert "2 faults" in refused.err
        assert "alice: the user exists already" in refused.out
        done = quiet(
            command("import", exported, *with_key, "--existing", "skip", config=new.config)
        )
        assert "2 users left as they were" in done.out


def test_a_directory_s_user_keeps_key_and_requirement_on_the_way(
    tmp_path: Path, command: Command
) -> None:
    """The key is no name: it is not put in lower case, and a suspended factor stays so."""
    exported = str(tmp_path / "all.rmx")
    with_key = ("--key-file", file(tmp_path, "key", base64.b64encode(os.urandom(32))))
    ann = Identity("LDAP/corp/4F2A-UUID", "ann", "corp", dn="uid=ann", mail="ann@corp.example")
    with Site(tmp_path / "old") as old, Site(tmp_path / "new") as new:
        old.with_stores(lambda stores: stores.enrolments.know(ann))
        for words in (("require",), ("suspend", "--factor"), ("join", "staff")):
            quiet(command("user", words[0], ann.key, *words[1:], config=old.config))
        [before] = command("user", "list", "--json", config=old.config).json()
        assert before["mfa"]["state"] == "DISABLED"
        assert before["mail"] == "ann@corp.example"
        quiet(command("export", exported, *with_key, config=old.config))
        quiet(command("import", exported, *with_key, config=new.config))
        assert command("user", "list", "--json", config=new.config).json() == [before]
        again = quiet(command("import", exported, *with_key, config=new.config), exit_code=1)
        assert "ann: the user exists already" in again.out


@pytest.mark.parametrize("drift", [-20, 20])
def test_a_resynced_device_works_after_an_export_and_an_import(
    tmp_path: Path, command: Command, drift: int
) -> None:
    """By its own clock, and a code that may have been used before is not used again."""
    exported = str(tmp_path / "all.rmx")
    with_key = ("--key-file", file(tmp_path, "key", base64.b64encode(os.urandom(32))))

    async def resync(stores: Stores) -> None:
        [device] = (await stores.enrolments.fetch("alice")).devices
        await stores.enrolments.resync_device("alice", device.device_id, drift)

    with Site(tmp_path / "old") as old, Site(tmp_path / "new") as new:
        old.add_users(["alice"])
        old.with_stores(resync)
        quiet(command("export", exported, *with_key, config=old.config))
        used = totp.code(SEED, offset=drift)
        quiet(command("import", exported, *with_key, config=new.config))
        server = new.start()
        assert login(server, "alice", used) == ACCESS_REJECT
        assert server.line("login.rejected")["reason"] == RejectReason.CODE_REPLAYED
        assert login(server, "alice", totp.code(SEED, offset=drift + 1)) == ACCESS_ACCEPT


def test_a_passphrase_locks_an_export_too(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "ARGON2", {"memory_kib": 64, "passes": 1, "lanes": 1})
    exported = str(tmp_path / "all.rmx")
    locked = ("--passphrase-file", "-")
    short = quiet(command("export", exported, *locked, text="canary\n"), exit_code=1)
    assert "12 characters at least" in short.err
    quiet(command("export", exported, *locked, text=PASSPHRASE + "\n"))
    again = quiet(command("export", exported, *locked, text=PASSPHRASE + "\n"), exit_code=1)
    assert "exists already" in again.err
    wrong = quiet(command("import", exported, *locked, text="canary of a thief\n"), exit_code=1)
    assert "is not the one of this file" in wrong.err
    quiet(command("import", exported, *locked, text=PASSPHRASE + "\n"))


def test_a_running_server_knows_at_once_what_was_imported(
    site: Site, tmp_path: Path, command: Command
) -> None:
    """ADR 0007: neither "nobody has this name" nor an old seed outlives the import in a cache."""
    server = site.start()
    assert login(server, "alice", totp.code(SEED)) == ACCESS_REJECT
    assert server.line("login.rejected")["reason"] == RejectReason.UNKNOWN_USER
    users = file(tmp_path, "users.csv", f"user;password\r\nALICE;{PASSWORD}\r\n".encode())
    done = quiet(command("user", "import", users))
    assert done.out == "Done: 1 user added.\n"
    tokens = file(tmp_path, "tokens.csv", f"user,name,seed\nalice,phone,{SEED}\n")
    quiet(command("device", "import", tokens))
    assert login(server, "alice", oathtool(SEED)) == ACCESS_ACCEPT

    tokens = file(tmp_path, "tokens.csv", f"user,name,seed\nalice,phone,{OTHER_SEED}\n")
    refused = quiet(command("device", "import", tokens), exit_code=1)
    assert "has this device, or one of its name, already: phone" in refused.out
    quiet(command("device", "import", tokens, "--existing", "update"))
    assert login(server, "alice", totp.code(SEED, offset=2)) == ACCESS_REJECT
    assert login(server, "alice", oathtool(OTHER_SEED)) == ACCESS_ACCEPT


def test_one_bad_row_and_no_user_is_added(site: Site, tmp_path: Path, command: Command) -> None:
    """Every fault of every row is listed in one go, those that only the database knows too."""
    site.add_users(["carol"])
    users = file(
        tmp_path,
        "users.csv",
        "user,password,password_hash,suspended\n"
        "alice,canary,,\n"
        "bob,,$2b$12$canarycanary,\n"
        ",canary,,maybe\n"
        "carol,canary,,\n",
        mode=0o644,
    )
    done = quiet(command("user", "import", users), exit_code=1)
    assert f"warning: {users} can be read by others" in done.err
    assert "nothing was changed: 4 faults" in done.err
    places = re.findall(r"^refused: (row \d)", done.out, re.MULTILINE)
    assert places == ["row 3", "row 4", "row 4", "row 5"]
    assert "a hash of kind bcrypt" in done.out
    assert [user["name"] for user in command("user", "list", "--json").json()] == ["carol"]


def test_what_can_t_be_moved_is_reported_and_no_spreadsheet_runs_it(
    tmp_path: Path, command: Command
) -> None:
    report = tmp_path / "left.csv"
    tokens = file(
        tmp_path,
        "tokens.csv",
        "user,serial,seed,type,digits\n"
        f"alice,T1,{SEED},totp,6\n"
        f"bob,T2,{SEED},hotp,6\n"
        f"=HYPERLINK(1),T3,{SEED},totp,7\n",
    )
    words = ("device", "import", tokens, "--create-users", "--report", str(report))
    assert "nothing was changed: 2 faults" in quiet(command(*words), exit_code=1).err
    report.unlink()
    done = quiet(command(*words, "--partial"))
    assert "Done: 1 user added, 1 device added.\nLeft out: 2, see above." in done.out
    assert report.stat().st_mode & 0o777 == PROPER
    with report.open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [(row["place"], row["user or token"]) for row in rows] == [
        ("row 3", "bob"),
        ("row 4", "'=HYPERLINK(1)"),
    ]
    assert SEED not in report.read_text("utf-8")


def test_files_of_other_systems_are_read_together(tmp_path: Path, command: Command) -> None:
    seed = base64.b32decode(SEED)
    home = file(tmp_path, "home/alice/.google_authenticator", f'{SEED}\n" TOTP_AUTH\n12345678\n')
    old = file(tmp_path, "home/bob/.google_authenticator", f'{SEED[:16]}\n" TOTP_AUTH\n12345678\n')
    key = bytes(range(16))
    xml = file(tmp_path, "tokens.xml", pskc.encrypted({"T1": seed, "T2": seed}, key))
    owners = file(tmp_path, "owners.csv", "serial,user\nT1,carol\n")
    with_key = ("--key-file", file(tmp_path, "key", key.hex()))
    words = ("device", "import", home, old, xml, "--owners", owners, *with_key, "--create-users")
    done = quiet(command(*words), exit_code=1)
    assert f"{old}, bob: the seed is 80 bits long" in done.out
    assert f"{xml}, key 2, T2: no user is named" in done.out
    assert f"not kept: {home}, alice: 1 scratch codes" in done.out
    done = quiet(command(*words, "--partial"))
    assert "2 users added, 2 devices added" in done.out
    assert command("device", "list", "carol", "--json").json()[0]["name"] == "T1"


def test_an_encrypted_file_asks_for_its_passphrase(
    site: Site, tmp_path: Path, command: Command
) -> None:
    xml = file(tmp_path, "tokens.xml", pskc.figure_7("totp"))
    words = ("device", "import", xml, "--user", "alice", "--create-users")
    wrong = quiet(command(*words, text="canary\n"), exit_code=1)
    assert "does not fit" in wrong.err
    done = quiet(command(*words, text=pskc.RFC_PASSPHRASE + "\n"))
    assert "1 user added, 1 device added" in done.out
    server = site.start()
    command("user", "import", file(tmp_path, "u", f"user,password\nalice,{PASSWORD}\n"),
             "--existing", "update")  # fmt: skip
    code = oathtool(base32(pskc.RFC_SEED), "--digits", "8")
    assert login(server, "alice", code) == ACCESS_ACCEPT


def test_the_way_from_freeradius_works_as_it_is_written(site: Site, tmp_path: Path) -> None:
    """docs/migrating.md: its commands, run in a shell over a file of users."""
    text = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text("utf-8")
    section = text.partition("## From FreeRADIUS with rlm_totp\n")[2].partition("\n## ")[0]
    [commands] = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    file(
        tmp_path,
        "authorize",
        f'# a comment "Cleartext-Password := no"\n'
        f'alice\tCleartext-Password := "{PASSWORD}", TOTP-Secret := "{SEED}"\n'
        f'bob Cleartext-Password := "a,b;c", TOTP-Secret := "{OTHER_SEED}"\n'
        f'\tReply-Message := "hello"\n',
    )
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RADIUS_MFA_CONFIG": str(site.config),
    }
    done = subprocess.run(
        ["sh", "-euc", f"umask 077\n{commands}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    quiet(Finished(done.returncode, done.stdout, done.stderr))
    assert "2 users added" in done.stdout
    assert "2 devices added" in done.stdout
    assert login(site.start(), "alice", oathtool(SEED)) == ACCESS_ACCEPT
