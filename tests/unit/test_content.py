"""What of a payload is kept: all of it, none of it, or as much as fits, and always valid JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmspan import _guard, _json
from llmspan.content import WITHHELD, ContentPolicy
from llmspan.instrumentation.call import Endpoint
from llmspan.limits import truncated
from llmspan.redaction import MASK, ExactMask, Redactor
from llmspan.settings import Settings
from records import make_trace, patient, traces

MARK = {"llmspan.truncated": True}
texts = st.text(max_size=5) | st.integers(0, 3000).map(lambda size: "ü" * size)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_cut(short: Any, whole: Any) -> bool:
    """Whether ``short`` is ``whole`` with some of its strings shortened, and nothing else changed."""
    if isinstance(short, str) and isinstance(whole, str):
        kept, _, note = short.partition("... [")
        return short == whole or (whole.startswith(kept) and note == f"{len(whole)} characters, cut by llmspan]")
    if isinstance(short, dict) and isinstance(whole, dict):
        return short.keys() == whole.keys() and all(is_cut(short[key], whole[key]) for key in whole)
    if isinstance(short, list) and isinstance(whole, list):
        return len(short) == len(whole) and all(map(is_cut, short, whole))
    return bool(short == whole)


def test_defaults():
    """Unless told otherwise, payloads are kept, up to 16 MiB each."""
    assert ContentPolicy() == ContentPolicy(keep=True, max_bytes=16 * 1024 * 1024)


def test_metadata_only():
    """With capture off nothing is kept, whatever there was."""
    assert ContentPolicy(keep=False).apply_to_payloads(b'{"a":1}', '{"b":2}') == (None, None, "metadata")


@pytest.mark.parametrize(
    "text", ['{ "a" :1,\n"a": 1e400 }', "[123456789012345678901234567890.10]", '"\\u0000"', "null"]
)
def test_full_payload_is_as_sent(text):
    """What fits is kept to the byte: spacing, doubled keys, long numbers, escapes."""
    assert ContentPolicy().apply_to_payloads(text.encode(), text) == (text, text, "full")


@pytest.mark.parametrize(("request_body", "kept"), [
    (None, None), (b"", None), (b"\xff", '{"base64":"/w=="}'), (b"a=1", '"a=1"'), (b'{"a":NaN}', '{"a":null}'),
])  # fmt: skip
def test_odd_requests(request_body, kept):
    """A request that is missing, no text, no JSON or not strict is stored as strict JSON, or not at all."""
    assert ContentPolicy().apply_to_payloads(request_body, None) == (kept, None, "full")


@pytest.mark.parametrize("character", ["x", "ü", "\U0001f600"])
@pytest.mark.parametrize("room", [-1, 0, 1])
def test_the_cap_is_in_bytes(character, room):
    """A payload may have exactly ``max_bytes`` bytes of UTF-8 and not one more."""
    text = dumped({"text": character * 500})
    request, response, content = ContentPolicy(max_bytes=len(text.encode()) + room).apply_to_payloads(
        text.encode(), text
    )
    assert request == response
    assert (response == text, content) == ((True, "full") if room >= 0 else (False, "truncated"))


@pytest.mark.parametrize(("long_request", "long_response"), [(True, False), (False, True), (True, True)])
def test_each_payload_has_its_own_cap(long_request, long_response):
    """Only the payload that is too long is cut; either of them makes the record ``truncated``."""
    long, short = dumped({"a": "x" * 2000}), dumped({"a": "x"})
    given = (long if long_request else short, long if long_response else short)
    request, response, content = ContentPolicy(max_bytes=1000).apply_to_payloads(given[0].encode(), given[1])
    assert (request == given[0], response == given[1], content) == (not long_request, not long_response, "truncated")


@patient
@given(value=documents, limit=st.integers(60, 4000))
@example(value={"TOKEN": "ü" * 25}, limit=60)
@example(value={"TOKEN": 0}, limit=60)
def test_cut_payload(value, limit):
    """A cut payload is valid JSON within its limit: the same document with its longest strings shortened, or a mark.

    The limit is for what is left when credentials are masked, which a key such as TOKEN has.
    """
    _, text, _ = ContentPolicy(max_bytes=1 << 30).apply_to_payloads(None, dumped(value))
    value = json.loads(text)
    _, kept, content = ContentPolicy(max_bytes=limit).apply_to_payloads(None, text)
    assert kept is not None
    assert len(kept.encode()) <= limit
    size = len(text.encode())
    assert content == ("full" if size <= limit else "truncated")
    assert (
        kept == text
        if content == "full"
        else json.loads(kept) == MARK | {"bytes": size} or is_cut(json.loads(kept), value)
    )


def test_the_longest_strings_go_first():
    """Strings are cut as little as is needed: where cutting the long one suffices, the short ones stay."""
    value = {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "x" * 5000}, {"role": "user", "content": "y" * 1024}],
    }
    _, kept, _ = ContentPolicy(max_bytes=3000).apply_to_payloads(None, dumped(value))
    cut = json.loads(kept or "")
    assert cut["messages"][1] == value["messages"][1]
    assert cut["messages"][0]["content"] == "x" * 1024 + "... [5000 characters, cut by llmspan]"


def test_what_strings_cannot_make_fit():
    """A document of many small values is replaced by a mark that says how large it was."""
    text = dumped(list(range(1000)))
    assert json.loads(truncated(text, len(text), 100)) == MARK | {"bytes": len(text)}


@pytest.mark.parametrize("depth", [600, 900, 100_000])
def test_nesting_without_end(depth):
    """A payload nested deeper than Python can follow is cut or marked, not an error."""
    text = '{"a":' * depth + dumped("x" * 5000) + "}" * depth
    cut = truncated(text, len(text), 4096)
    assert len(cut) <= 4096
    assert json.loads(cut).keys() in ({"a"}, {"llmspan.truncated", "bytes"})


def test_a_text_that_is_no_json():
    """What cannot be read cannot be shortened: it is replaced by the mark."""
    assert json.loads(truncated("x" * 500, 500, 100)) == MARK | {"bytes": 500}


@patient
@given(text=st.text(max_size=300) | st.binary(max_size=300), limit=st.integers(60, 200))
def test_any_request_is_kept_or_cut(text, limit):
    """Whatever was sent, what is kept is strict JSON text within the limit."""
    body = text.encode() if isinstance(text, str) else text
    kept, _, _ = ContentPolicy(max_bytes=limit).apply_to_payloads(body, None)
    assert (kept is None) == (body == b"")
    assert kept is None or (len(kept.encode()) <= limit and _json.canonical(kept) == kept)


def test_credentials_for_remote_tools_are_masked():
    """Tokens and headers that a request carries for MCP servers are not stored; the rest of the request is."""
    request = {
        "model": "m",
        "input": 'say "authorization"',
        "tools": [
            {"type": "mcp", "server_url": "https://x", "authorization": "s3cret", "headers": {"X-Key": "s3cret"}}
        ],
        "mcp_servers": [{"name": "n", "authorization_token": "s3cret"}, {"name": "open", "authorization_token": None}],
    }
    kept, _, content = ContentPolicy().apply_to_payloads(json.dumps(request).encode(), None)
    assert "s3cret" not in kept
    assert content == "full"
    stored = json.loads(kept)
    assert (stored["model"], stored["input"], stored["tools"][0]["server_url"]) == ("m", request["input"], "https://x")
    assert stored["mcp_servers"][1]["authorization_token"] is None


def test_a_request_without_credentials_is_kept_to_the_byte():
    """A tool that is merely called ``headers`` changes nothing."""
    text = '{"model" : "m", "tools": [{"name": "headers"}], "input": "1e400"}'
    assert ContentPolicy().apply_to_payloads(text.encode(), None)[0] == text


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400


def described(content: bytes, kind: str) -> dict[str, Any]:
    return {"type": kind, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("part", [
    lambda data: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    lambda data: {"type": "input_image", "image_url": f"data:image/png;base64,{data}"},
    lambda data: {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
    lambda data: {"type": "image_generation_call", "result": data},
    lambda data: {"b64_json": data},
    lambda data: {"type": "blob", "mime_type": "image/png", "content": data},
    lambda data: {"file": {"file_data": f"data:image/png;name=x;base64,{data}"}},
])  # fmt: skip
def test_media(part):
    """Base64 above the cap becomes its type, size and hash, wherever the API puts it; the rest of the payload stays."""
    data = base64.b64encode(PNG).decode()
    text = dumped({"model": "m", "content": [part(data)]})
    kept, _, content = ContentPolicy().apply_to_payloads(text.encode(), None)
    assert content == "truncated"
    expected = json.loads(dumped({"model": "m", "content": [part("DATA")]}))
    found = json.loads(kept)
    assert found["model"] == "m"
    assert described(PNG, "image/png") in list(walk(found))
    assert len(kept) < 1000
    assert json.loads(kept).keys() == expected.keys()
    assert ContentPolicy(max_media_bytes=len(PNG)).apply_to_payloads(text.encode(), None) == (text, None, "full")


def walk(value: Any) -> Any:
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(item)


def test_media_kinds():
    """Where nothing says what it is, how it begins does; audio has a format; base64url and line breaks are read too."""
    wav = b"RIFF\x00\x00\x00\x00WAVE" + b"\xfb\xff" * 100
    wrapped = base64.encodebytes(wav).decode()
    url_safe = base64.urlsafe_b64encode(wav).decode().rstrip("=")
    odd = b"\x01" * 100
    payload = {
        "base64": [{"type": "base64", "data": data} for data in (wrapped, url_safe, base64.b64encode(odd).decode())],
        "input_audio": {"data": wrapped, "format": "mp3"},
    }
    kept, _, _ = ContentPolicy(max_media_bytes=50).apply_to_payloads(dumped(payload).encode(), None)
    found = json.loads(kept)
    assert [source["data"] for source in found["base64"]] == [
        described(wav, "audio/wav"),
        described(wav, "audio/wav"),
        described(odd, "application/octet-stream"),
    ]
    assert found["input_audio"]["data"] == described(wav, "audio/mp3")


def test_what_is_no_media():
    """Long text, and long text that happens to be base64 in a member that never holds any, stays."""
    payload = {"text": "QUJD" * 1000, "data": "base64 says: " + "a b" * 1000, "result": "x" * 60_001 + "!"}
    text = dumped(payload)
    assert ContentPolicy(max_media_bytes=50).apply_to_payloads(text.encode(), None) == (text, None, "full")


def test_words_are_no_media():
    """Text that decodes as base64 stays, unless what it stands in says otherwise or it is longer than words are."""
    notes = "Meeting notes of Monday" * 10
    plain = {"type": "text", "media_type": "text/plain", "data": "x" * 100_000}
    payload = {"a": {"source": plain}, "b": {"content": notes}, "c": {"mimeType": "text/plain", "data": notes}}
    text = dumped(payload)
    assert ContentPolicy(max_media_bytes=50).apply_to_payloads(text.encode(), None) == (text, None, "full")
    bare = dumped({"part": "base64", "data": base64.b64encode(PNG).decode()})
    kept, _, _ = ContentPolicy(max_media_bytes=50).apply_to_payloads(bare.encode(), None)
    assert json.loads(kept)["data"] == described(PNG, "image/png")


def test_redaction_before_the_cap():
    """What is redacted is redacted in full, also behind the place where the payload is cut."""
    text = dumped({"a": "x" * 5000 + " ann@example.org", "b": "bob@example.org"})
    kept, _, content = ContentPolicy(max_bytes=1000, redact=Redactor(("email",))).apply_to_payloads(text.encode(), None)
    assert content == "truncated"
    assert "bob@" not in kept
    assert "ann@" not in kept


def test_nothing_to_redact_is_kept_to_the_byte():
    """A redactor that finds nothing changes nothing, not even the spacing."""
    text = '{ "a" : 1.50 }'
    policy = ContentPolicy(redact=Redactor(("email", "keys", "cards"), lambda value: value))
    assert policy.apply_to_payloads(text, text) == (
        text, text, "full",
    )  # fmt: skip


def broken(value: Any) -> Any:
    raise ValueError(f"cannot read {value}")


@pytest.mark.parametrize("function", [broken, lambda value: None, "no_such_module:f", lambda: 5])
def test_what_cannot_be_redacted_is_withheld(function, caplog):
    """Neither stored nor logged; counted, and the log says why without saying what."""
    _guard.reset_error_counts()
    policy = ContentPolicy(redact=Redactor((), function))
    assert policy.apply_to_payloads('{"a":"planted"}', '{"b":"planted"}') == (None, None, "metadata")
    facts = policy.clean_metadata(
        facts_of(error_message="planted", error_json={"m": "planted"}, attributes={"a": "planted"})
    )
    assert facts == facts_of(error_message=WITHHELD, error_json=None, attributes={})
    assert _guard.failures() == {"content.redact": 5}
    assert "planted" not in caplog.text
    assert "content.redact" in caplog.text
    _guard.reset_error_counts()


def test_one_payload_withheld():
    """The other one is stored, and the record says that it is not all there is."""
    only_requests = ContentPolicy(redact=Redactor((), lambda value: value if "request" in value else broken(value)))
    assert only_requests.apply_to_payloads('{"request":1}', '{"response":1}') == ('{"request":1}', None, "truncated")
    _guard.reset_error_counts()


def test_cancellation_passes_through_redaction():
    """What is not ours to keep goes on."""

    def interrupt(value: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ContentPolicy(redact=Redactor((), interrupt)).apply_to_payloads("{}", None)


def facts_of(**values: Any) -> dict[str, Any]:
    keys = ("error_message", "error_json", "attributes", "llm_config", "compaction_settings", "billing_context")
    return dict.fromkeys(keys) | values


def test_errors_never_echo_keys():
    """Keys in error messages and bodies are masked without being asked, and so is what the call was made with."""
    echo = "Incorrect API key provided: sk-" + "plant*****cret; really my-odd-credential"
    facts = ContentPolicy().clean_metadata(
        facts_of(error_message=echo, error_json={"error": {"message": echo, "api_key": "x"}}),
        ExactMask.of(["my-odd-credential"]),
    )
    masked = f"Incorrect API key provided: {MASK}; really {MASK}"
    assert facts["error_message"] == masked
    assert facts["error_json"] == {"error": {"message": masked, "api_key": MASK}}


def test_context_values_lose_credentials():
    """An API key in ``llm_config`` and the like goes nowhere; values without any are the same object."""
    config = {"model": "m", "api_key": "x"}
    facts = ContentPolicy().clean_metadata(facts_of(llm_config=config, attributes={"a": 1}))
    assert facts["llm_config"] == {"model": "m", "api_key": MASK}
    assert config["api_key"] == "x"


def test_a_key_in_the_body():
    """Gateways take the upstream's key in the request: it is masked there too."""
    kept, _, content = ContentPolicy().apply_to_payloads('{"model":"m","api_key":"x"}', None)
    assert (json.loads(kept), content) == ({"model": "m", "api_key": MASK}, "full")


