"""Of a test with many rows one of a few, where ``LLMSPAN_TEST_ROWS_EVERY`` says so: on the other versions of Python.

Rows give the same lines other data, which no version reads otherwise. The mark ``every_row`` is for tests whose rows
differ in what a version may do otherwise: generators, tasks, collections.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Final

import pytest

#: of how many rows one is run
EVERY: Final = int(os.environ.get("LLMSPAN_TEST_ROWS_EVERY", "1"))
#: tests with fewer rows have them all; five for each of six stores, so that none is left out
MANY: Final = 30


def sample(items: list[pytest.Item], every: int = EVERY) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """What is run, in its order, and what is not; the same rows, however the items are shuffled."""
    rows: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if hasattr(item, "callspec") and item.get_closest_marker("every_row") is None:
            rows[item.nodeid.partition("[")[0]].append(item)
    left_out = {
        item
        for found in rows.values()
        if len(found) >= MANY
        for place, item in enumerate(sorted(found, key=lambda item: item.nodeid))
        if place % every
    }
    return [item for item in items if item not in left_out], [item for item in items if item in left_out]
