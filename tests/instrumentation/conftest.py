"""Streams of our own making, one per API, and a watch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from watching import Watch, watching


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Both SDKs instrumented for one test."""
    with watching() as seen:
        yield seen
