"""Masking within JSON text and over JSON values: what is left alone stays to the byte, at any depth."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmspan import _guard, _json
from llmspan.content import ContentPolicy
from llmspan.redaction import (
    MASK,
    PATTERNS,
    ExactMask,
    Redactor,
    credential_texts,
    has_credential_members,
    json_text,
    map_json,
    mask_context,
    mask_credential_members,
    mask_json_text,
    mask_keys,
    mask_names,
    mask_strings,
    url_credentials,
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
    assert json.dumps(doubled) == json.dumps(mask_strings(value, lambda string: string * 2))


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
    masked = mask_credential_members(mask_strings(value, mask_keys), MASK)
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
    cleaned = ContentPolicy().clean_metadata(
        {**facts, "error_message": f"no {KEY}", "error_json": value, "attributes": {"a": value}}
    )
    assert cleaned["error_message"] == f"no {MASK}"
    assert KEY not in json.dumps(cleaned["error_json"])
    assert _guard.failures() == {}


@pytest.mark.parametrize("failed", [False, True])
def test_a_deep_payload_is_masked(failed: bool) -> None:
    """A body too deep for Python's parser is stored without its credentials, as valid JSON."""
    request = '{"api_key":"planted-1","a":' * 5000 + "1" + "}" * 5000
    response = '{"e":' * 5000 + f'"{KEY} planted-2"' + "}" * 5000
    policy = ContentPolicy(redact=Redactor(("keys",)))
    kept = policy.apply_to_payloads(request, _json.canonical(response), ExactMask.of(["planted-2"]), failed=failed)
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


QUOTED = [
    'api"_key',
    '"',
    'x":password',
    "api_key\\",
    "\\token",
    "a\npi_key",
    "api_k\u00e9ey",
    "pass_word",
    "x" * 195 + "token",
]


@patient
@example(names=['api"_key'], levels=[None], separators=(",", ":"), escape=False)
@example(names=['api"_key'], levels=[None, None], separators=(", ", " : "), escape=True)
@example(names=['a-"api_key'], levels=[1], separators=(",", ":"), escape=False)
@given(
    names=st.lists(st.sampled_from([*CREDENTIALS, *WEAK, *QUOTED, "url", "arguments", "config", "a", "n"]), max_size=5),
    levels=st.lists(st.sampled_from([None, 1]), max_size=2),
    separators=st.sampled_from([(",", ":"), (", ", " : "), (",\n", "\t:\n")]),
    escape=st.booleans(),
)
def test_no_scan_is_left_out_that_would_mask(
    names: list[str], levels: list[Any], separators: Any, escape: bool
) -> None:
    """Whatever names hold, however JSON texts are nested and spelled: where a member is masked, it is expected."""
    value: Any = {
        name: ["https://a:b@c?key=d", {"b": 'said "token": x'}][number % 2] for number, name in enumerate(names)
    }
    for indent in levels:
        value = {"config": json.dumps(value, indent=indent, separators=separators), "n": 1}
    text = json.dumps(value, separators=separators, ensure_ascii=escape)
    text = text.replace("/", "\\/").replace("k", "\\u006b") if escape and not levels else text
    assert has_credential_members(text) or mask_json_text(text, members=True) is text


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
    kept = ContentPolicy().apply_to_payloads(request, '{"error":"no planted-credential"}')
    assert "planted" not in str(kept)


@pytest.mark.parametrize("body", [b"api_key=planted&model=m", b'{"api_key": "planted", ', b"<x password='planted'/>"])
def test_a_body_that_is_no_json(body: bytes) -> None:
    """Forms, broken JSON and markup lose their credentials as well."""
    kept, _, _ = ContentPolicy().apply_to_payloads(body, None)
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


