"""Masking within JSON text and over JSON values: what is left alone stays to the byte, at any depth."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan import _guard, _json
from llmspan.content import Policy
from llmspan.redaction import (
    MASK,
    PATTERNS,
    Redactor,
    credential_texts,
    has_credential_members,
    map_json,
    mask_credential_members,
    mask_json_text,
    mask_keys,
    mask_texts,
)  # fmt: skip
from records import patient

KEY = "sk-" + "proj-Ab3dEf6hIj9kLm2nOp5q"
MASKED = json.dumps(MASK)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


@patient
@given(value=values, indent=st.sampled_from([None, 1]), ensure_ascii=st.booleans())
def test_masking_a_text_is_masking_its_value(value: Any, indent: int | None, ensure_ascii: bool) -> None:
    """For any mask, the masked text is the text of the masked value; what no mask changes stays to the byte."""
    text = json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)
    assert mask_json_text(text, lambda string: string) is text
    doubled = json.loads(mask_json_text(text, lambda string: string * 2))
    assert json.dumps(doubled) == json.dumps(mask_texts(value, lambda string: string * 2))


@pytest.mark.parametrize(
    "text", ['{ "a" :1,\n"a": 1e400, "b":"%s" }', '[123456789012345678901234567890.10,"%s"]', '"%s"', '{"%s":-0.0}']
)
def test_the_rest_stays_to_the_byte(text: str) -> None:
    """Spacing, doubled names, long numbers and their spelling survive a mask beside them."""
    assert mask_json_text(text % KEY, mask_keys) == text % MASK


@pytest.mark.parametrize("depth", [100, 600, 5_000, 100_000])
def test_any_depth_of_text(depth: int) -> None:
    """However deep a text is nested, what is at its bottom is masked."""
    text = '{"a":[' * depth + f'"{KEY}"' + "]}" * depth
    assert mask_json_text(text, mask_keys, members=True) == text.replace(KEY, MASK)


@pytest.mark.parametrize("depth", [150, 600, 5_000])
def test_any_depth_of_value(depth: int) -> None:
    """A value nested too deep for a store is cut there, and masked above; walking it never fails."""
    value: Any = KEY
    for _ in range(depth):
        value = {"a": value, "key": KEY}
    masked = mask_credential_members(mask_texts(value, mask_keys), MASK)
    text = json.dumps(masked)
    assert KEY not in text
    assert ("[nested too deep]" in text) == (depth > 200)


@pytest.mark.parametrize("depth", [150, 600, 900, 5_000])
def test_a_deep_error_costs_no_record(depth: int) -> None:
    """An error nested hundreds of levels is cleaned like any other; nothing is swallowed on the way."""
    _guard.reset_error_counts()
    value: Any = {"message": KEY}
    for _ in range(depth):
        value = [value]
    facts = dict.fromkeys(("attributes", "llm_config", "compaction_settings", "billing_context"))
    cleaned = Policy().clean({**facts, "error_message": f"no {KEY}", "error_json": value, "attributes": {"a": value}})
    assert cleaned["error_message"] == f"no {MASK}"
    assert KEY not in json.dumps(cleaned["error_json"])
    assert _guard.failures() == {}


@pytest.mark.parametrize("failed", [False, True])
def test_a_deep_payload_is_masked(failed: bool) -> None:
    """A body too deep for Python's parser is stored without its credentials, as valid JSON."""
    request = '{"api_key":"planted-1","a":' * 5000 + "1" + "}" * 5000
    response = '{"e":' * 5000 + f'"{KEY} planted-2"' + "}" * 5000
    policy = Policy(redact=Redactor(("keys",)))
    kept = policy.apply(request, _json.canonical(response), ["planted-2"], failed=failed)
    assert "planted" not in str(kept)
    assert KEY not in str(kept)
    for text in kept[:2]:
        assert isinstance(json.loads(text or ""), str | dict)


CREDENTIALS = [
    "api_key", "apiKey", "API-Key", "x-api-key", "openai_api_key", "authorization", "Authorization",
    "authorization_token",
    "access_token", "accessToken", "refresh_token", "id_token", "password", "db_password", "client_secret", "secret",
    "aws_secret_access_key", "aws_access_key_id", "aws_session_token", "azure_ad_token", "Ocp-Apim-Subscription-Key",
    "vertex_credentials", "private_key", "cookie", "Set-Cookie", "x-amz-security-token", "passphrase", "bearer_token",
]  # fmt: skip
WEAK = ["token", "headers", "extra_headers", "auth", "pwd", "hf_token", "jwt"]
NO_CREDENTIALS = [
    "max_tokens", "max_token", "tokens", "prompt_tokens", "next_page_token", "eos_token", "stop_token", "key", "keys",
    "cache_key", "prompt_cache_key", "author", "authority", "secretary", "signature", "encrypted_content", "header",
    "password_hint_text", "credentialed", "token_count",
]  # fmt: skip


