"""Streams of our own making, one per API, and a watch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from signals import Logs, Meters
from watching import Watch, watching


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Both SDKs instrumented for one test."""
    with watching() as seen:
        yield seen


@pytest.fixture
def meters() -> Iterator[Meters]:
    """A meter provider for one test."""
    found = Meters()
    yield found
    found.provider.shutdown()


@pytest.fixture
def logs() -> Iterator[Logs]:
    """A logger provider for one test."""
    found = Logs()
    yield found
    found.provider.shutdown()
