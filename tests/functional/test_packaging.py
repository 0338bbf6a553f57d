"""The container image and its neighbours, as far as they can be proved without an engine.

The image's own steps run in a clean folder; the Compose file is read by Compose itself, and what
it starts is started here: Redis by its command, the server by its environment and secrets.
"""

import configparser
import json
import os
import pty
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import tomlkit

from radius_mfa import __version__
from radius_mfa.app import nas_table
from radius_mfa.config_file import load
from radius_mfa.stores import keyring
from tests.support.debian import tool
from tests.support.postgres import SUPERUSER, RealPostgres
from tests.support.server import cli, eventually

ROOT = Path(__file__).parents[2]
PREFIX = "/opt/radius-mfa"
SERVER_USER = 10001
SECRETS = {"health_secret", "keyring", "postgres_password", "redis_password"}


# ---- The Dockerfile ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """What follows one FROM: (instruction, its words)."""

    base: str
    steps: list[tuple[str, str]]

    def all(self, instruction: str) -> list[str]:
        return [words for name, words in self.steps if name == instruction]

    def only(self, instruction: str) -> str:
        (words,) = self.all(instruction)
        return words


def dockerfile() -> list[Stage]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    stages: list[Stage] = []
    for line in text.replace("\\\n", " ").splitlines():
        instruction, _, words = line.strip().partition(" ")
        if instruction == "FROM":
            stages.append(Stage(words, []))
        elif instruction:
            stages[-1].steps.append((instruction, words.strip()))
    return stages


def copied_files() -> list[str]:
    """Return what the build stage copies, by its path in the tree, which is its path there too."""
    sources = []
    for words in dockerfile()[0].all("COPY"):
        *here, there = words.split()
        for source in here:
            target = Path(there) / Path(source).name if there.endswith("/") else Path(there)
            assert target == Path(source), f"COPY {words} moves a file"
            sources.append(source)
    return sources


def test_image_is_installed_by_the_script_that_this_test_runs() -> None:
    """Nothing gets into the image but what docker/install.sh puts there, and a user."""
    build, final = dockerfile()
    assert build.base == "python:3.11-slim-bookworm AS build"
    assert final.base == "python:3.11-slim-bookworm", "what was compiled for one must fit the other"
    headers, install = build.all("RUN")
    assert install == f"docker/install.sh {PREFIX} ldap"
    assert headers.endswith("--no-install-recommends gcc libldap2-dev libsasl2-dev")
    assert final.all("COPY") == [f"--from=build {PREFIX} {PREFIX}"]
    libraries, _users = final.all("RUN")
    assert "--no-install-recommends libldap-2.5-0 libsasl2-2 " in libraries
    assert not re.search(r"\b(pip|curl|wget|gcc)\b", " ".join(final.all("RUN")))
    assert not build.all("ADD") + final.all("ADD")


def test_image_serves_as_a_user_without_rights_and_checks_its_health() -> None:
    _, final = dockerfile()
    assert final.only("USER") == f"{SERVER_USER}:{SERVER_USER}"
    assert f"install -d -o {SERVER_USER} -g {SERVER_USER} -m 0700" in final.all("RUN")[1]
    assert json.loads(final.only("ENTRYPOINT")) == ["radius-mfa"]
    assert json.loads(final.only("CMD")) == ["serve"]
    assert final.only("EXPOSE") == "1812/udp"
    check = json.loads(final.only("HEALTHCHECK").partition("CMD ")[2])
    assert check == ["radius-mfa", "status", "--server-only"]


