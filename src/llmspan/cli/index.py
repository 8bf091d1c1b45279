"""``llmspan index``: make, update or drop the index by which free text is found without reading all payloads."""

from __future__ import annotations

import json

import click

from ..errors import SettingsError
from . import options
from .output import echo
from .progress import progress_bar

__all__ = ["index"]


@click.command()
@click.option("--text", is_flag=True, required=True, help="The index for free text in requests and responses.")
@click.option("--drop", is_flag=True, help="Remove the index.")
@options.as_json
@options.store
def index(*, text: bool, drop: bool, as_json: bool, backend: str | None, db: str | None) -> None:
    """Make the index for free text.

    One that is there is brought up to date; others may write meanwhile. Searches find the same with and without it.
    """
    from ..backends.base import SupportsCount, SupportsTextIndex

    del text
    with options.open_reader(backend, db) as reader:
        store = reader.backend
        if not isinstance(store, SupportsTextIndex):
            raise SettingsError(f"the backend {store.name!r} has no text index; text is searched without one there")
        if drop:
            store.drop_text_index()
        else:
            total = store.count if isinstance(store, SupportsCount) else lambda: 0
            with progress_bar(total, to_stdout=False) as progress:
                store.index_text(progress)
        has_index = store.has_text_index()
    if as_json:
        echo(json.dumps({"backend": store.name, "location": store.location, "text_index": has_index}))
    else:
        echo(f"{store.name} ({store.location}): {'has' if has_index else 'has no'} text index")
