"""The table of other instrumentations' faults and the tests that take them up belong together."""

from __future__ import annotations

from pathlib import Path

from peer_faults import FAULTS, claims


def test_every_fault_has_a_test() -> None:
    """No fault of the table is without a test that names it, and no test names one that is not there."""
    found = claims(Path(__file__).parents[1])
    assert found.keys() == FAULTS.keys()