def test_secrets_of_the_call():
    """What a call was authorised with is in neither payload."""
    kept = ContentPolicy().apply_to_payloads(
        '{"a":"key-1"}', '{"b":"say key-1 key-2"}', ExactMask.of(["key-1", "key-2"])
    )
    assert kept == (dumped({"a": MASK}), dumped({"b": f"say {MASK} {MASK}"}), "full")


def test_from_settings():
    """The settings are the policy."""
    settings = Settings.from_env({}, capture_payloads="metadata", max_payload_bytes=5, max_media_bytes=6, redact="a:b")
    assert ContentPolicy.from_settings(settings) == ContentPolicy(
        keep=False, max_bytes=5, max_media_bytes=6, redact=Redactor((), "a:b")
    )


def test_records_that_are_handed_over():
    """A record that was not observed goes through the same hands."""
    trace = make_trace(
        error_message="sk-" + "proj-Ab3dEf6hIj", request_json='{"a":"a@b.example"}', response_json=None,
        attributes={"mail": "a@b.example"},
    )  # fmt: skip
    kept = ContentPolicy(redact=Redactor(("email",))).apply_to_record(trace)
    assert (kept.error_message, kept.request_json) == (MASK, dumped({"a": MASK}))
    assert (kept.attributes, kept.content) == ({"mail": MASK}, "full")
    assert ContentPolicy().apply_to_record(make_trace(request_json=None, response_json=None)).content == "metadata"


