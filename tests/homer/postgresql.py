"""PostgreSQL in a temporary folder, on a Unix socket."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

OWNERS = ("postgres", "nobody")
"""Users that it runs as where the tests run as root, whom it refuses."""

MEMORY = Path("/dev/shm")
ROOM = 2 * 1024**3
"""Bytes that must be free there; the server takes some hundred million."""

STARTING = 60.0
"""Seconds until it must answer, on a busy machine."""

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "lc_messages": "C",
    "timezone": "UTC",
}
"""Fast rather than safe: its data is gone after the tests."""

ACCESS = """
local all postgres trust
local all all scram-sha-256
"""
"""pg_hba.conf: all others need their password."""


class Postgres:
    """A server with an empty data directory.

    Args:
        programs: the folder of its programs.
    """

    def __init__(self, programs: Path) -> None:
        # Paths of Unix sockets are short, and pytest's folders are not.
        self._folder = Path(tempfile.mkdtemp(prefix="sipws-pg-", dir=_in_memory()))
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        data = self._folder / "data"
        owner = next((each for each in OWNERS if _is_user(each)), OWNERS[-1])
        as_owner: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam(owner)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            ids = f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"
            as_owner = ["setpriv", *ids, "--clear-groups"]
        try:
            subprocess.run(
                [*as_owner, programs / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8",
                 "--locale=C", "--auth=trust", "--no-sync", "--no-instructions"],
                check=True, capture_output=True, cwd=self._folder,
            )  # fmt: skip
            (data / "pg_hba.conf").write_text(ACCESS)
            options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
            with (self._folder / "log").open("wb") as log:
                # A test run that is killed takes it along.
                self._process = subprocess.Popen(
                    [*as_owner, "setpriv", "--pdeathsig", "QUIT", programs / "postgres",
                     "-D", data, "-k", self._folder, *options],
                    stdout=log, stderr=log, cwd=self._folder,
                )  # fmt: skip
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + STARTING
        while True:
            try:
                psycopg.connect(self.dsn("postgres")).close()
                return
            except psycopg.OperationalError:
                said = (self._folder / "log").read_text(errors="replace")
                assert self._process.poll() is None, f"PostgreSQL does not start:\n{said}"
                assert time.monotonic() < deadline, f"PostgreSQL does not answer:\n{said}"
                time.sleep(0.05)

    def dsn(self, database: str, user: str = "postgres", password: str = "") -> str:
        """Where one of its databases is."""
        rest = f" password={password}" if password else ""
        return f"host={self._folder} dbname={database} user={user}{rest}"

    def connect(self, database: str) -> "psycopg.Connection[Any]":
        """Connect as its superuser."""
        return psycopg.connect(self.dsn(database), autocommit=True)

    def new_database(self) -> str:
        """Make an empty database; returns its name."""
        self._databases += 1
        name = f"homer_data_{self._databases}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database."""
        with self.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        """End it, and remove its data."""
        if self._process is not None and self._process.poll() is None:
            # At once, without writing what is thrown away anyway.
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)


def _in_memory() -> str | None:
    """A folder in memory, with room for the server; None for the usual temporary folder."""
    try:
        return str(MEMORY) if shutil.disk_usage(MEMORY).free > ROOM else None
    except OSError:
        return None


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
