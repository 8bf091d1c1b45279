"""Standard output that never fails for its encoding: what it cannot encode is written as an escape, as JSON has them.

Records hold other people's text, and a terminal may be latin-1 or ASCII. An escape keeps JSON output valid and exact.
"""

from __future__ import annotations

import codecs
import io
import sys
from typing import Final

import click

__all__ = ["echo", "escape_unencodable", "symbol"]

_HANDLER: Final = "llmspan-json-escape"


def escape_unencodable() -> None:
    """Have standard output escape what it cannot encode, from now on."""
    codecs.register_error(_HANDLER, _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_HANDLER)


def echo(text: str) -> None:
    """Print a line in the encoding of standard output; without the file, click writes UTF-8 where that is ASCII."""
    click.echo(text, file=sys.stdout)


def symbol(character: str, ascii_character: str) -> str:
    """``character`` if standard output can encode it."""
    try:
        character.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return ascii_character
    return character


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    escapes = (f"\\u{int.from_bytes(units[at : at + 2], 'big'):04x}" for at in range(0, len(units), 2))
    return "".join(escapes), error.end
