"""``llmspan mcp``: the recorded calls as tools for agents, over standard input and output."""

from __future__ import annotations

import click

from . import options

__all__ = ["mcp"]


@click.command()
@options.store
def mcp(*, backend: str | None, db: str | None) -> None:
    """Serve recorded calls to agents, read-only (MCP, stdio)."""
    from ..mcp_server import make_server

    with options.open_reader(backend, db) as reader:
        make_server(reader).run()
