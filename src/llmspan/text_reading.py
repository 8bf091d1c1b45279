"""Text search: what :class:`llmspan.Reader` and its asynchronous twin add for people who look for words.

Listings have no payloads; the snippets of a page's records are read apart, one page at a time and within the limit that
pages with payloads have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .backends.base import Backend, Filters, OneOf, SupportsTextIndex
from .errors import NoTablesError
from .query.snippets import Snippet, searched_texts, snippets_by_id
from .trace import ProviderTrace

__all__ = ["AsyncTextReading", "TextReading"]

#: records whose payloads are asked for together
_AT_ONCE: Final = 200


class TextReading:
    """The methods of :class:`llmspan.Reader` that are about free text."""

    backend: Backend

    def has_text_index(self) -> bool:
        """Whether the store has an index for free text (``llmspan index --text``), which changes no result."""
        backend = self.backend
        try:
            return isinstance(backend, SupportsTextIndex) and backend.has_text_index()
        except NoTablesError:
            return False

    def snippets(self, records: Iterable[ProviderTrace], filters: Filters) -> Mapping[str, Snippet]:
        """The words around the text that ``filters`` search for, by the ids of those ``records`` that contain it.

        Empty, and nothing is read, if the filters search for no text.

        Args:
            records: of :meth:`llmspan.Reader.list`, with or without their payloads.
            filters: with which they were listed.
        """
        texts = searched_texts(filters)
        if not texts:
            return {}
        listed = list(records)
        has_payload = [record for record in listed if record.request_json or record.response_json]
        snippets = dict(snippets_by_id(has_payload, texts))
        ids = [record.id for record in listed if not (record.request_json or record.response_json)]
        reader: Any = self  # it has the methods of a reader
        for at in range(0, len(ids), _AT_ONCE):
            page_filters = Filters(id=OneOf(tuple(ids[at : at + _AT_ONCE])))
            snippets |= snippets_by_id(reader.iterate(page_filters, page_size=_AT_ONCE, payload=True), texts)
        return snippets


class AsyncTextReading:
    """The methods of :class:`llmspan.AsyncReader` that are about free text; all work is done in threads."""

    _reader: Any

    async def has_text_index(self) -> bool:
        """See :meth:`TextReading.has_text_index`."""
        return await asyncio.to_thread(self._reader.has_text_index)

    async def snippets(self, records: Iterable[ProviderTrace], filters: Filters) -> Mapping[str, Snippet]:
        """See :meth:`TextReading.snippets`."""
        return await asyncio.to_thread(self._reader.snippets, records, filters)
