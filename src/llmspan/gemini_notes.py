"""What a response of Google's APIs says beside its answer: why there is none, what was searched for, the sources. Pure.

Each note is a label and a text; a note that the response does not have is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from .conversation_sources import cited_sources, source_line
from .wire.reply import JsonObject, obj, objects

__all__ = ["notes"]


def notes(response: JsonObject) -> Iterator[tuple[str, str]]:
    """Label and text of each note, blocks first; none if the response is in none of the shapes of these APIs."""
    yield from _blocks(response)
    for label, lines in (("searches", _searches(response)), ("sources", dict.fromkeys(_sources(response)))):
        text = "\n".join(filter(None, lines))
        if text:
            yield label, text


def _blocks(response: JsonObject) -> Iterator[tuple[str, str]]:
    """Why the prompt was not answered, or an answer stopped, where the provider says so in words."""
    feedback = obj(response.get("promptFeedback"))
    if feedback.get("blockReason"):
        reasons = (str(feedback[key]) for key in ("blockReason", "blockReasonMessage") if feedback.get(key))
        yield "blocked", ": ".join(reasons)
    for candidate in objects(response.get("candidates")):
        if candidate.get("finishMessage"):
            yield str(candidate.get("finishReason") or ""), str(candidate["finishMessage"])


def _searches(response: JsonObject) -> list[str]:
    grounding = (obj(candidate.get("groundingMetadata")) for candidate in objects(response.get("candidates")))
    lists = (metadata.get("webSearchQueries") for metadata in grounding)
    return [query for queries in lists if isinstance(queries, list) for query in queries if isinstance(query, str)]


def _sources(response: JsonObject) -> Iterator[str]:
    """A line for each source of the answer: pages, documents, places."""
    for candidate in objects(response.get("candidates")):
        for chunk in objects(obj(candidate.get("groundingMetadata")).get("groundingChunks")):
            # web, retrievedContext, maps: the one member says what it is
            yield from (source_line(obj(value)) for value in chunk.values())
        citations = obj(candidate.get("citationMetadata"))
        for key in ("citations", "citationSources"):
            yield from map(source_line, objects(citations.get(key)))
        yield from map(source_line, objects(obj(candidate.get("urlContextMetadata")).get("urlMetadata")))
    for step in objects(response.get("steps")):
        for content in objects(step.get("content")):
            yield from cited_sources(content)