def test_build_context_holds_what_is_copied_and_nothing_else() -> None:
    """No secret, no history, no site's configuration can reach an image by accident."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert allowed == set(copied_files())
    assert all(rule.startswith(("*", "!")) for rule in rules)


# ---- The installation ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Installation:
    """An installation by the image's own steps, far from the tree."""

    prefix: Path
    elsewhere: Path
    source: dict[Path, bytes]

    @property
    def environ(self) -> dict[str, str]:
        """An environment in which only the installation itself can be found."""
        path = f"{self.prefix / 'bin'}:/nowhere"
        return {"PATH": path, "HOME": str(self.elsewhere), "LANG": "C.UTF-8"}

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [self.prefix / "bin" / words[0], *words[1:]],
            cwd=self.elsewhere,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def package(self) -> Path:
        return Path(
            self.run("python", "-c", "import radius_mfa; print(radius_mfa.__path__[0])").strip()
        )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Copy what the Dockerfile copies, and run what it runs."""
    tree = tmp_path_factory.mktemp("source")
    for name in copied_files():
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        else:
            (tree / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    made = Installation(
        tmp_path_factory.mktemp("prefix"),
        tmp_path_factory.mktemp("elsewhere"),
        {file.relative_to(tree): file.read_bytes() for file in files_below(tree)},
    )
    command = dockerfile()[0].all("RUN")[1].replace(PREFIX, str(made.prefix))
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        shlex.split(command),
        cwd=tree,
        env=environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tree)
    return made


def files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_installed_program_needs_nothing_of_the_tree(installation: Installation) -> None:
    """It answers from a folder that has nothing to do with it, after the source is gone."""
    assert installation.run("radius-mfa", "--version") == f"radius-mfa {__version__}\n"
    assert installation.package.is_relative_to(installation.prefix)


def test_installed_program_can_ask_a_directory(installation: Installation) -> None:
    """python-ldap is compiled for the image, and nothing that compiles stays in it."""
    installation.run("python", "-c", "import ldap; import radius_mfa.stores.directory_ldap")
    left = installation.run("python", "-c", "import sys; print(sys.prefix)").strip()
    names = [path.name for path in Path(left).glob("lib/python*/site-packages/*")]
    assert not [name for name in names if re.match(r"(pip|setuptools|hatchling)\b", name)]


def test_installed_package_holds_every_file_of_the_tree(installation: Installation) -> None:
    """Scripts for Redis, migrations, the type marker; dictionaries and configuration files."""
    targets = {"radius_mfa": "", "dictionaries": "dictionaries", "config": "config_files"}
    expected = {
        Path(targets[file.parts[0]], *file.parts[1:]): content
        for file, content in installation.source.items()
        if file.parts[0] in targets
    }
    assert {Path("stores/lua/settle.lua"), Path("py.typed"), Path("dictionaries/dictionary")} < set(
        expected
    )
    package = installation.package
    installed = {file.relative_to(package): file.read_bytes() for file in files_below(package)}
    assert {f: c for f, c in installed.items() if "__pycache__" not in f.parts} == expected


def test_installed_init_writes_the_commented_configuration(installation: Installation) -> None:
    config, data = installation.elsewhere / "made.toml", installation.elsewhere / "made"
    installation.run("radius-mfa", "-c", str(config), "init", "--data-folder", str(data))
    ours = installation.source[Path("config/radius-mfa.toml")].decode()
    assert config.read_text("utf-8") == ours.replace('"/var/lib/radius-mfa"', f'"{data}"')
    assert stat.S_IMODE((data / "keyring").stat().st_mode) == 0o600
    installation.run("radius-mfa", "-c", str(config), "config", "check")


def test_installed_server_answers_a_login_with_its_own_redis(installation: Installation) -> None:
    """Scripts, migrations, dictionaries and the bundled Redis all do their part in one login."""
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [installation.prefix / "bin" / "radius-mfa", "demo", "--port", "0", "--data", "d"],
        cwd=installation.elsewhere,
        env=installation.environ,
        stdin=subprocess.DEVNULL,
        stdout=other_end,
        stderr=other_end,
    )
    os.close(other_end)
    os.set_blocking(terminal, False)
    shown = bytearray()

    def has_shown(text: bytes) -> bool:
        try:
            shown.extend(os.read(terminal, 65_536))
        except (BlockingIOError, OSError):
            assert process.poll() is None, shown.decode()
        return text in shown

    try:
        eventually(lambda: has_shown(b"Ctrl-C stops it"), "the demo to serve")
        assert b"Access-Accept" in shown
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        os.close(terminal)


def test_installation_can_install_nothing_more(installation: Installation) -> None:
    for name in ("pip", "hatchling", "editables"):
        assert not list(installation.prefix.glob(f"lib/python*/site-packages/{name}"))
        assert not (installation.prefix / "bin" / name).exists()


# ---- The Compose file ----------------------------------------------------------------------------

Service = dict[str, Any]

_TO_JSON = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The Compose file as Compose itself understands it."""
    done = subprocess.run(
        [tool("docker-compose"), "--profile", "admin", "--profile", "portal", "config"],
        cwd=ROOT,
        env=os.environ | {"RADIUS_MFA_SITE": "/site"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Debian's docker-compose prints YAML alone, and is a Python program that brings PyYAML.
    in_json = subprocess.run(
        ["/usr/bin/python3", "-c", _TO_JSON],
        input=done.stdout,
        capture_output=True,
        check=True,
        text=True,
    )
    read: dict[str, Any] = json.loads(in_json.stdout)
    return read


@pytest.mark.parametrize("name", ["server", "portal", "admin", "redis", "postgres"])
def test_no_container_may_do_more_than_it_must(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), "a number, and not root's"
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & set(service)


@pytest.mark.parametrize("name", ["server", "portal", "redis", "postgres"])
def test_containers_are_watched_and_started_again(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["restart"] == "unless-stopped"
    assert {"test", "interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])
    assert service["logging"]["options"]["max-size"], "a log that grows for ever fills the disk"


def test_server_waits_for_healthy_backends(compose: dict[str, Any]) -> None:
    healthy = {"condition": "service_healthy"}
    assert compose["services"]["server"]["depends_on"] == {"redis": healthy, "postgres": healthy}


def test_only_radius_and_the_portal_are_published_and_backends_are_cut_off(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert published.keys() == {"server", "portal"}
    for name, number, protocol in (("server", 1812, "udp"), ("portal", 8443, "tcp")):
        (port,) = published[name]
        expected = (number, number, protocol)
        assert (port["target"], int(port["published"]), port["protocol"]) == expected
    assert compose["networks"]["backends"] == {"internal": True}
    assert set(services["server"]["networks"]) == {"backends", "gateways"}
    assert set(services["portal"]["networks"]) == {"backends", "browsers"}
    for name in ("admin", "redis", "postgres"):
        assert set(services[name]["networks"]) == {"backends"}


def test_what_must_last_lies_in_named_volumes(compose: dict[str, Any]) -> None:
    services = compose["services"]
    mounts = {name: set(service["volumes"]) for name, service in services.items()}
    assert mounts["redis"] == {"redis:/data:rw"}
    assert mounts["postgres"] == {"postgres:/var/lib/postgresql/data:rw"}
    assert (
        mounts["portal"]
        == mounts["server"]
        == {
            "data:/var/lib/radius-mfa:rw",
            "/site/config:/etc/radius-mfa:ro",  # the server may not change its own configuration
        }
    )
    assert "/site/config:/etc/radius-mfa:rw" in mounts["admin"]
    assert set(compose["volumes"]) == {"data", "redis", "postgres"}


def test_secrets_come_from_files_and_reach_only_who_needs_them(compose: dict[str, Any]) -> None:
    services = compose["services"]
    given = {name: {s["source"] for s in service["secrets"]} for name, service in services.items()}
    assert given == {
        "server": SECRETS,
        "portal": SECRETS,
        "admin": SECRETS,
        "redis": {"redis_password"},
        "postgres": {"postgres_password"},
    }
    assert compose["secrets"] == {name: {"file": f"/site/secrets/{name}"} for name in SECRETS}
    for service in services.values():
        for variable in service.get("environment", {}):
            assert not re.search(r"(PASSWORD|SECRET)$", variable), "a value instead of a file"


def test_image_compose_file_and_secrets_name_the_same_user(compose: dict[str, Any]) -> None:
    """A secret that the server's user can't read would be found on the first start, too late."""
    assert compose["services"]["server"]["user"] == dockerfile()[1].only("USER")
    script = (ROOT / "docker" / "prepare.sh").read_text("utf-8")
    assert f"\nserver={SERVER_USER} " in script
    for name in ("redis", "postgres"):
        assert compose["services"][name]["group_add"] == [str(SERVER_USER)]


# ---- The site: secrets, key ring, configuration --------------------------------------------------


def prepare(site: Path, stubs: Path) -> str:
    """Run docker/prepare.sh; where the tests don't run as root, with a stand-in for it."""
    environ = dict(os.environ)
    if os.geteuid() != 0:
        for name, words in (("id", "echo 0"), ("chown", ":")):
            (stubs / name).write_text(f"#!/bin/sh\n{words}\n", "ascii")
            (stubs / name).chmod(0o755)
        environ["PATH"] = f"{stubs}:{environ['PATH']}"
    done = subprocess.run(
        [ROOT / "docker" / "prepare.sh", site],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    site, stubs = tmp_path / "site", tmp_path / "stubs"
    stubs.mkdir()
    prepare(site, stubs)
    return site


def test_secrets_are_readable_by_their_container_alone(prepared: Path) -> None:
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in files_below(prepared)}
    assert modes == {
        "keyring": 0o400,
        "health_secret": 0o400,
        "redis_password": 0o440,
        "postgres_password": 0o440,
        "radius-mfa.toml": 0o600,
    }
    assert stat.S_IMODE((prepared / "config").stat().st_mode) == 0o700
    if os.geteuid() == 0:
        owners = {
            file.name: (file.stat().st_uid, file.stat().st_gid) for file in files_below(prepared)
        }
        assert owners["keyring"] == owners["health_secret"] == (SERVER_USER, SERVER_USER)
        assert owners["radius-mfa.toml"] == (SERVER_USER, SERVER_USER)
        assert owners["redis_password"] == owners["postgres_password"] == (0, SERVER_USER)


def test_secrets_are_random_and_the_key_ring_is_one(prepared: Path) -> None:
    secrets = {name: (prepared / "secrets" / name).read_text("ascii") for name in SECRETS}
    passwords = {secrets[name] for name in SECRETS - {"keyring"}}
    assert len(passwords) == len(SECRETS) - 1
    assert all(re.fullmatch("[A-Za-z0-9]{40}", password) for password in passwords)
    assert keyring.load(prepared / "secrets" / "keyring").versions == {1}


def test_preparing_again_changes_nothing(prepared: Path, tmp_path: Path) -> None:
    """An upgrade runs it once more; a new key ring then would cost every enrolled device."""
    (prepared / "config" / "radius-mfa.toml").write_text("# ours now\n", "ascii")
    before = {file: file.read_bytes() for file in files_below(prepared)}
    assert "made" not in prepare(prepared, tmp_path / "stubs")
    assert {file: file.read_bytes() for file in files_below(prepared)} == before


def test_preparing_takes_root(tmp_path: Path) -> None:
    """Files that belong to somebody else than the server's user would be of no use."""
    tmp_path.chmod(0o777)
    done = subprocess.run(
        ["/bin/sh", "-s", tmp_path / "site"],
        input=(ROOT / "docker" / "prepare.sh").read_text("utf-8"),
        user=65_534 if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        cwd="/",
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "run this as root" in done.stderr
    assert not (tmp_path / "site").exists()


# ---- What Compose starts -------------------------------------------------------------------------


@dataclass(frozen=True)
class ComposedRedis:
    """Redis as the Compose file starts it, but on a socket."""

    service: Service
    secret: Path
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> str:
        return str(self.folder / "socket")

    def client(self, password: str | None) -> "redis_py.Redis":
        return redis_py.Redis(unix_socket_path=self.socket, password=password)

    def is_healthy(self) -> bool:
        """Return what the health check says."""
        words = self.service["healthcheck"]["test"].replace("$$", "$")
        words = words.replace("/run/secrets/redis_password", str(self.secret))
        words = words.replace("redis-cli ", f"redis-cli -s {self.socket} ")
        return subprocess.run(["/bin/sh", "-c", words], check=False, timeout=10).returncode == 0


@pytest.fixture
def composed_redis(
    compose: dict[str, Any], prepared: Path, tmp_path: Path
) -> Iterator[ComposedRedis]:
    tool("redis-server")
    service = compose["services"]["redis"]
    shell, option, script = service["command"]
    secret, folder = prepared / "secrets" / "redis_password", tmp_path / "redis"
    folder.mkdir()
    script = script.replace("$$", "$").replace("/run/secrets/redis_password", str(secret))
    script = script.replace("dir /data", f"dir {folder}\nport 0\nunixsocket {folder / 'socket'}")
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen([shell, option, script], stdout=output, stderr=output)
    started = ComposedRedis(service, secret, folder, process)
    try:
        eventually((folder / "socket").exists, "Redis to start")
        yield started
    finally:
        process.terminate()
        process.wait(30)


def test_composed_redis_takes_its_password_from_the_secret(composed_redis: ComposedRedis) -> None:
    with composed_redis.client(None) as stranger, pytest.raises(redis_py.AuthenticationError):
        stranger.ping()
    password = composed_redis.secret.read_text("ascii")
    with composed_redis.client(password) as client:
        assert client.ping()
    command_line = Path(f"/proc/{composed_redis.process.pid}/cmdline").read_bytes()
    assert command_line.startswith(b"redis-server"), "the shell is still there and eats signals"
    assert password.encode() not in command_line


def test_composed_redis_forgets_nothing(composed_redis: ComposedRedis) -> None:
    """O04, rule 10: every change is in the file, and no key is ever evicted."""
    with composed_redis.client(composed_redis.secret.read_text("ascii")) as client:
        settings = client.config_get("append*", "maxmemory-policy", "save")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""


def test_composed_redis_is_healthy_only_while_the_password_fits(
    composed_redis: ComposedRedis,
) -> None:
    eventually(composed_redis.is_healthy, "the health check to pass")
    composed_redis.secret.chmod(0o600)
    composed_redis.secret.write_text("another", "ascii")
    assert not composed_redis.is_healthy()


@pytest.fixture
def composed_environ(
    compose: dict[str, Any], prepared: Path, composed_redis: ComposedRedis
) -> Iterator[dict[str, str]]:
    """The server's environment; what stood in the containers' network stands here."""
    given: dict[str, str] = compose["services"]["server"]["environment"]
    with RealPostgres() as postgres:
        database = postgres.new_database()
        replaced = {
            "RADIUS_MFA_REDIS__URL": f"unix://{composed_redis.socket}?db=0",
            "RADIUS_MFA_DATABASE__URL": f"postgresql://{SUPERUSER}@/{database}?host={postgres.folder}",
        }
        assert set(replaced) <= set(given)
        here = {name: in_site(value, prepared) for name, value in given.items()}
        yield here | replaced


def in_site(text: str, site: Path) -> str:
    return text.replace("/run/secrets", str(site / "secrets"))


def test_composed_server_is_healthy(
    prepared: Path, composed_environ: dict[str, str], tmp_path: Path
) -> None:
    """The shipped configuration serves, and the health check is answered by the client it names."""
    config = prepared / "config" / "radius-mfa.toml"
    document = tomlkit.parse(in_site(config.read_text("utf-8"), prepared))
    document["data_folder"] = str(tmp_path)
    document["radius"]["listen"] = ["127.0.0.1:0"]
    config.write_text(tomlkit.dumps(document), "utf-8")
    loaded = load(config, composed_environ)
    assert not loaded.warnings
    assert nas_table(loaded.settings).find("127.0.0.1").name == "health"

    check = dockerfile()[1].only("HEALTHCHECK").partition("CMD ")[2]
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "radius_mfa", "-c", config, "serve"],
            env=os.environ | composed_environ,
            stdout=output,
            stderr=output,
        )
    try:
        line = eventually(
            lambda: (
                re.search(r'"listen":"([0-9.:]+)"', log.read_text("utf-8"))
                or server.poll() is not None
            ),
            "the server to start",
        )
        assert line is not True, log.read_text("utf-8")
        listen = {"RADIUS_MFA_RADIUS__LISTEN": json.dumps([line[1]])}
        done = cli(*json.loads(check)[1:], config=config, **composed_environ, **listen)
        assert done.exit_code == 0, done.out + done.err
        done = cli("status", "--json", config=config, **composed_environ, **listen)
        assert {name: part["up"] for name, part in done.json().items()} == {
            "server": True,
            "redis": True,
            "database": True,
            "nodes": True,
        }
    finally:
        server.terminate()
        assert server.wait(30) == 0


# ---- The systemd unit ----------------------------------------------------------------------------


def _unit(name: str) -> configparser.RawConfigParser:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((ROOT / "docs" / name).read_text("utf-8"))
    return unit


@pytest.mark.parametrize("name", ["radius-mfa.service", "radius-mfa-portal.service"])
def test_systemd_takes_the_units_as_they_are(name: str, tmp_path: Path) -> None:
    """Each word of them, that is; the program is where pip has put it here."""
    unit = (ROOT / "docs" / name).read_text("utf-8")
    program = Path(sys.executable).with_name("radius-mfa")
    copy = tmp_path / name
    copy.write_text(unit.replace(f"{PREFIX}/bin/radius-mfa", str(program)), "utf-8")
    verify = [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", str(copy)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_portal_has_no_rights_that_the_server_has_not() -> None:
    """The two units say the same but for the program and how it ends."""
    server, portal = (dict(_unit(f"radius-mfa{one}.service")["Service"]) for one in ("", "-portal"))
    assert portal.pop("ExecStart") == f"{PREFIX}/bin/radius-mfa portal"
    for own in ("ExecStart", "KillMode"):
        del server[own]
    assert server.pop("TimeoutStopSec") != portal.pop("TimeoutStopSec")
    assert portal == server
    assert "radius-mfa.service" in _unit("radius-mfa-portal.service")["Unit"]["After"].split()


def test_systemd_unit_gives_the_server_no_rights_that_it_does_not_need() -> None:
    unit = _unit("radius-mfa.service")
    service = unit["Service"]
    assert service["ExecStart"] == f"{PREFIX}/bin/radius-mfa serve"
    assert service["User"] == service["StateDirectory"] == "radius-mfa"
    assert service["CapabilityBoundingSet"] == ""
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["LimitCORE"] == "0"
    assert service["KillMode"] == "mixed", "or systemd ends the embedded Redis before the logins"
    assert service["RestartPreventExitStatus"] == "3", "a faulty configuration does not mend itself"
