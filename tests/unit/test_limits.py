"""What is remembered of an id: short, and different for different ids."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.limits import id_key
from llmspan.trace import new_id
from records import patient


@pytest.mark.parametrize(
    "value", [new_id(), "", "x" * 64, "provider_trace-" + new_id()], ids=["fresh", "empty", "64 characters", "prefixed"]
)
def test_the_key_of_a_short_id_is_the_id(value: str) -> None:
    """The ids that llmspan makes, and those of older stores, cost no hash."""
    assert id_key(value) is value


@pytest.mark.parametrize("value", ["x" * 65, "ü" * 10_000_000, "\ud800" * 1000, "\x00" * 100])
def test_the_key_of_a_long_id_is_short(value: str) -> None:
    """However long an id is, and whatever is in it, little is remembered of it."""
    assert sys.getsizeof(id_key(value)) < 200
    assert id_key(value) == id_key(value[:1] + value[1:])
    assert id_key(value) != id_key(value + "x")


@patient
@given(one=st.text(max_size=200), other=st.text(max_size=200))
def test_different_ids_have_different_keys(one: str, other: str) -> None:
    """Also where one is the key of the other."""
    assert (id_key(one) == id_key(other)) == (one == other)
    assert id_key(one * 20) == one * 20 or id_key(id_key(one * 20)) != id_key(one * 20)
