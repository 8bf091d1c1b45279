"""Which rows of a test the other versions of Python run."""

from __future__ import annotations

import random
from typing import Any

import row_sample


class Row:
    """What is asked of a test."""

    def __init__(self, name: str, mark: str | None = None) -> None:
        self.nodeid, self._mark = f"tests/test_a.py::{name}", mark
        if "[" in name:
            self.callspec = object()

    def get_closest_marker(self, name: str) -> str | None:
        return self._mark if self._mark == name else None


def rows(name: str, number: int, mark: str | None = None) -> list[Any]:
    return [Row(f"{name}[{store}-{row:03}]", mark) for store in "abc" for row in range(number)]


def test_one_of_five() -> None:
    """Of many rows one of five, of each store; the same in any order."""
    many = rows("test_many", 20)
    chosen, left_out = row_sample.sample(many, 5)
    assert (len(chosen), len(left_out)) == (12, 48)
    assert [sum(f"[{store}-" in row.nodeid for row in chosen) for store in "abc"] == [4, 4, 4]
    shuffled = random.Random(1).sample(many, len(many))
    assert set(row_sample.sample(shuffled, 5)[0]) == set(chosen)


def test_what_is_run_whole() -> None:
    """Few rows, rows that differ in what a version of Python does, and tests without rows; all of a whole run."""
    whole = [*rows("test_few", 9), *rows("test_each_differs", 40, "every_row"), *(Row("test_alone") for _ in range(40))]
    assert row_sample.sample(whole, 5) == (whole, [])
    many = rows("test_many", 20)
    assert row_sample.sample(many, 1) == (many, [])
