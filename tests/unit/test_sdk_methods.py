"""No method of an SDK is overlooked: each is recorded, or named as spend that is not, or known to spend nothing."""

from __future__ import annotations

from typing import Any

import pytest

import sdk_methods

pytestmark = pytest.mark.filterwarnings("ignore:.*experimental")  # google-genai's own
SDKS = pytest.mark.parametrize("sdk", ["openai", "anthropic", "google-genai"])


@SDKS
def test_every_method_is_sorted(sdk: str) -> None:
    """A method that a new version brings is sorted before it is released with us; one that has gone is taken out."""
    lists = [sdk_methods.recorded(sdk), sdk_methods.unrecorded(sdk), sdk_methods.free(sdk)]
    known = set().union(*lists)
    assert sorted(sdk_methods.installed(sdk) - known) == [], "sort these into tests/sdk_methods.py"
    assert sorted(known - sdk_methods.installed(sdk)) == [], "the SDK does not have these"


@SDKS
def test_no_method_is_in_two_lists(sdk: str) -> None:
    """What is recorded is not named as unrecorded, and neither as free."""
    lists = [sdk_methods.recorded(sdk), sdk_methods.unrecorded(sdk), sdk_methods.free(sdk)]
    assert sum(map(len, lists)) == len(set().union(*lists))


class Resource:
    def create(self) -> None: ...


class Nested(Resource):
    @property
    def inner(self) -> Resource:
        return Resource()

    def _private(self) -> None: ...


class Client:
    @property
    def nested(self) -> Nested:
        return Nested()

    @property
    def base_url(self) -> str:
        return ""

    def close(self) -> None: ...


def test_methods_are_found_in_nested_resources() -> None:
    """The tree is walked down to its leaves; what is no resource's public method is not in it."""
    found: Any = sorted(sdk_methods._methods(Client(), Resource))
    assert found == ["nested.create", "nested.inner.create"]
