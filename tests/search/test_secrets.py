"""Secrets of a storage's URL: nothing that a search prints or writes holds a piece of them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from spectrum import SearchConfig
from spectrum.errors import FieldError
from spectrum.search.__main__ import main
from spectrum.search.storage import StorageCaller, StorageLost
from spectrum.search.storage_url import StorageUrl, describe_error

PIECES = ("Zq7wKp", "Xv9mTr", "Jb4hLn")  # of which a secret is made; none may be found anywhere
MARKS = st.text(st.sampled_from("@:/?#&=%;,'\" \\{}[]()$`|<>!*~+-\n"), max_size=3)
SCHEMES = ("postgresql+psycopg", "postgresql", "postgres", "mysql", "no_such", "sqlite")
# Keywords of drivers, and any others. The harmless ones can hold something else by mistake.
KEYS = ("password", "passwd", "sslpassword", "sslkey", "passfile", "options", "token", "sslmode")

secrets = st.builds(
    lambda marks: f"{PIECES[0]}{marks[0]}{PIECES[1]}{marks[1]}{PIECES[2]}", st.tuples(MARKS, MARKS)
)


@st.composite
def urls(draw: st.DrawFn) -> str:
    """URLs with a secret, in forms that users write, right or wrong."""
    secret, key = (
        draw(secrets),
        draw(st.sampled_from(KEYS) | st.from_regex("[a-z]{3,9}", fullmatch=True)),
    )
    written = draw(st.sampled_from([str, quote, quote_plus]))(secret)
    scheme, host = draw(st.sampled_from(SCHEMES)), "127.0.0.1:1"
    if key == "sslmode":
        written += ";"
    forms = [
        f"{scheme}://me:{written}@{host}/db",
        f"{scheme}://:{written}@{host}/db",
        f"{scheme}://me:{written}@{host}/db?{key}={written}",
        f"{scheme}://{host}/db?{key}={written}",
        f"{scheme}://me:other@{host}/db?sslmode=require&{key}={written}",
        f"{scheme}://{host}/db?{written}",
        f"{scheme}://{host}/db;{key}={written}" if scheme != "sqlite" else written,
        f"{scheme}://me:{written}@[::1]:1/db",
        f"{scheme}:me:{written}@{host}/db",
        f"{scheme}//me:{written}@{host}/db",
        f"user=me {key}={written} host={host}",
        written,
    ]
    return draw(st.sampled_from(forms))


def check(text: str, url: str) -> None:
    assert [piece for piece in PIECES if piece in text] == [], (url, text)


def refusal(**fields: Any) -> str:
    """What a user of the package sees if a configuration is refused, and if not, its text."""
    texts = []
    for make in (SearchConfig, lambda **given: SearchConfig.checked(given)):
        try:
            config = make(**fields)
        except (ValidationError, FieldError) as error:
            texts.append(f"{error} {error!r}" if isinstance(error, FieldError) else str(error))
        else:
            texts += [repr(config), str(config), config._repr_html_(), str(config.shown())]
    return " ".join(texts)


@given(url=urls())
@example("postgresql://me:Zq7wKp@Xv9mTr?Jb4hLn@127.0.0.1:1/db")
@example("postgresql://me:Zq7wKp@Xv9mTr/Jb4hLn@127.0.0.1:1/db")
@example("postgresql://me:Zq7wKp#@Xv9mTr:12?Jb4hLn@127.0.0.1:1/db")
def test_a_configuration_tells_no_secret(url: str) -> None:
    check(repr(StorageUrl(url)), url)
    assert StorageUrl(url).is_told_by(f"search {shlex.quote(url)}")  # as a caller may show it
    wrong = [{"trials": 0}, {"segments": "4"}, {"colour": "red"}, {"minimize": "params"}]
    for others in ({}, *wrong):
        check(refusal(storage=url, **others), url)
    if "://" in url:
        check(refusal(strage=url), url)
    for given_wrongly in ([url], {"url": url}, url.encode(), Path(url.replace("\0", ""))):
        check(refusal(storage=given_wrongly), url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:a@host:5432/db", "'postgresql+psycopg://me:***@host:5432/db'"),
        ("mysql://me@[::1]/db?charset=utf8", "'mysql://me@[::1]/db?charset=utf8'"),
        ("postgresql:///db?host=/run/pg&x=a", "'postgresql:///db?host=%2Frun%2Fpg&***'"),
        ("postgresql://h/db?x=a&y=b", "'postgresql://h/db?***'"),
        ("sqlite:////data/my trials.db", "'sqlite:////data/my trials.db'"),
        ("postgresql://me:a@b@host/db", "not shown"),
        ("postgresql://me:a@host:x/db", "not shown"),
        ("nothing", "not shown"),
    ],
)
def test_what_is_harmless_is_shown(url: str, shown: str) -> None:
    assert repr(StorageUrl(url)) == shown


@pytest.mark.parametrize("cite", [str, repr, shlex.quote, quote, lambda text: f"near {text[20:]}"])
@given(url=urls())
def test_errors_of_drivers_tell_no_secret(cite: Callable[[str], str], url: str) -> None:
    for error in (ValueError(cite(url)), KeyError(cite(url)), OSError(5, cite(url))):
        check(describe_error(error, StorageUrl(url)), url)


def test_errors_of_drivers_are_told_where_they_are_harmless() -> None:
    error = ValueError("no connection\nto the server")
    for url in ("postgresql://me:a-b@host/db", "postgresql://host/db", "sqlite:///a.db"):
        assert describe_error(error, StorageUrl(url)) == "no connection"
    assert describe_error(error, None) == "no connection"
    assert describe_error(error, StorageUrl("postgresql://h/db?x=a")) == "ValueError"


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    """Call the command of a small search; what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spectrum.search.storage.time.sleep", lambda _: None)
    (tmp_path / "f.toml").write_text(
        'segments = "1,C"\nmatch = "none"\ntrials = 3\nepochs = 1\nseeds = 1\nfinalists = 1\n'
        'workers = 1\ndevice = "cpu"\nnetwork = {name = "tiny", width = 0.2}\n'
        "recipe = {batch_size = 256}\n"
    )

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["spectrum.search", "f.toml", *arguments])
        status = main()
        printed = capsys.readouterr()
        return f"{status} {printed.out} {printed.err}"

    return call


