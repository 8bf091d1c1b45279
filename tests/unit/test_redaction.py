"""Masks and the program's own redaction: what they find, what they leave, what happens when they fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.errors import SettingsError
from llmspan.redaction import MASK, PATTERNS, RedactionError, Redactor, mask_credential_members, mask_keys, mask_strings
from llmspan.settings import REDACTIONS
from records import patient

# put together here, so that no scanner of repositories takes them for leaked ones
KEYS = [
    "sk-" + "proj-Ab3dEf6hIj9kLm2nOp5q",
    "sk-" + "ant-api03-Ab3dEf6hIj9kLm2nOp5q_Rs-t",
    "sk-" + "plant*****cret",
    "sk-" + "abcd...wxyz",
    "gsk_" + "Ab3dEf6hIj9kLm2nOp5q",
    "xai-" + "Ab3dEf6hIj9kLm2nOp5q",
    "hf_" + "Ab3dEf6hIj9kLm2nOp5q",
    "ghp_" + "Ab3dEf6hIj9kLm2nOp5q",
    "AIza" + "SyAb3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zA",
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "xoxb-" + "123456789012-abcdef",
    "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N",
    "Bearer " + "Ab3dEf6hIj9kLm2n",
    "-----BEGIN RSA PRIVATE KEY-----\nAb3dEf6hIj9k\n-----END RSA PRIVATE KEY-----",
]
NO_KEYS = [
    "a task-management-system", "risk-adjusted-returns-of-2026", "the bearer authenticated himself", "sk-learn",
    "basic information about tokens", "hf_short", "AKIA", "eyJ", "Bearer token", "disk-encryption-key-rotation",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_keys(key):
    """Whatever looks like a vendor's key is masked, the text around it is not."""
    assert mask_keys(f"before ({key}) after {key}.") == f"before ({MASK}) after {MASK}."
    assert mask_keys(json.dumps({"key": key})) == json.dumps({"key": MASK})


@pytest.mark.parametrize("text", NO_KEYS)
def test_no_keys(text):
    """Words that merely look a little like keys stay."""
    assert mask_keys(text) == text


def test_email():
    """Mail addresses are masked; an @ alone is none."""
    mask = PATTERNS["email"]
    assert mask("to ann.o+x@mail.example.co.uk, or @ann") == f"to {MASK}, or @ann"
    assert mask("a@b") == "a@b"


@pytest.mark.parametrize("number", ["4242424242424242", "4242 4242 4242 4242", "3782-822463-10005", "6304000000000000"])
def test_cards(number):
    """Numbers that pass the check of card numbers are masked, however they are grouped."""
    assert PATTERNS["cards"](f"card {number}.") == f"card {MASK}."


@pytest.mark.parametrize(
    "number", ["4242424242424241", "0000000000000000", "1700000000", "1.4242424242424242", "42" * 12]
)
def test_no_cards(number):
    """Other long numbers stay: the check digit is wrong, all are zero, too short, a fraction, too long."""
    assert PATTERNS["cards"](f"n {number}") == f"n {number}"


def test_masks_reach_everywhere():
    """Strings at any depth, and names of members; other values are left alone."""
    value = {"a@b.example": [{"x": "a@b.example"}, 5, None, True, 1.5]}
    assert mask_strings(value, PATTERNS["email"]) == {MASK: [{"x": MASK}, 5, None, True, 1.5]}
    assert value == {"a@b.example": [{"x": "a@b.example"}, 5, None, True, 1.5]}


def test_members_that_are_credentials():
    """By their name, whatever they look like."""
    config = {"model": "m", "API_Key": "x", "nested": [{"authorization": {"a": 1}, "password": None}]}
    assert mask_credential_members(config, MASK) == {
        "model": "m", "API_Key": MASK, "nested": [{"authorization": MASK, "password": None}],
    }  # fmt: skip


@pytest.mark.parametrize("run", ["a", "@", ".", "-", "sk-", "1", " 1", "eyJ", "eyJaaaaaaaa.", "Bearer ", "a@a.", "+"])
@pytest.mark.parametrize("name", PATTERNS)
def test_no_input_makes_a_pattern_slow(name, run):
    """A megabyte of what a pattern is looking for is read once, not once per character."""
    PATTERNS[name](run * (1 << 20))


@patient
@given(st.text(alphabet=st.characters(exclude_characters="@"), max_size=60))
def test_masks_leave_ordinary_text(text):
    """Text without anything that a pattern knows is returned as it is, and a masked one is masked for good."""
    for mask in PATTERNS.values():
        once = mask(text)
        assert mask(once) == once


def test_settings_know_the_patterns():
    """The names that the setting takes are those that there are."""
    assert set(REDACTIONS) == set(PATTERNS)


def test_order_and_truth():
    """First the patterns, then the function; a redactor with neither is false."""
    seen: list[Any] = []

    def function(value: Any) -> Any:
        seen.append(value)
        return {"kept": value["a"]}

    assert not Redactor()
    assert Redactor(("email",))
    assert Redactor(("email",), function)({"a": "x@y.example", "b": 1}) == {"kept": MASK}
    assert seen == [{"a": MASK, "b": 1}]


def test_a_function_by_name():
    """``module:function`` is imported at its first use, dotted names too."""
    assert Redactor((), "json:dumps")({"a": 1}) == '{"a": 1}'
    assert Redactor((), "collections:Counter.most_common").check() is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no_such_module:f", "No module named"), ("json:nothing", "no attribute"), ("json:__doc__", "not a function")],
)
def test_a_function_that_is_not_there(name, reason):
    """An error that names the setting, its value and the reason."""
    with pytest.raises(SettingsError, match=f"^LLMSPAN_REDACT={name}: .*{reason}"):
        Redactor((), name).check()


def test_a_function_that_forgets_to_return():
    """None for something is a mistake, not an empty payload."""
    with pytest.raises(RedactionError, match="returned None"):
        Redactor((), lambda value: None)({"a": 1})
    assert Redactor((), lambda value: None)(None) is None
