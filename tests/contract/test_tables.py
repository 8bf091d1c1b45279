"""Tables of every store: the same rows, whatever the store."""

from __future__ import annotations

import pytest

from llmspan.backends.base import Filters
from llmspan.backends.memory import MemoryBackend
from llmspan.reader import Reader
from records import NOON, full_trace, make_trace

pytest.importorskip("pyarrow")


def test_a_table_is_the_same_from_every_store(backend):
    """Types and values of all columns, payloads among them, are those that memory gives."""
    records = [full_trace(started_at=NOON + 1), make_trace(attributes={"a": 1}), make_trace(user_id="no")]
    memory = MemoryBackend()
    for store in (memory, backend):
        store.write(records)
    filters = Filters(provider="openai")
    assert (
        Reader(backend)
        .to_arrow(filters, payload=True)
        .read_all()
        .equals(Reader(memory).to_arrow(filters, payload=True).read_all())
    )
    assert Reader(backend).to_pandas(Filters(user_id="no"), columns=["id"])["id"].tolist() == [records[2].id]
