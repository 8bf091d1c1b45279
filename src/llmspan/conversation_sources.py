"""Where an answer says that its words come from: the citations of its texts. Pure."""

from __future__ import annotations

from .wire.reply import JsonObject, obj, objects, text

__all__ = ["cited_sources", "source_line"]

#: the keys under which a source has its name, its address and the words that are quoted
_TITLES = ("title", "document_title", "filename", "license")
_ADDRESSES = ("url", "uri", "source", "retrievedUrl", "file_id")
_QUOTES = ("cited_text", "quote")


def cited_sources(part: JsonObject) -> list[str]:
    """A line for each citation of a text, whichever API's; the same one once."""
    items = (*objects(part.get("annotations")), *objects(part.get("citations")))
    lines = (source_line(obj(item.get(str(item.get("type")))) or item) for item in items)
    return list(dict.fromkeys(filter(None, lines)))


def source_line(source: JsonObject) -> str:
    """Title, address and quoted words of one source, as far as it has them; empty if it has none."""
    title, address, quote = (_first(source, keys) for keys in (_TITLES, _ADDRESSES, _QUOTES))
    line = " ".join(filter(None, (title, address)))
    return f"{line}: {quote}" if quote and line else line or quote


def _first(source: JsonObject, keys: tuple[str, ...]) -> str:
    return next(filter(None, (text(source.get(key)) for key in keys)), "")
