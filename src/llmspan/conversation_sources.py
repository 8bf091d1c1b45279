"""Where an answer says that its words come from: citations of texts, and the grounding of Google's answers. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .wire.reply import JsonObject, obj, objects, text

__all__ = ["cited_sources", "grounding_sources", "searches"]

#: the keys under which a source has its name, its address and the words that are quoted
_TITLES = ("title", "document_title", "filename", "license")
_ADDRESSES = ("url", "uri", "source", "retrievedUrl", "file_id")
_QUOTES = ("cited_text", "quote")


def cited_sources(part: JsonObject) -> list[str]:
    """A line for each citation of a text, whichever API's; the same one once."""
    items = (*objects(part.get("annotations")), *objects(part.get("citations")))
    lines = (_line(obj(item.get(str(item.get("type")))) or item) for item in items)
    return list(dict.fromkeys(filter(None, lines)))


def grounding_sources(response: JsonObject) -> list[str]:
    """A line for each source of an answer of Google's APIs: pages, documents, places; the same one once."""
    return list(dict.fromkeys(filter(None, _grounding(response))))


def searches(response: JsonObject) -> list[str]:
    """What was searched for to ground an answer of Google's APIs."""
    grounding = (obj(candidate.get("groundingMetadata")) for candidate in objects(response.get("candidates")))
    lists = (metadata.get("webSearchQueries") for metadata in grounding)
    return [query for queries in lists if isinstance(queries, list) for query in queries if isinstance(query, str)]


def _grounding(response: JsonObject) -> Iterator[str]:
    for candidate in objects(response.get("candidates")):
        for chunk in objects(obj(candidate.get("groundingMetadata")).get("groundingChunks")):
            # web, retrievedContext, maps: the one member says what it is
            yield from (_line(obj(value)) for value in chunk.values())
        citations = obj(candidate.get("citationMetadata"))
        for key in ("citations", "citationSources"):
            yield from map(_line, objects(citations.get(key)))
        yield from map(_line, objects(obj(candidate.get("urlContextMetadata")).get("urlMetadata")))
    for step in objects(response.get("steps")):
        for content in objects(step.get("content")):
            yield from cited_sources(content)


def _line(source: JsonObject) -> str:
    title, address, quote = (_first(source, keys) for keys in (_TITLES, _ADDRESSES, _QUOTES))
    line = " ".join(filter(None, (title, address)))
    return f"{line}: {quote}" if quote and line else line or quote


def _first(source: JsonObject, keys: tuple[str, ...]) -> str:
    return next(filter(None, (text(source.get(key)) for key in keys)), "")
