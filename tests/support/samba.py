"""A real Samba AD DC for tests, as the Active Directory of a company.

Provisioned once for a machine (it takes seconds) and copied: the folder of the copy is the only
thing that a test changes. It runs on an address of its own, for LDAP's ports can't be chosen.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ldap
import ldap.dn

from tests.support.certificates import Authority
from tests.support.debian import tool
from tests.support.server import PATIENCE_SECONDS, eventually
from tests.support.throwaway import ThrowawayServer

REALM, DOMAIN = "ad.corp.example", "CORP"
BASE = "DC=ad,DC=corp,DC=example"
ADMIN_PASSWORD = "canary-Adm1n-password"
HOST = "dc1"


_AGE = """
import sys, ldb
from samba import dsdb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
config, database, dn = sys.argv[1:]
settings = LoadParm()
settings.load(config)
domain = SamDB(url=database, session_info=system_session(), lp=settings)
change = ldb.Message(ldb.Dn(domain, dn))
change["pwdLastSet"] = ldb.MessageElement("130000000000000000", ldb.FLAG_MOD_REPLACE, "pwdLastSet")
domain.modify(change, [f"local_oid:{dsdb.DSDB_CONTROL_BYPASS_PASSWORD_HASH_OID}:0"])
"""  # by the Python that Samba's own tools run on


def free_address() -> str:
    """Return an address in 127/8 on which nobody serves LDAP; held by this process's number."""
    number = os.getpid()
    for offset in range(200):
        address = f"127.{77 + offset}.{number // 250 % 250}.{number % 250 + 1}"
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, 636))
            return address
    raise AssertionError("no address is free")


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class RealSamba(ThrowawayServer):
    """A throwaway domain controller with LDAPS and StartTLS. Use as a context manager."""

    def __init__(self) -> None:
        super().__init__("rmfa-samba-")
        self.address = free_address()
        self.authority = Authority(self.folder)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def uri(self) -> str:
        return f"ldaps://{self.address}"

    def __exit__(self, *_exc: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)  # its children may still be ending

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE_SECONDS)
            if self.process.stdin is not None:
                self.process.stdin.close()

    def prepare(self) -> None:
        tool("samba")
        command = [
            "samba-tool",
            "domain",
            "provision",
            f"--realm={REALM.upper()}",
            f"--domain={DOMAIN}",
            f"--host-name={HOST}",
            "--host-ip=127.0.0.1",
            "--server-role=dc",
            "--dns-backend=NONE",
            f"--adminpass={ADMIN_PASSWORD}",
            f"--targetdir={self.folder / 'dc'}",
        ]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        self.authority.issue("server", [self.address, f"{HOST}.{REALM}"])
        (self.folder / "server.key").chmod(0o600)
        config = self.folder / "dc" / "etc" / "smb.conf"
        options = f"""
[global]
\tserver services = ldap
\tinterfaces = {self.address}/8
\tbind interfaces only = yes
\ttls enabled = yes
\ttls cafile = {self.ca_file}
\ttls certfile = {self.folder / "server.pem"}
\ttls keyfile = {self.folder / "server.key"}
\tpid directory = {self.folder}
\tncalrpc dir = {self.folder / "ncalrpc"}
"""
        with config.open("a", encoding="utf-8") as opened:  # the last word counts
            opened.write(options)

    def start(self) -> None:
        config = self.folder / "dc" / "etc" / "smb.conf"
        with (self.folder / "log").open("wb") as output:
            self.process = subprocess.Popen(
                [tool("samba"), "-s", str(config), "-i", "-M", "single", "--debug-stdout"],
                stdout=output,
                stderr=output,
                stdin=subprocess.PIPE,  # it ends when its standard input does
                start_new_session=True,
            )
        eventually(self._answers, "samba to answer")

    def _answers(self) -> bool:
        self.assert_running()
        with socket.socket() as probe:
            return probe.connect_ex((self.address, 636)) == 0

    @property
    def admin(self) -> Any:
        """A connection of the domain's Administrator."""
        connection = ldap.initialize(self.uri)
        connection.set_option(ldap.OPT_REFERRALS, 0)
        connection.set_option(ldap.OPT_X_TLS_CACERTFILE, str(self.ca_file))
        connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        connection.simple_bind_s(f"Administrator@{REALM}", ADMIN_PASSWORD)
        return connection

    def add_user(self, name: str, password: str, parent: str = "CN=Users", **more: str) -> str:
        """Add an enabled user; return the DN."""
        dn = f"CN={ldap.dn.escape_dn_chars(more.pop('cn', name))},{parent},{BASE}"
        attributes = {
            "sAMAccountName": name,
            "userPrincipalName": f"{name}@{REALM}",
            "userAccountControl": "512",
            **more,
        }
        admin = self.admin
        admin.add_s(
            dn,
            [
                ("objectClass", [b"user"]),
                ("unicodePwd", [f'"{password}"'.encode("utf-16-le")]),
                *((name, [value.encode()]) for name, value in attributes.items()),
            ],
        )
        admin.unbind_s()
        return dn

    def add_group(self, name: str, *members: str, parent: str = "CN=Users") -> str:
        dn = f"CN={ldap.dn.escape_dn_chars(name)},{parent},{BASE}"
        admin = self.admin
        admin.add_s(
            dn,
            [
                ("objectClass", [b"group"]),
                ("sAMAccountName", ["".join(filter(str.isalnum, name)).encode()]),
                *([("member", [one.encode() for one in members])] if members else []),
            ],
        )
        admin.unbind_s()
        return dn

    def join(self, group: str, *members: str) -> None:
        """Put entries into a group, by their DNs."""
        admin = self.admin
        admin.modify_s(group, [(ldap.MOD_ADD, "member", [one.encode() for one in members])])
        admin.unbind_s()

    def modify(self, dn: str, **attributes: str | bytes) -> None:
        admin = self.admin
        admin.modify_s(
            dn,
            [
                (ldap.MOD_REPLACE, name, [value if isinstance(value, bytes) else value.encode()])
                for name, value in attributes.items()
            ],
        )
        admin.unbind_s()

    def age_password(self, dn: str) -> None:
        """Make the password of *dn* years old; LDAP itself does not let anyone do that."""
        config, database = self.folder / "dc/etc/smb.conf", self.folder / "dc/private/sam.ldb"
        done = subprocess.run(
            ["/usr/bin/python3", "-c", _AGE, config, database, dn], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")

    def section(self, **more: Any) -> dict[str, Any]:
        """Return a ``[[directory.ldap]]`` for this domain."""
        return {
            "name": "ad",
            "preset": "active-directory",
            "servers": [self.uri],
            "ca_file": str(self.ca_file),
            "bind_dn": f"Administrator@{REALM}",
            "bind_password": ADMIN_PASSWORD,
            "base": BASE,
            "realms": ["corp", REALM],
            **more,
        }