@patient
@given(record=traces())
def test_what_is_masked_is_masked_once(record):
    """A record that one process may store, another one stores as it is: masks and limits change nothing twice."""
    policy = ContentPolicy()
    kept = policy.enforce(policy.apply_to_record(record))
    assert policy.enforce(kept) == kept
    assert policy.apply_to_record(kept) == kept


@pytest.mark.parametrize("status", ["ok", "error"])
def test_masks_stay_as_they_are(status):
    """What stands in the place of a credential is not masked anew, in a payload, an error or what a program says."""
    key = "sk-" + "proj-Ab3dEf6hIj9kLm2nOp5q"
    record = make_trace(
        status=status, request_json=f'{{"api_key":"{key}","url":"https://a:{key}@x/?token={key}"}}',
        response_json=f'{{"text":"{key}","headers":{{"a":"{key}"}}}}', error_message=f"bad {key}", user_id=key,
        error_json={"a": key}, attributes={"api_key": key, "b": [f"x {key}"]}, agent_tags=(key,),
    )  # fmt: skip
    masked = ContentPolicy().apply_to_record(record)
    assert key not in masked.to_json()
    assert MASK in masked.to_json()
    assert ContentPolicy().enforce(masked) == masked


@pytest.mark.parametrize("content", ["full", "metadata", "truncated"])
@pytest.mark.parametrize("request_json", [None, '{"m":"say sk-proj-Ab3dEf6hIj9kLm2nOp5q"}'])
def test_what_a_sender_says_of_its_content_stays(content: str, request_json: str | None):
    """Masking in the sidecar withholds nothing: a record is called complete, cut or without payload as it came."""
    record = make_trace(content=content, request_json=request_json, error_message="key sk-proj-Ab3dEf6hIj9kLm2nOp5q")
    enforced = ContentPolicy().enforce(record)
    assert enforced.content == content
    assert "sk-proj" not in str(enforced.error_message)


