"""Google's APIs, read from their bytes: all interactions against what they say, and the shapes that need rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from conventions import attribute_faults, requirement_faults
from expectations import at
from interaction import CALLS, Interaction, is_google, parameters, wire_ids
from llmspan.semconv import normalized, request_attributes, to_attributes
from llmspan.wire import PARSERS, error_type, reassemble, summarize
from records import make_trace
from wires import both, load, plain_events, wire

GOOGLE = [name for name in wire_ids() if is_google(name)]
every_one = pytest.mark.parametrize("name", parameters(GOOGLE))


def parts_of(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a response, or what comes near them in an interaction."""
    for candidate in response.get("candidates") or []:
        yield from (candidate.get("content") or {}).get("parts") or []
    for step in response.get("steps") or []:
        if step["type"] == "model_output":
            yield from step.get("content") or []
        elif step["type"] == "thought":
            yield from ({"text": item.get("text"), "thought": True} for item in step.get("summary") or [])
        elif step["type"] == "function_call":
            yield {"functionCall": {"id": step["id"], "name": step["name"], "args": step["arguments"]}}


def text_of(response: dict[str, Any], *, thought: bool) -> str:
    texts = (part for part in parts_of(response) if "text" in part and bool(part.get("thought")) == thought)
    return "".join(part["text"] for part in texts)


def arguments(value: Any) -> Any:
    """Arguments as an object, whether they are given as one or as JSON text; those that are no JSON as they are."""
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return value.get("INVALID_JSON", value) if isinstance(value, dict) else value


def calls_of(response: dict[str, Any]) -> list[Any]:
    calls = (part["functionCall"] for part in parts_of(response) if "functionCall" in part)
    return [(call.get("id"), call.get("name"), call.get("args") or {}) for call in calls]


@every_one
def test_facts(name: str) -> None:
    """Usage, ids, model, tier and reasons are those that the interaction says; span and record agree on them."""
    interaction = load(name)
    expect = interaction.expect
    reply, _ = both(interaction.record_api, interaction.wire)
    usage = reply.usage
    assert (usage.input_tokens, usage.output_tokens) == (expect["input_tokens_total"], expect["output_tokens"])
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (expect["cache_read_tokens"], None)
    assert usage.reasoning_tokens == expect["reasoning_tokens"]
    assert usage.raw == expect["usage_raw"]
    assert usage.source == (expect.get("source") or ("provider" if expect["usage_raw"] else "none"))
    if interaction.response["status"] < 400:
        facts = (reply.response_id, reply.response_model, reply.service_tier)
        assert facts == tuple(expect[key] for key in ("response_id", "response_model", "service_tier"))
        assert list(reply.finish_reasons) == expect["finish_reasons"]
        assert reply.terminal == (not interaction.is_cut)
    if expect["is_sse"]:
        assert reply.chunk_count == expect["n_sse_events_without_ping"]
    if interaction.is_own:
        assert usage.details == expect["details"]
        spelled = reply.normalized_reasons
        assert list(normalized(reply.finish_reasons) if spelled is None else spelled) == expect["finish_on_span"]


@every_one
def test_content(name: str) -> None:
    """The texts, thoughts, calls and signatures of the response are those of the interaction."""
    interaction = load(name)
    expect = interaction.expect
    _, response = reassemble(interaction.record_api, interaction.wire)
    if interaction.response["status"] >= 400:
        assert response == json.loads(interaction.wire)
        return
    assert text_of(response, thought=False) == expect["text"]
    for path, value in expect.get("at", {}).items():
        assert at(response, path) == value, path
    if "reasoning_text" in expect:
        assert text_of(response, thought=True) == expect["reasoning_text"]
        signed = sum("thoughtSignature" in part for part in parts_of(response))
        assert signed == expect["n_thought_signatures"] or interaction.record_api != "generate_content"
    if "partial_args" not in interaction.data.get("features", ()):
        calls = [(call["id"], call["name"], arguments(call["arguments"]) or {}) for call in expect["tool_calls"]]
        assert [(*call[:2], arguments(call[2])) for call in calls_of(response)] == calls


