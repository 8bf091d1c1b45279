"""``llmspan migrate``: bring the tables of every backend up to date, and say what was done."""

from __future__ import annotations

import json

import click

from ..errors import LlmspanError
from . import options
from .output import echo

__all__ = ["migrate"]


@click.command()
@options.chosen_backends
@options.as_json
def migrate(*, backend: str | None, db: str | None, as_json: bool) -> None:
    """Make or update the tables of the backends.

    If one fails, the others are still updated.
    """
    _, backends = options.load(backend, db)
    failures: list[LlmspanError] = []
    for target in backends:
        try:
            applied = list(target.migrate())
        except LlmspanError as error:
            failures.append(error)
            continue
        finally:
            target.shutdown()
        if as_json:
            echo(json.dumps({"backend": target.name, "location": target.location, "applied": applied}))
        else:
            echo(f"{target.name} ({target.location}): {', '.join(applied) or 'up to date'}")
    for error in failures[1:]:
        echo(f"Error: {error}", err=True)
    if failures:
        raise failures[0]