@pytest.mark.parametrize(
    ("member", "texts"),
    [
        ({"headers": {"X-Wiki": "planted-1", "Content-Type": "application/json"}}, {"planted-1"}),
        ({"vertex_credentials": {"type": "service_account", "private_key": "planted-1"}}, {"planted-1"}),
        ({"auth": {"user": "ann", "password": "planted"}}, {"planted"}),
        ({"api_keys": ["planted-1", {"x": ["planted-2"]}]}, {"planted-1", "planted-2"}),
        ({"server_url": "https://x.example/mcp?token=planted-1&n=1"}, {"planted-1"}),
        ({"api_base": "https://ann:planted%401@x.example"}, {"ann", "ann:planted%401", "planted%401", "planted@1"}),
        ({"fallbacks": [{"auth": {"type": "object", "x": "no value"}}]}, set[str]()),
    ],
)  # fmt: skip
def test_credentials_in_members_of_any_shape(member: Any, texts: set[str]) -> None:
    """Maps of headers, service accounts, lists and URLs hold credentials; the scan of a worker collects the same."""
    text = json.dumps({"model": "m", "deep": [member]})
    assert credential_texts(text) == texts
    found: set[str] = set()
    masked = mask_json_text(text, members=True, masked_credentials=found)
    assert found == texts
    assert "planted" not in masked


def test_json_text_in_a_member_is_read() -> None:
    """A service account as JSON text is one credential and holds others; so does a configuration as JSON text."""
    account = json.dumps({"private_key": "planted-1"})
    assert credential_texts(json.dumps({"vertex_credentials": account})) == {account, "planted-1"}
    config = json.dumps({"targets": [{"api_key": "planted-1", "nested": json.dumps({"password": "planted-2"})}]})
    text = json.dumps({"config": config, "n": 1})
    found: set[str] = set()
    assert has_credential_members(text)
    masked = json.loads(json.loads(mask_json_text(text, members=True, masked_credentials=found))["config"])
    assert masked["targets"][0]["api_key"] == MASK
    assert json.loads(masked["targets"][0]["nested"]) == {"password": MASK}
    assert found == {"planted-1", "planted-2"}


def test_json_text_of_a_conversation_stays() -> None:
    """What is said to a model stays as it was said; the arguments of a tool's call are what ``input`` is elsewhere."""
    said = json.dumps({"password": "kept"})
    call = {"function": {"name": "login", "arguments": json.dumps({"password": "planted", "token": "kept"})}}
    text = json.dumps({"messages": [{"content": said, "tool_calls": [call]}]})
    message = json.loads(mask_json_text(text, members=True))["messages"][0]
    assert message["content"] == said
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"password": MASK, "token": "kept"}


