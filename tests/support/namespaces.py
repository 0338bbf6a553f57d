"""Network namespaces without a name: each lives as long as a process that does nothing in it."""

import ctypes
import os
import subprocess
from pathlib import Path
from typing import Self

from tests.support.debian import tool
from tests.support.server import eventually


class Namespace:
    """A network of its own, its loopback up. Use as a context manager."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            [tool("unshare"), "--net", "sleep", "infinity"], start_new_session=True
        )
        eventually(self._is_apart, "the namespace")
        self.ip("link", "set", "lo", "up")

    def _is_apart(self) -> bool:
        return self._net.readlink() != Path("/proc/self/ns/net").readlink()

    @property
    def _net(self) -> Path:
        return Path(f"/proc/{self._holder.pid}/ns/net")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._holder.kill()
        self._holder.wait()

    @property
    def prefix(self) -> list[str]:
        """What runs a command in here."""
        return [tool("nsenter"), f"--net={self._net}"]

    @property
    def program(self) -> str:
        """Python that moves the process it runs in here."""
        enter = f"ctypes.CDLL(None, use_errno=True).setns(os.open({str(self._net)!r}, 0), 0)"
        return f"import ctypes, os\nassert {enter} == 0"

    def enter(self) -> None:
        """Move the calling thread in here, for good; sockets stay where they were opened."""
        descriptor = os.open(self._net, os.O_RDONLY)
        try:
            assert ctypes.CDLL(None, use_errno=True).setns(descriptor, 0) == 0, "setns"
        finally:
            os.close(descriptor)

    def ip(self, *words: str) -> str:
        """Run ``ip`` in here, and return what it says."""
        done = subprocess.run([*self.prefix, tool("ip"), *words], capture_output=True, check=True)
        return done.stdout.decode()

    def join(self, other: "Namespace", ours: str, theirs: str) -> None:
        """Lay a cable to *other*, with an address, like ``10.99.0.1/24``, at each end."""
        peer = ["peer", "name", "cable", "netns", str(other._holder.pid)]
        self.ip("link", "add", "cable", "type", "veth", *peer)
        for namespace, address in ((self, ours), (other, theirs)):
            namespace.ip("address", "add", address, "dev", "cable")
            namespace.ip("link", "set", "cable", "up")