@every_one
def test_errors(name: str) -> None:
    """An error's class is the API's status, or its code where that is a word."""
    interaction = load(name)
    reply, _ = both(interaction.record_api, interaction.wire)
    told = interaction.expect["error"]
    assert (reply.error is None) == (told is None)
    if reply.error is not None:
        assert reply.error.message == told["message"]
        assert error_type(reply.error, http_status=interaction.response["status"]) == told["type"] or told["code"]


@pytest.mark.parametrize("name", parameters([name for name in GOOGLE if load(name).record_api == "generate_content"]))
def test_sdk_model(name: str) -> None:
    """The response validates as the SDK's model, all but members that the API has and the SDK does not know."""
    types = pytest.importorskip("google.genai.types")
    interaction = load(name)
    _, response = reassemble(interaction.record_api, interaction.wire)
    if "error" in response or interaction.response["status"] >= 400:
        return
    usage = response.get("usageMetadata")
    known = {key: value for key, value in (usage or {}).items() if key != "serviceTier"}
    known = {key.replace("response", "candidates"): value for key, value in known.items()}  # Live's names
    model = types.GenerateContentResponse.model_validate(response | ({"usageMetadata": known} if usage else {}))
    content = model.candidates[0].content if model.candidates else None
    said = [part for part in (content.parts if content else None) or () if part.text is not None and not part.thought]
    assert len(interaction.expect["finish_reasons"]) > 1 or "".join(p.text for p in said) == interaction.expect["text"]


@pytest.mark.parametrize("name", parameters([name for name in GOOGLE if load(name).record_api == "interactions"]))
def test_sdk_interaction(name: str) -> None:
    """The same of interactions."""
    module = pytest.importorskip("google.genai._gaos.types.interactions.interaction")
    interaction = load(name)
    _, response = reassemble(interaction.record_api, interaction.wire)
    if interaction.response["status"] < 400:
        parsed = module.Interaction.model_validate(response)
        assert [step.type for step in parsed.steps or ()] == [step["type"] for step in response.get("steps") or ()]


@pytest.mark.parametrize("name", parameters([name for name in GOOGLE if load(name).expect["is_sse"]]))
def test_the_only_event_is_the_body(name: str) -> None:
    """A stream of one event is what the call returns that does not stream, but for pieces and a last, empty text."""
    for event in plain_events(load(name).wire):
        text = json.dumps(event.data)
        if '"candidates"' in text and '"willContinue"' not in text and '"partialArgs"' not in text:
            _, response = reassemble("generate_content", wire(event.data))
            assert json.dumps(response, sort_keys=True) == json.dumps(event.data, sort_keys=True).replace(
                ', {"text": ""}]', "]"
            )


@every_one
def test_conventions(name: str) -> None:
    """What a span would say of each is in the conventions' table, and its reasons are the response's."""
    interaction = load(name)
    api = interaction.record_api
    reply, response = reassemble(api, interaction.wire)
    operation = {"gemini_count_tokens": "count_tokens", "batch_generate_content": "create_batch"}.get(api)
    operation = operation or ("embeddings" if "embed" in api or api == "predict" else "generate_content")
    record = make_trace(
        provider="gcp.gemini", api=api, operation=operation, request_model="m", finish_reasons=reply.finish_reasons,
        usage=reply.usage, response_json=json.dumps(response), service_tier=reply.service_tier,
        response_model=reply.response_model if operation != "embeddings" else None, response_id=None,
    )  # fmt: skip
    attributes = to_attributes(record)
    requested = request_attributes("gcp.gemini", api, interaction.request["body"] or {})
    assert [*attribute_faults(attributes | requested)] == []
    assert [*requirement_faults(attributes | requested)] == []
    if reply.normalized_reasons is not None and api == "generate_content":
        assert attributes.get("gen_ai.response.finish_reasons", ()) == reply.normalized_reasons
        raw = tuple(reason or "error" for reason in reply.finish_reasons)
        assert attributes.get("llmspan.response.finish_reasons", raw) == raw


def chunk(text: str, said: int, **more: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}
    counts = {"promptTokenCount": 5, "candidatesTokenCount": said, "totalTokenCount": 5 + said}
    details = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 5}]}
    return {"candidates": [candidate], "usageMetadata": counts | details, "modelVersion": "m", "responseId": "r"}


