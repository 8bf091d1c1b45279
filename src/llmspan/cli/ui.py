"""``llmspan ui``: the viewer in a browser, on the store that is there."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import SettingsError
from . import options
from .output import echo

if TYPE_CHECKING:
    from ..reader import Reader
    from ..ui.access import Access
    from .doctor_checks import Finding

__all__ = ["open_viewer", "require_extra", "ui"]

PORT: Final = 7077
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--name", "names", multiple=True, metavar="NAME", help="A host name that the viewer is reached as.")
@click.option("--auth-header", metavar="HEADER", help="Trust the proxy in front to set this header to the user.")
@click.option("--open/--no-open", "opens", default=None, help="Open a browser; the default is to, on a terminal.")
@click.option("--queries", type=click.IntRange(1, 64), default=4, show_default=True, help="That run at a time.")
@click.option(
    "--query-timeout", type=click.FloatRange(0.1, 3600), default=30, show_default=True, help="Seconds of a query."
)
@options.store
def ui(
    *,
    port: int,
    host: str,
    names: tuple[str, ...],
    auth_header: str | None,
    opens: bool | None,
    queries: int,
    query_timeout: float,
    backend: str | None,
    db: str | None,
) -> None:
    """Look at calls in a browser. Ctrl-C ends it.

    Only this machine can reach it, with the token in the address that it prints. For another address, give --host, and
    either LLMSPAN_UI_PASSWORD or --auth-header.
    """
    require_extra()
    with closing(_bind(host, port)) as listener:
        access = _access(host, listener.getsockname()[1], names, auth_header)
        limits = {"queries": queries, "query_timeout": query_timeout}
        _open(listener, access, host, (backend, db), opens=opens, limits=limits)


def open_viewer(db: str) -> None:
    """Show a SQLite file to this machine, at a free port, until Ctrl-C."""
    with closing(_bind("127.0.0.1", 0)) as listener:
        access = _access("127.0.0.1", listener.getsockname()[1], (), None)
        _open(listener, access, "127.0.0.1", (None, db), opens=None, limits={})


def _open(
    listener: socket.socket,
    access: Access,
    host: str,
    chosen: tuple[str | None, str | None],
    *,
    opens: bool | None,
    limits: Mapping[str, Any],
) -> None:
    """Serve the chosen backend or file until Ctrl-C."""
    make_reader, location = _store(*chosen)
    address = _address(host, access)
    echo(f"llmspan ui: {location}")
    echo(f"open {address}  (Ctrl-C ends it)")
    if sys.stdout.isatty() if opens is None else opens:
        click.launch(address)
    _serve(_app(make_reader, access, location, lambda: _findings(*chosen), limits), listener)


def require_extra() -> None:
    """Raise unless what the viewer needs is installed.

    Raises:
        ClickException: it is not; the message says how to install it.
    """
    from importlib.util import find_spec

    missing = [name for name in ("jinja2", "starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise click.ClickException(f'{", ".join(missing)} not installed; run: pip install "llmspan[ui]"')


def _store(backend: str | None, db: str | None) -> tuple[Callable[[], Reader], str]:
    """What opens a reader of the store, and where that store is."""
    from ..backends import primary_backend
    from ..settings import Settings

    backends = backend or ("sqlite" if db else None)
    settings = Settings.from_env(backends=backends, sqlite_path=db, auto_migrate=False)
    chosen = primary_backend(settings)
    return lambda: options.open_reader(backend, db), f"{chosen.name} {chosen.location}"


def _bind(host: str, port: int) -> socket.socket:
    """The socket that the viewer listens on; bound here, so that a port that is taken is one line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = "; --port 0 takes a free one" if port else ""
        raise click.ClickException(f"cannot listen on {host} port {port}: {error.strerror}{remedy}") from None


def _access(host: str, port: int, names: tuple[str, ...], auth_header: str | None) -> Access:
    from ..settings import Settings
    from ..ui.access import LOOPBACK_NAMES, Access

    password = Settings.from_env().ui_password
    own = f"[{host}]" if ":" in host else host
    hosts = frozenset({*LOOPBACK_NAMES, own.lower(), *(name.lower() for name in names)})
    if auth_header is not None and password is not None:
        raise SettingsError("--auth-header and LLMSPAN_UI_PASSWORD exclude each other; give one of them")
    if host not in _LOOPBACK and auth_header is None and password is None:
        raise SettingsError(f"--host {host}: others can reach that; set LLMSPAN_UI_PASSWORD, or give --auth-header")
    if auth_header is not None or password is not None:
        return Access(hosts=hosts, port=port, password=password, proxy_header=auth_header)
    return Access(hosts=hosts, port=port, token=secrets.token_urlsafe(24))


def _address(host: str, access: Access) -> str:
    name = f"[{host}]" if ":" in host else host
    token = f"?token={access.token}" if access.token else ""
    return f"http://{name}:{access.port}/{token}"


def _findings(backend: str | None, db: str | None) -> list[Finding]:
    """What ``llmspan doctor`` finds without writing; its environment is that of the viewer."""
    from .doctor_checks import run_checks

    settings, backends = options.load(backend, db)
    return list(run_checks(settings, backends, os.environ, writes=False))


def _app(
    make_reader: Callable[[], Reader],
    access: Access,
    location: str,
    findings: Callable[[], list[Finding]],
    limits: Mapping[str, Any],
) -> Any:
    from ..ui.app import build_app

    return build_app(make_reader, access, location=location, findings=findings, **limits)


def _serve(app: Any, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="none", timeout_graceful_shutdown=1
    )
    with suppress(KeyboardInterrupt):  # uvicorn stops in order, and then sends the signal to itself once more
        uvicorn.Server(config).run(sockets=[listener])
