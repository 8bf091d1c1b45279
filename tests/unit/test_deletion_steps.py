"""The steps of a deletion: when they end, how they go on, and what is counted."""

from __future__ import annotations

from llmspan.backends.base import Filters
from llmspan.backends.clickhouse.deletion import _chunks
from llmspan.backends.deletion import Step, delete_in_steps


def test_until_none_is_chosen():
    """A step that deleted nothing, because somebody else did, is not the last; one that found nothing is."""
    steps = iter([Step(5, 5, 10), Step(5, 0, 20), Step(5, 3, 20), Step(0, 0, 0)])
    asked: list[Filters] = []
    progress: list[int] = []

    def step(filters: Filters) -> Step:
        asked.append(filters)
        return next(steps)

    assert delete_in_steps(Filters(user_id="ann", until=99), step, progress.append) == 8
    assert progress == [5, 0, 3]
    assert asked == [Filters(user_id="ann", since=since, until=99) for since in (None, 10, 20, 20)]


def test_ids_in_statements_of_bounded_length(monkeypatch):
    """Ids are put together up to a number of bytes; each is in one list, a long one in a list of its own."""
    monkeypatch.setattr("llmspan.backends.clickhouse.deletion._IDS_BYTES", 12)
    assert list(_chunks(["a", "b", "üü", "x" * 50, "c"])) == ["'a', 'b', 'üü'", f"'{'x' * 50}'", "'c'"]
    assert list(_chunks([])) == []
    assert list(_chunks(["it's", "a\\"])) == ["'it\\'s', 'a\\\\'"]