@given(url=urls())
def test_a_command_that_is_refused_tells_no_secret(command: Callable[..., str], url: str) -> None:
    for arguments in (("--storage", url), (f"--storage={url}", "--name=x")):
        said = command(*arguments)
        assert said.startswith("2 ")
        assert said.count("\n") == 1
        check(said, url)


HOSTILE = "Zq7wKp'\"Xv9mTr $(Jb4hLn)"


def test_a_search_tells_and_writes_no_secret(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Its trials are in a file, whatever the URL says.
    file = URL.create("sqlite", database=str(tmp_path / "away.db"))
    monkeypatch.setattr("spectrum.search.storage.storage_url", lambda _: file)
    monkeypatch.setattr("spectrum.search.outputs._draw", lambda *_: {})
    password = (
        f"postgresql+psycopg://me:{quote(HOSTILE)}@127.0.0.1:1/db?sslpassword={quote(HOSTILE)}"
    )
    said = command("--storage", password, "--name", "found")
    assert said.startswith("0 "), said
    check(said, password)
    shown = "postgresql+psycopg://me:***@127.0.0.1:1/db?***"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in files:
        check(path.read_bytes().decode("latin-1"), path.name)
    folder = tmp_path / "outputs" / "found"
    assert f'"storage": "{shown}"' in (folder / "search.json").read_text()
    page = (folder / "report.html").read_text()
    assert f"spectrum.search f.toml --name found --storage &#39;{shown}&#39;" in page


def test_a_lost_storage_tells_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spectrum.search.storage._RETRY_PAUSE", 0.0)
    url = f"postgresql+psycopg://me:{quote(HOSTILE)}@127.0.0.1:1/db"
    lost = OperationalError("SELECT", {}, ValueError(f"no connection to {url} of {HOSTILE}"))
    said: list[str] = []
    call = StorageCaller(SearchConfig(storage=url), said.append, lambda: True)
    with pytest.raises(StorageLost) as raised:
        call(Mock(side_effect=lost))
    assert raised.value.__suppress_context__
    check(f"{said} {raised.value!r}", url)
