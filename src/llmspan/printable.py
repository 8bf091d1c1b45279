"""Makes text of unknown origin safe to print: what a terminal or a log would obey becomes a visible escape.

Models, providers, servers and other programs write these texts. An escape sequence could move the cursor or set the
window's title, a line break could forge a line of a log, and a bidirectional control could show text in another order
than it is stored. Every text that we print or log and did not write ourselves passes through :func:`printable`.
"""

from __future__ import annotations

import re
import traceback
from typing import Final

__all__ = ["json_printable", "printable", "printable_lines", "printable_traceback"]

#: C0, DEL and C1 controls; line separators; controls of text direction; surrogates; characters that cannot be seen
_UNSAFE_RANGES: Final = (
    (0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x61C, 0x61C), (0x180E, 0x180E), (0x200B, 0x200B), (0x200E, 0x200F),
    (0x2028, 0x202E), (0x2060, 0x206F), (0xD800, 0xDFFF), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB), (0xE0000, 0xE007F),
)  # fmt: skip
_UNSAFE: Final = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSAFE_RANGES) + "]")
#: the unsafe ones of ASCII text, as bytes
_UNSAFE_ASCII: Final = bytes(code for code in range(128) if _UNSAFE.match(chr(code)))
_LINE_BREAKS: Final = re.compile(r"\r\n|\n")
_NAMED: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def printable(text: object) -> str:
    r"""``text`` on one line, its control characters and line breaks as escapes such as ``\x1b`` and ``\n``."""
    return _UNSAFE.sub(_escaped, str(text))


def printable_lines(text: object) -> str:
    """As :func:`printable`, but line breaks and tabs stay: for text that has a place of its own, such as a message."""
    lines = _LINE_BREAKS.split(str(text))
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in lines)


def printable_traceback(error: BaseException) -> str:
    """The traceback of ``error``; what the exceptions in it say stays on their lines."""
    pieces = "".join(
        # A frame or a heading has line breaks of its own and begins with a blank, an exception begins with its type.
        printable_lines(piece) if piece[:1].isspace() else f"{printable(piece.removesuffix(chr(10)))}\n"
        for piece in traceback.TracebackException.from_exception(error).format()
    )
    return pieces.removesuffix("\n")


def json_printable(text: str) -> str:
    """JSON ``text`` on one line: white space between tokens becomes spaces, other characters the escapes of JSON."""
    # Exports pass whole payloads through here. Each step is one pass in C; only text that needs it goes on to the next.
    line = text.replace("\n", " ").replace("\r", " ").replace("\t", " ")  # in a string, they would not be JSON
    if line.isascii():
        encoded = line.encode()
        is_safe = len(encoded.translate(None, _UNSAFE_ASCII)) == len(encoded)
    else:
        is_safe = line.isprintable()  # false for all that is unsafe, and for some that is not
    return line if is_safe else _UNSAFE.sub(_escaped_in_json, line)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_in_json(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
