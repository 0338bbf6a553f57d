"""A real slapd for tests, on a free port of an address of its own; its database is a folder."""

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ldap
from ldap.dn import escape_dn_chars

from tests.support.certificates import Authority
from tests.support.debian import tool
from tests.support.server import PATIENCE_SECONDS, eventually
from tests.support.throwaway import ThrowawayServer

SUFFIX = "dc=corp,dc=example"
ROOT_DN = f"cn=root,{SUFFIX}"
ROOT_PASSWORD = "canary-root-password"
SEARCH_DN = f"cn=search,{SUFFIX}"
SEARCH_PASSWORD = "canary-search-password"

_MODULES = ("back_mdb", "ppolicy", "memberof")

_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath {modules}
{loads}
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
pidfile {folder}/slapd.pid
{extra}
database mdb
suffix "{suffix}"
rootdn "{root}"
rootpw {root_password}
directory {folder}/db
maxsize 268435456
dbnosync
sizelimit unlimited
index objectClass,uid,mail,member,entryUUID eq
overlay ppolicy
ppolicy_default "cn=policy,{suffix}"
ppolicy_use_lockout
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{search}" read by anonymous auth by * none
"""


def modules_folder() -> Path:
    for folder in ("/usr/lib/ldap", "/usr/lib64/openldap", "/usr/lib/openldap"):
        if Path(folder).is_dir():
            return Path(folder)
    raise AssertionError("slapd's modules are not where Debian has them")


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def person(name: str, password: str = "", ou: str = "people", **more: Sequence[str]) -> Any:
    """Return an entry as ``add`` takes it."""
    attributes: dict[str, Sequence[str]] = {
        "objectClass": ["inetOrgPerson"],
        "uid": [name],
        "cn": [name],
        "sn": [name],
        **({"userPassword": [password]} if password else {}),
        **more,
    }
    return f"uid={name},ou={ou},{SUFFIX}", attributes


def group(name: str, *members: str) -> Any:
    dns = [one if "=" in one else f"uid={one},ou=people,{SUFFIX}" for one in members]
    return f"cn={escape_dn_chars(name)},ou=groups,{SUFFIX}", {
        "objectClass": ["groupOfNames"],
        "cn": [name],
        "member": dns,
    }


class RealSlapd(ThrowawayServer):
    """A throwaway slapd with TLS. Use as a context manager; it can be hung and ended."""

    def __init__(
        self, address: str = "127.0.0.1", extra: str = "", *, log_level: int = 256
    ) -> None:
        """Add *extra* to the configuration; *log_level* 256 logs every operation, 0 nothing."""
        super().__init__("rmfa-slapd-")
        self.address = address
        self._extra = extra
        self._log_level = str(log_level)
        self.port = free_port(address)
        self.tls_port = free_port(address)
        self.authority = Authority(self.folder)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def uri(self) -> str:
        """Plain, or StartTLS."""
        return f"ldap://{self.address}:{self.port}"

    @property
    def tls_uri(self) -> str:
        return f"ldaps://{self.address}:{self.tls_port}"

    def prepare(self) -> None:
        self.authority.issue("server", [self.address, "localhost"])
        (self.folder / "db").mkdir()
        folder = modules_folder()
        loads = "\n".join(f"moduleload {one}" for one in _MODULES)
        text = _CONFIG.format(
            modules=folder,
            loads=loads,
            folder=self.folder,
            suffix=SUFFIX,
            root=ROOT_DN,
            root_password=ROOT_PASSWORD,
            search=SEARCH_DN,
            extra=self._extra,
        )
        (self.folder / "slapd.conf").write_text(text, "utf-8")
        entries: list[Any] = [
            (SUFFIX, {"objectClass": ["organization", "dcObject"], "o": ["c"], "dc": ["corp"]}),
            *(
                (f"ou={ou},{SUFFIX}", {"objectClass": ["organizationalUnit"], "ou": [ou]})
                for ou in ("people", "staff", "groups")
            ),
            (
                f"cn=policy,{SUFFIX}",
                {
                    "objectClass": ["device", "pwdPolicy"],
                    "cn": ["policy"],
                    "pwdAttribute": ["userPassword"],
                    "pwdLockout": ["TRUE"],
                    "pwdMaxFailure": ["20"],
                    "pwdMustChange": ["TRUE"],
                },
            ),
            (
                SEARCH_DN,
                {
                    "objectClass": ["organizationalRole", "simpleSecurityObject"],
                    "cn": ["search"],
                    "userPassword": [SEARCH_PASSWORD],
                },
            ),
        ]
        self.load(entries)

    def load(self, entries: Sequence[Any]) -> None:
        """Fill the stopped server's database, thousands of entries a second."""
        lines: list[str] = []
        for dn, attributes in entries:
            lines.append(f"dn: {dn}")
            for name, values in attributes.items():
                lines += [f"{name}: {value}" for value in values]
            lines.append("")
        command = [tool("slapadd"), "-q", "-f", str(self.folder / "slapd.conf")]
        subprocess.run(command, input="\n".join(lines).encode(), check=True, capture_output=True)

    def start(self) -> None:
        urls = (
            f"{self.uri}/ {self.tls_uri}/ ldapi://{str(self.folder / 'ldapi').replace('/', '%2F')}"
        )
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    tool("slapd"),
                    "-f",
                    self.folder / "slapd.conf",
                    "-h",
                    urls,
                    "-d",
                    self._log_level,
                ],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        eventually(self._answers, "slapd to answer")

    def _answers(self) -> bool:
        self.assert_running()
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.tls_port)) == 0

    def stop(self) -> None:
        """End it, hung or not."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)

    def hang(self) -> None:
        """Let it take connections, for the kernel does that, and answer nothing."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    @property
    def admin(self) -> Any:
        """A connection that may change anything."""
        connection = ldap.initialize(self.uri)
        connection.simple_bind_s(ROOT_DN, ROOT_PASSWORD)
        return connection

    def add(self, *entries: Any) -> None:
        admin = self.admin
        for dn, attributes in entries:
            admin.add_s(
                dn, [(name, [v.encode() for v in values]) for name, values in attributes.items()]
            )
        admin.unbind_s()

    def modify(self, dn: str, **attributes: Sequence[str]) -> None:
        admin = self.admin
        admin.modify_s(
            dn,
            [
                (ldap.MOD_REPLACE, name, [value.encode() for value in values])
                for name, values in attributes.items()
            ],
        )
        admin.unbind_s()

    def rename(self, dn: str, rdn: str, parent: str | None = None) -> None:
        admin = self.admin
        admin.rename_s(dn, rdn, parent)
        admin.unbind_s()

    def binds_of(self, dn: str) -> int:
        """Return how many binds as *dn* the server has seen."""
        return self.log.count(f'BIND dn="{dn}" method=128')

    def section(self, **more: Any) -> dict[str, Any]:
        """Return a ``[[directory.ldap]]`` for this server."""
        return {
            "name": "corp",
            "preset": "openldap",
            "servers": [self.tls_uri],
            "ca_file": str(self.ca_file),
            "bind_dn": SEARCH_DN,
            "bind_password": SEARCH_PASSWORD,
            "base": SUFFIX,
            **more,
        }
