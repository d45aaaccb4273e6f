from collections.abc import Iterator

import pytest

from tests.search.postgres import PostgresServer, find_programs, running_server


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the module's own; leave it running after a test."""
    pytest.importorskip(
        "psycopg", reason="there is no psycopg to reach PostgreSQL with", exc_type=ImportError
    )
    programs = find_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL (initdb and pg_ctl) to start")
    with running_server(*programs) as server:
        yield server
