"""What throwaway servers of tests share: a folder, a process in it, and the end of both."""

import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self


class ThrowawayServer(ABC):
    """A server in a folder of its own. Use as a context manager."""

    def __init__(self, prefix: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=prefix))  # short: a socket's path
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Make what the server finds at its first start."""

    @abstractmethod
    def start(self) -> None:
        """Start the server, and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End the server, if it runs."""

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def assert_running(self) -> None:
        """Fail with the server's own words where it has ended."""
        assert self.process is not None
        assert self.process.poll() is None, self.log