@pytest.mark.parametrize("name", CREDENTIALS + WEAK)
@pytest.mark.parametrize("shape", ["{%s}", '{"model":"m","fallbacks":[{%s,"n":1}]}', '{"config":{"deep":{%s}}}'])
def test_members_that_are_credentials(name: str, shape: str) -> None:
    """By its name, a member of a request or of a map loses its value, wherever it stands and whatever it is."""
    for value in ('"planted"', "123456", '{"a":"planted"}', '["planted"]'):
        text = shape % f'"{name}" : {value}'
        assert has_credential_members(text)
        masked = mask_json_text(text, members=True)
        assert masked == shape % f'"{name}" : {MASKED}'
        assert mask_credential_members(json.loads(text), MASK) == json.loads(masked)
    text = shape % f'"{name}":null'
    assert mask_json_text(text, members=True) is text


@pytest.mark.parametrize("name", NO_CREDENTIALS)
def test_members_that_are_no_credentials(name: str) -> None:
    """Names that merely contain such a word keep their values."""
    text = f'{{"{name}":"kept"}}'
    assert mask_json_text(text, members=True) is text
    assert mask_credential_members(json.loads(text), MASK) == json.loads(text)


def test_a_tool_that_takes_a_password() -> None:
    """A JSON Schema describes a credential and holds none: it stays, to the byte."""
    schema = {"type": "object", "properties": {
        "password": {"type": "string"}, "token": {"type": ["string", "null"]},
        "api_key": {"anyOf": [{"type": "string"}]},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}}, "secret": {"$ref": "#/x"},
    }, "required": ["password", "token"]}  # fmt: skip
    text = json.dumps({"tools": [{"type": "function", "function": {"name": "login", "parameters": schema}}]})
    assert mask_json_text(text, members=True) is text
    assert mask_credential_members(json.loads(text), MASK) == json.loads(text)


def test_words_of_a_conversation() -> None:
    """Log probabilities and tool inputs have a ``token``: in a conversation that is a word, an ``api_key`` is not."""
    text = '{"choices":[{"logprobs":{"content":[{"token":"Hi"}]}}],"messages":[{"headers":"x","api_key":"planted"}]}'
    assert mask_json_text(text, members=True) == text.replace('"planted"', MASKED)


@pytest.mark.parametrize("name", ["server_url", "url", "api_base", "base_url", "endpoint", "proxy"])
def test_urls_of_a_request(name: str) -> None:
    """The URL of a remote tool keeps its host and path, and loses its token and its userinfo."""
    text = json.dumps({"tools": [{"type": "mcp", name: "https://ann:planted@x.example/sse?token=planted&n=1"}]})
    masked = mask_json_text(text, members=True)
    assert "planted" not in masked
    assert json.loads(masked)["tools"][0][name] == f"https://{MASK}@x.example/sse?token={MASK}&n=1"


def test_what_a_request_carries_is_not_in_the_response() -> None:
    """A gateway that echoes the credentials of the body has them masked in its answer too."""
    request = '{"model":"m","fallbacks":[{"api_key":"planted-credential"}]}'
    kept = Policy().apply(request, '{"error":"no planted-credential"}')
    assert "planted" not in str(kept)


@pytest.mark.parametrize("body", [b"api_key=planted&model=m", b'{"api_key": "planted", ', b"<x password='planted'/>"])
def test_a_body_that_is_no_json(body: bytes) -> None:
    """Forms, broken JSON and markup lose their credentials as well."""
    kept, _, _ = Policy().apply(body, None)
    assert kept is not None
    assert "planted" not in kept
    assert isinstance(json.loads(kept), str)


def test_every_walk_keeps_the_order_of_members() -> None:
    """A copy has its members in the order of the original, replaced or not."""
    value = {"b": 1, "api_key": "x", "a": {"z": 1, "y": [1, {"k": 2}]}, "c": []}
    assert json.dumps(map_json(value)) == json.dumps(value)
    assert list(mask_credential_members(value, MASK)) == list(value)


@pytest.mark.parametrize("run", ['{"', '"\\"', "[", "]", "{}", '"a":', "\\", '"', '"api_key":{', ",", "1 ", '"://a@"'])
def test_no_text_makes_the_scan_slow(run: str) -> None:
    """A megabyte of anything, valid or not, is scanned once."""
    text = (run * (1 << 20))[: 1 << 20]
    mask_json_text(text, PATTERNS["cards"], members=True, cards=True)


def test_credentials_are_found_without_a_scan() -> None:
    """What a request's credential members hold as text, decoded, at any depth; schemas and other members hold none."""
    text = json.dumps({
        "api_key": "planted-\n1",
        "a": [{"fallbacks": [{"accessToken": "planted-2"}], "max_tokens": "3", "token": None}],
        "tools": [{"properties": {"password": {"type": "string"}}}], "text": '"api_key": "no member"',
    })  # fmt: skip
    assert credential_texts(text) == {"planted-\n1", "planted-2"}
    for run in ('"', '{"', '"a":"', '"a": ', "\\", '"token":"'):
        credential_texts((run * (1 << 20))[: 1 << 20])
