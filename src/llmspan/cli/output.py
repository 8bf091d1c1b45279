"""How commands print a line: what a terminal would obey, and what its encoding does not have, become escapes.

Records hold other people's text, and a terminal may be latin-1 or ASCII. JSON output stays valid and exact. Every
command prints here, or by ``render.clean``.
"""

from __future__ import annotations

import codecs
import io
import sys
from typing import Final

import click

from ..printable import printable

__all__ = ["echo", "escape_unencodable", "symbol"]

_HANDLER: Final = "llmspan-json-escape"


def escape_unencodable() -> None:
    """Have standard output escape what it cannot encode, from now on."""
    codecs.register_error(_HANDLER, _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_HANDLER)


def echo(text: object = "", *, mark: str = "", err: bool = False) -> None:
    """Print ``text`` as one line, to standard error if ``err``; ``mark`` goes before it as it is, colours included."""
    # without the file, click writes UTF-8 where the encoding of standard output is ASCII
    click.echo(f"{mark}{printable(text)}", file=None if err else sys.stdout, err=err)


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