AFTER_THE_END = {
    "grounding": {"groundingMetadata": {"webSearchQueries": ["q"]}},
    "empty text": {"content": {"parts": [{"text": ""}], "role": "model"}},
    "no part": {"content": {"role": "model"}},
}


@pytest.mark.parametrize("later", AFTER_THE_END.values(), ids=AFTER_THE_END)
def test_only_content_reopens_a_finished_candidate(later: dict[str, Any]) -> None:
    """An event without content of its own leaves it finished; one with text says that there was more to come."""
    stream = wire(chunk("a", 1, finishReason="STOP"), {"candidates": [{"index": 0, **later}]})
    assert summarize("generate_content", stream).terminal
    assert not summarize("generate_content", stream + wire(chunk("b", 2))).terminal


def test_a_long_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds of chunks whose counts grow a handful are read, the last among those: its counts are facts."""
    parser = PARSERS["generate_content"]
    fed: list[Any] = []
    event = parser.event
    monkeypatch.setattr(parser, "event", lambda self, *args: (fed.append(args), event(self, *args))[1])
    cut = wire(*(chunk(f"word{n}", n) for n in range(1, 400)))
    assert summarize("generate_content", cut).usage.output_tokens == 399
    assert len(fed) <= 3
    whole = cut + wire(chunk("", 400, finishReason="STOP"))
    reply = summarize("generate_content", whole)
    assert (reply.usage.output_tokens, reply.terminal) == (400, True)
    assert len(fed) <= 6
    assert reply == replace(reassemble("generate_content", whole)[0], chunk_count=None)


@pytest.mark.parametrize("body", [b"[]", b"[1]", b'[{"candidates": []}', b'["x", {}]'])
def test_arrays_without_events(body: bytes) -> None:
    """An array that has no response in it, or is cut, is no stream and no error of ours."""
    reply, _ = both("generate_content", body)
    assert (reply.usage.source, reply.error) == ("none", None)


def test_an_array_with_an_error() -> None:
    """The API answers a stream that it refuses with an array, too."""
    reply, _ = both("generate_content", b'[{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "m"}}]')
    assert reply.error is not None
    assert error_type(reply.error, http_status=429) == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("path", ["$", "a", "$.", "$.a[9999999]", "$[0]", "$.a.b[", "$" + ".a" * 99, "$['a", ""])
def test_paths_that_lead_nowhere(path: str) -> None:
    """A piece of an argument whose path is none is passed over; the others stay."""
    pieces = [{"jsonPath": "$.ok", "stringValue": "x"}, {"jsonPath": path, "stringValue": "y"}, {"jsonPath": 7}]
    part = {"functionCall": {"name": "f", "partialArgs": pieces}}
    _, response = reassemble("generate_content", wire({"candidates": [{"content": {"parts": [part]}}]}))
    assert response["candidates"][0]["content"]["parts"] == [{"functionCall": {"name": "f", "args": {"ok": "x"}}}]


def test_pieces_in_the_way() -> None:
    """Pieces that contradict each other, and indices with gaps, are read as far as they can be."""
    pieces = [
        {"jsonPath": "$.a", "stringValue": "x"}, {"jsonPath": "$.a.b", "stringValue": "y"},
        {"jsonPath": "$.l[7]", "stringValue": "one"}, {"jsonPath": "$.l[7]", "stringValue": " more"},
        {"jsonPath": "$.a", "numberValue": 3},
    ]  # fmt: skip
    part = {"functionCall": {"name": "f", "partialArgs": pieces}}
    _, response = reassemble("generate_content", wire({"candidates": [{"content": {"parts": [part]}}]}))
    assert next(parts_of(response))["functionCall"]["args"] == {"a": 3, "l": ["one more"]}


def test_every_google_api_is_replayed() -> None:
    """Each has a parser and an interaction of our own."""
    apis = {name for name, (provider, _) in CALLS.items() if provider == "google"}
    assert apis <= PARSERS.keys()
    assert apis == {Interaction.load(name).prefix for name in GOOGLE if Interaction.load(name).is_own}