def test_what_holds_credentials_does_not_print_them():
    """A program may log the locals of a traceback, as error trackers do."""
    endpoint = Endpoint("openai", "host", 443, "openai/3.57.0", ("a-key-of-the-proxy",))
    printed = repr([endpoint, ExactMask.of(["a-key-of-the-call"])])
    assert "openai" in printed
    assert "a-key" not in printed


_KEY = "sk-" + "proj-1234567890abcdefghijABCDEFGHIJ"
_PASSWORD = "p\xe4ssword-of-the-call"


@pytest.mark.parametrize(
    ("request_body", "response", "failed"),
    [
        (b"{}", json.dumps({"message": f"Incorrect API key provided: {_KEY}"}), True),
        (f"key={_KEY}".encode(), None, False),
        (f"key={_KEY}\xff".encode("latin-1"), None, False),
        (b"{}", _json.canonical(f"key={_KEY}\xff".encode("latin-1")), True),
        (b"{}", _json.canonical(f"\xff{_PASSWORD}".encode()), False),
    ],
    ids=["error", "request that is no JSON", "request of bytes", "error of bytes", "bytes"],
)
def test_what_is_masked_though_no_member_is_named_so(request_body: bytes, response: str | None, failed: bool) -> None:
    """Errors, and requests that are no JSON, lose any key; the bytes of a reply those of the call."""
    stored = ContentPolicy().apply_to_payloads(request_body, response, ExactMask.of([_PASSWORD]), failed=failed)
    texts = [text for text in stored[:2] if text]
    contents = [base64.b64decode(json.loads(text)["base64"]) if '"base64"' in text else b"" for text in texts]
    for secret in (_KEY, _PASSWORD):
        assert secret not in "".join(texts)
        assert not any(secret.encode() in content for content in contents)