@pytest.mark.parametrize("run", [
    '{"auth":{"type":"object",' * 200 + '"x":1' + "}}" * 200 + ",", '{"auth":{', '"headers":{"a":"b"},', '\\"', 'a\\":',
    '"x":"\\"token\\":', '"url":"http://a:b@c?token=d",',
])  # fmt: skip
def test_no_text_is_read_more_often_for_its_credentials(run: str) -> None:
    """A megabyte of schemas within schemas, of containers that do not end or of escaped quotes is read a few times."""
    text = "[" + (run * ((1 << 20) // len(run) + 1))[: 1 << 20]
    has_credential_members(text)
    credential_texts(text)
    mask_json_text(text, members=True)


def test_values_of_the_program() -> None:
    """Of what a program says beside its calls, credentials go: by their name and form, in URLs and in JSON text."""
    value = {
        "api_key": "planted", "db": "postgres://ann:planted@h/d", "note": f"used {KEY}", "n": 1, "tenant": "acme",
        "config": json.dumps({"token": "planted"}), f"x {KEY}": [f"%20{KEY}", "sk-learn-agent-v2"],
    }  # fmt: skip
    masked = mask_context(value)
    assert "planted" not in json.dumps(masked)
    assert KEY not in json.dumps(masked)
    assert (masked["n"], masked["tenant"], masked["db"]) == (1, "acme", f"postgres://{MASK}@h/d")
    assert list(masked)[-1] == f"x {MASK}"


@pytest.mark.parametrize("url", [
    "/v1/files?api_key=planted", "files?a=b&token=planted", "//ann:planted@host/path", "https:/x?key=planted",
    "cb#access_token=planted", "x&token=planted", " //ann:planted@host", "x (//ann:planted@host)",
    "https:\\/\\/ann:planted@host", "https:/\\/ann:planted@host", "x\\u003ftoken=planted", "\\u002f/ann:planted@host",
])  # fmt: skip
@pytest.mark.parametrize("name", ["url", "base_uri", "endpoint"])
def test_a_url_without_a_scheme_hides_no_credential(name: str, url: str) -> None:
    """A path with a query, or a host, holds credentials as a whole URL does, however its slashes are written."""
    text = f'{{"model":"m","{name}":"{url}"}}'
    _, response, _ = ContentPolicy().apply_to_payloads(None, text)
    assert has_credential_members(text)
    assert response is not None
    assert "planted" not in response


@pytest.mark.parametrize("before", ["", "bucket", "a/b", "host.example"])
def test_two_slashes_in_a_path_begin_no_host(before: str) -> None:
    """What stands before an @ behind them is a part of the path, unless nothing is before them."""
    text = json.dumps({"url": f"{before}//ann@host"})
    assert (mask_json_text(text, members=True) == text) == bool(before)


@pytest.mark.parametrize("asked", ["What is in this image?", "Compare a//b & c; then explain."])
def test_an_image_and_a_question_about_it_are_no_url_with_credentials(asked: str) -> None:
    """Base64 has two slashes somewhere, and a question its mark: such a request is not scanned for that."""
    image = "data:image/png;base64," + base64.b64encode(bytes([255] * 3000)).decode() + "=="
    text = json.dumps({"messages": [{"content": [{"text": asked}, {"image_url": {"url": image}}]}]})
    assert "//" in image
    assert not has_credential_members(text)
    assert set(url_credentials(image)) == set()


def test_urls_are_not_kept() -> None:
    """The standard library's cache of URLs holds none of those that were looked at: they may be large, and secret."""
    cached: Any = urlsplit
    before = cached.cache_info().currsize
    for n in range(20):
        assert set(url_credentials(f"https://ann:planted-{n}@host")) > {f"planted-{n}"}
    assert cached.cache_info().currsize == before


def test_names_are_remembered_up_to_a_limit() -> None:
    """Members that are named by a program's data cost no memory for ever, and hide no credential."""
    for n in range(30):
        assert not has_credential_members("{" + ",".join(f'"member_{n}_{m}":1' for m in range(500)) + "}")
        assert has_credential_members('{"model":"m","api_key":"planted"}')
    assert not has_credential_members("{" + ",".join(f'"other_{m}":1' for m in range(10_000)) + "}")
    assert len(json_text._harmless) <= 4096


@pytest.mark.parametrize("number", [1, 60, 500, 5000], ids=["few", "more", "many", "more than are remembered"])
@pytest.mark.parametrize("end", ["", " "], ids=["plain", "space before the colon"])
def test_a_credential_among_any_number_of_members(number: int, end: str) -> None:
    """However many names a text has, one that holds a credential is seen, and without one none is."""
    others = [f'"member_{n}": {n}' for n in range(number)]
    assert not has_credential_members("{" + ", ".join(others) + "}")
    text = "{" + ", ".join([*others, f'"api_key"{end}: "{KEY}"']) + "}"
    assert has_credential_members(text)
    assert KEY not in mask_json_text(text, members=True)


@pytest.mark.parametrize(
    "name",
    ["sk-learn-classifier-agent-v2-prod", "0197c0de-0000-7000-8000-000000000001", "task-2026-11-28-sk-1",
     "bearer-of-news", "user@example.org", "claude-sonnet-5-20260929", "a/b:c=d&e", "тест-агент-один",
     "org_01H8XYZ", "x" * 600]
)  # fmt: skip
def test_names_that_stay(name: str) -> None:
    """Ids, models and tags are found by their exact text: they stay."""
    assert mask_names(name) == name


@pytest.mark.parametrize("name", [KEY, f"user:{KEY}", f"Bearer {KEY}", f"https://ann:{KEY}@h/v1", f"%20{KEY}"])
def test_names_that_are_keys(name: str) -> None:
    """A whole key in an id or a tag goes."""
    assert KEY not in mask_names(name)
    assert MASK in mask_names(name)


SECRET = "planted+credential/1?"


@pytest.mark.parametrize("around", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("code", [base64.b64encode, base64.urlsafe_b64encode], ids=["standard", "URL-safe"])
def test_base64_of_a_credential(around: str, code: Any) -> None:
    """A credential in base64 goes, wherever it begins, and with it nothing but itself."""
    coded = code(f"{around}{SECRET}{around}".encode()).decode()
    masked = ExactMask.of([SECRET])(f"see {coded} and {code(b'something else').decode()}")
    assert MASK in masked
    assert masked.endswith(f" and {code(b'something else').decode()}")
    remaining = masked.partition(" and ")[0].removeprefix("see ").replace(MASK, "").rstrip("=")
    digits_of_around = -(-len(around) * 8 // 6)
    assert len(remaining) <= 2 * digits_of_around + 1


def test_bytes_that_are_no_text() -> None:
    """Bytes are kept in base64; credentials in them go, and all other bytes stay."""
    content = b"\xff\x00 key \xc3\xa9planted-1\xfe api_key=abc123 \xff"
    text = _json.canonical(content)
    kept, _, _ = ContentPolicy().apply_to_payloads(text, None, ExactMask.of(["\u00e9planted-1"]))
    assert kept is not None
    masked = base64.b64decode(json.loads(kept)["base64"])
    assert masked == content.replace(b"\xc3\xa9planted-1", MASK.encode()).replace(b"abc123", MASK.encode())
    assert ContentPolicy().apply_to_payloads(None, text)[1] == text


def test_a_credential_that_looks_like_two() -> None:
    """A credential with a quote in it goes as a whole, though the pattern for assignments ends at the quote."""
    secret = 'planted"1<&\\2'
    text = json.dumps({"message": f"sent {json.dumps({'apiKey': secret})}"})
    _, kept, _ = ContentPolicy().apply_to_payloads(None, text, ExactMask.of([secret]), failed=True)
    assert kept is not None
    assert "planted" not in kept
    assert "2" not in kept


def test_a_request_with_very_many_credentials() -> None:
    """All are masked where they stand; a bounded number is searched for in the response, so that time stays linear."""
    text = json.dumps([{"api_key": f"planted-{number:06}"} for number in range(5000)])
    collected = set[str]()
    assert "planted-" not in mask_json_text(text, members=True, masked_credentials=collected)
    for credentials in (collected, credential_texts(text)):
        assert 100 <= len(credentials) <= 200
        assert "planted-000000" in credentials
    _, response, _ = ContentPolicy().apply_to_payloads(text, json.dumps({"x": "planted-000000"}))
    assert response == json.dumps({"x": MASK})


@pytest.mark.parametrize("text", [
    '{"a": ["x", ":y"], "api_key": "planted-1234567890"}', '{"a":"x",":":1,"api_key":"planted-1234567890"}',
    '{"a":"b","c":":","api_key"  :"planted-1234567890"}', '{"":{" ":[":",""]},"api_key"\n:\t"planted-1234567890"}',
    '{"a":"\\n:","api_key":"planted-1234567890"}', '[{"api_key":"planted-1234567890"}]',
])  # fmt: skip
def test_a_colon_in_a_text_hides_no_name_behind_it(text: str) -> None:
    """A text may begin with what stands behind a name, and a name with a colon."""
    assert has_credential_members(text)
    assert "planted" not in mask_json_text(text, members=True)
    assert not has_credential_members(text.replace("api_key", "colour"))
