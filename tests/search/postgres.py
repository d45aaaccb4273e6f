"""A PostgreSQL server of the tests' own: it can be stopped and started, and leaves nothing."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PostgresServer", "find_programs", "running_server"]

# Below the ports that Linux gives to others on its own, so that a stopped server's stays free.
PORTS = range(20_000, 32_000)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "50",
    "shared_buffers": "16MB",
    # The machine won't crash. synchronous_commit stays on: what was committed outlives stop().
    "fsync": "off",
    "full_page_writes": "off",
}
# Its standard input closes when the tests are done, or killed; then it stops and deletes.
KEEPER = 'cat; "$1" stop --pgdata "$2/data" --mode immediate --silent; rm -rf "$2"'


def find_programs() -> tuple[str, str] | None:
    """The paths of initdb and pg_ctl, or None: on the PATH, else Debian's newest version."""
    folders = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    newest_first = sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, newest_first)])
    initdb, pg_ctl = (shutil.which(name, path=path) for name in ("initdb", "pg_ctl"))
    return (initdb, pg_ctl) if initdb and pg_ctl else None


@dataclass(frozen=True)
class PostgresServer:
    """A server on 127.0.0.1 that anyone there may connect to without a password."""

    pg_ctl: str
    folder: Path
    port: int
    rights: dict[str, Any]

    @property
    def url(self) -> str:
        """The address of its database as SQLAlchemy takes it, by the driver psycopg."""
        return f"postgresql+psycopg://spectrum@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it answers; what it held before is there again."""
        settings = {**SETTINGS, "port": str(self.port)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        log = self.folder / "log"
        try:
            self._call("start", "--wait", "--log", str(log), "--options", options)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"PostgreSQL didn't start: {log.read_text()}") from error

    def stop(self) -> None:
        """Stop the server as a crash would: at once, every connection is cut."""
        self._call("stop", "--mode", "immediate")

    def _call(self, action: str, *arguments: str) -> None:
        command = [self.pg_ctl, action, "--pgdata", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60, **self.rights)


@contextmanager
def running_server(initdb: str, pg_ctl: str) -> Iterator[PostgresServer]:
    """A new server, stopped and deleted at the end, even of a process that is killed.

    Args:
        initdb: The path of the program that makes a server's folder.
        pg_ctl: The path of the program that starts and stops a server.

    Yields:
        The server, started.
    """
    root = os.geteuid() == 0
    # For root the server is another account's, to which pytest's own folders are closed.
    folder = Path(tempfile.mkdtemp(prefix="spectrum-postgres-", dir="/tmp" if root else None))
    rights: dict[str, Any] = {"cwd": folder}
    if root:  # PostgreSQL refuses to run as root
        account = _unprivileged()
        os.chown(folder, account.pw_uid, account.pw_gid)
        rights |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    keeper = subprocess.Popen(
        ["sh", "-c", KEEPER, "keeper", pg_ctl, str(folder)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # pg_ctl complains of a server that a test has stopped
        start_new_session=True,  # an interrupt from the keyboard is not for it
        **rights,
    )
    try:
        options = ["--username", "spectrum", "--auth", "trust", "--encoding", "UTF8", "--no-locale"]
        subprocess.run(
            [initdb, "--pgdata", str(folder / "data"), "--no-sync", *options],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
            **rights,
        )
        server = PostgresServer(pg_ctl, folder, _free_port(), rights)
        server.start()
        yield server
    finally:
        keeper.communicate(timeout=60)


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _free_port() -> int:
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
