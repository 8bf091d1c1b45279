"""The ``options`` of a DSN are read as the server reads them, and poolers are understood that refuse them."""

from __future__ import annotations

import psycopg
import pytest

from llmspan.backends.postgres.errors import from_connect, from_statement, takes_no_options
from llmspan.backends.postgres.options import UnreadableOptionError, parse_options
from llmspan.errors import RefusedError, RetryableError

FAILED = 'connection failed: connection to server at "10.0.0.1", port 6432 failed: '


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", {}),
        ("  ", {}),
        ("-csearch_path=traces", {"search_path": "traces"}),
        ("-c search_path=a,b  -c\twork_mem=5MB", {"search_path": "a,b", "work_mem": "5MB"}),
        ("--search-path=traces", {"search_path": "traces"}),
        ("-c Search_Path=traces", {"search_path": "traces"}),
        ("-csearch_path=a -csearch_path=b", {"search_path": "b"}),
        (r'-csearch_path="Odd,\ name"', {"search_path": '"Odd, name"'}),
        (r"-capp.path=C:\\x\ y", {"app.path": r"C:\x y"}),
        ("-capp.empty=", {"app.empty": ""}),
        ("-capp.sum=1+1=2", {"app.sum": "1+1=2"}),
    ],
)
def test_settings(options: str, settings: dict[str, str]) -> None:
    """Each setting by its name, the last one wins, and a backslash takes the next character as it is."""
    assert parse_options(options) == settings


@pytest.mark.parametrize("options", ["-d5", "-fs", "-c", "-c name", "name=value", "-csearch_path=a -e", "--", "-c=1"])
def test_other_words(options: str) -> None:
    """What is no setting is an error that says which word."""
    with pytest.raises(UnreadableOptionError) as caught:
        parse_options(options)
    assert str(caught.value) in options


@pytest.mark.parametrize(
    "said",
    [
        "ERROR:  Unsupported startup parameter: options",
        "FATAL: unsupported startup parameter: options",
        "FATAL:  unsupported startup parameter in options: search_path",
        "FATAL:  unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
        "ERROR: unsupported startup parameter in options: search_path. Please use unpooled connection or remove this.",
    ],
)
def test_poolers_that_refuse_options(said: str) -> None:
    """PgBouncer of any version, and hosted poolers, are understood."""
    assert takes_no_options(psycopg.OperationalError(FAILED + said))


@pytest.mark.parametrize(
    "said", ["FATAL: unsupported startup parameter: geqo", 'FATAL: role "options" does not exist', "timeout expired"]
)
def test_other_refusals(said: str) -> None:
    """A refusal of something else is not taken for one of the options."""
    assert not takes_no_options(psycopg.OperationalError(FAILED + said))


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("FATAL: SASL authentication failed", "give the right user and password"),
        ("ERROR:  Auth failed", "give the right user and password"),
        ("ERROR:  No such database: traces", "make the database, or name another"),
        ("FATAL: no such database: traces", "make the database, or name another"),
        ("FATAL: no such user: me", "make the role, or name another"),
        ("FATAL: SSL required", "see sslmode and its certificates"),
        ("FATAL: server login has been failing, cached error: password authentication failed (server_login_retry)",
         "give the right user and password"),
    ],
)  # fmt: skip
def test_what_poolers_refuse(said: str, remedy: str) -> None:
    """What somebody has to put right is a refusal with a remedy, in the pooler's words too."""
    error = from_connect(psycopg.OperationalError(FAILED + said), "postgresql://me@10.0.0.1:6432/traces")
    assert isinstance(error, RefusedError)
    assert str(error).endswith(f"; {remedy}")


@pytest.mark.parametrize(
    "said",
    [
        "FATAL: no more connections allowed (max_client_conn)",
        "FATAL: server login has been failing, try again later (server_login_retry)",
        "FATAL: the database system is shutting down",
        "FATAL: pgbouncer cannot connect to server",
        "FATAL: query_wait_timeout",
    ],
)
def test_what_passes_by_itself(said: str) -> None:
    """A pooler that is full, or whose server is away, is waited for."""
    for translate in (from_connect, from_statement):
        error = translate(psycopg.OperationalError(FAILED + said), "postgresql://me@10.0.0.1:6432/traces")
        assert isinstance(error, RetryableError)


def test_statement_mode() -> None:
    """A pooler in statement mode is a refusal that names the mode and what to set."""
    said = psycopg.errors.ProtocolViolation("transaction blocks not allowed in statement pooling mode")
    error = from_statement(said, "postgresql://me@10.0.0.1:6432/traces")
    assert isinstance(error, RefusedError)
    assert "statement pooling mode" in str(error)
    assert "set pool_mode to transaction or session" in str(error)
