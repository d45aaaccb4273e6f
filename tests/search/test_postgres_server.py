"""The server of the tests leaves nothing behind, even if the tests are killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.search.postgres import PostgresServer
from tests.search.processes import wait_for

# A process that has a server, says so, and is then as good as hung.
HOLDER = """
import time
from tests.search.postgres import find_programs, running_server
with running_server(*find_programs()) as server:
    print(server.folder, server.port, flush=True)
    time.sleep(600)
"""


def test_nothing_is_left_of_a_killed_process(postgres_server: PostgresServer) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=root, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        said = holder.stdout.readline().split()
        holder.send_signal(signal.SIGKILL)
    folder, port = Path(said[0]), int(said[1])
    wait_for(lambda: not folder.exists())
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
