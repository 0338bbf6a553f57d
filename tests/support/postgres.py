"""A real PostgreSQL server for tests, on a Unix socket: nothing is installed and no port taken."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from tests.support.debian import tool
from tests.support.server import PATIENCE_SECONDS, eventually
from tests.support.throwaway import ThrowawayServer

SUPERUSER = "postgres"
REFUSED_ROLE = "refused"
"""A role that the server lets nobody log in as."""

_ACCESS = f"local all {REFUSED_ROLE} reject\nlocal all all trust\n"

_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
}


class RealPostgres(ThrowawayServer):
    """A throwaway cluster. Use as a context manager; it can be stopped, hung and started again."""

    def __init__(self) -> None:
        self._programs = Path(os.path.realpath(tool("initdb"))).parent
        super().__init__("rmfa-pg-")
        self._databases = 0

    def prepare(self) -> None:
        if self._other_user:
            os.chown(self.folder, self._other_user["user"], self._other_user["group"])
        options = ("--username", SUPERUSER, "--encoding", "UTF8", "--no-locale", "--no-sync")
        with self._open_log() as output:
            self._start("initdb", "-D", str(self.folder / "data"), *options, output=output).wait(60)
        (self.folder / "data" / "pg_hba.conf").write_text(_ACCESS, "ascii")

    @property
    def _other_user(self) -> dict[str, Any]:
        """PostgreSQL refuses to run as root; Debian's package brings a user for it."""
        if os.geteuid() != 0:
            return {}
        postgres = pwd.getpwnam("postgres")
        return {"user": postgres.pw_uid, "group": postgres.pw_gid, "extra_groups": []}

    def _open_log(self) -> Any:
        return (self.folder / "log").open("ab")

    def _start(self, program: str, *words: str, output: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._programs / program, *words],
            stdout=output,
            stderr=output,
            cwd=self.folder,
            **self._other_user,
        )

    def start(self) -> None:
        settings = [word for option in _OPTIONS.items() for word in ("-c", "=".join(option))]
        with self._open_log() as output:
            self.process = self._start(
                "postgres",
                *("-D", str(self.folder / "data"), "-k", str(self.folder)),
                *settings,
                output=output,
            )
        eventually(self._answers, "PostgreSQL to answer")

    def _answers(self) -> bool:
        self.assert_running()
        return self._client("psql", "-c", "SELECT 1", check=False).returncode == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # ends sessions, too
            self.process.wait(30)
            self.process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Keep every process of the server from running, for as long as the block lasts."""
        processes = self._processes()
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        assert self.process is not None
        parent = self.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii")
        return [parent, *map(int, children.split())]

    def url(self, database: str, user: str = SUPERUSER) -> URL:
        return URL.create(
            "postgresql+asyncpg", user, database=database, query={"host": str(self.folder)}
        )

    def new_database(self) -> str:
        """Make an empty database and return its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def execute(self, statement: str, database: str = SUPERUSER) -> None:
        self._client("psql", "-c", statement, "-d", database)

    def dump(self, database: str) -> bytes:
        """Return all of *database*, as a backup would hold it."""
        return self._client("pg_dump", "--inserts", "-d", database).stdout

    def _client(
        self, program: str, *words: str, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        server = ("-h", str(self.folder), "-U", SUPERUSER)
        return subprocess.run(
            [self._programs / program, *server, *words],
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=check,
        )
