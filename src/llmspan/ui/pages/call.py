"""One call: its conversation, its numbers, and its request and response as they were sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ...annotation import Annotation, annotated_json_line, value_text
from ...reader import Reader
from ...trace import ProviderTrace
from ...usage_notes import SOURCE_NOTES, usage_note
from ..conversation_view import conversation_of
from ..costs import call_cost
from ..formats import indent_json, token_bar, total_tokens
from ..neighbours import Neighbours, neighbours_of
from ..note_forms import CALL_NOTES, NoteForm, obstacle_of
from ..rendering import page_of, query_string, render, store_of, term
from ..snippets import snippets_of

__all__ = ["call", "call_json"]

#: the tabs of the page
TABS: Final = ("messages", "tools", "request", "response", "usage", "timing", "attributes")
#: so many characters of a payload are on the page until all of it is asked for
_CUT: Final = 100_000
_FACTS: Final = (
    "id", "api", "provider", "operation", "request_model", "response_model", "response_id", "request_id",
    "service_tier", "server_address", "server_port", "sdk", "source", "trace_id", "span_id", "parent_span_id",
    "step_id", "run_id", "agent_id", "conversation_id", "user_id", "org_id", "call_type",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Payload:
    """A request or response as text; ``left_out`` is the number of characters that the page does not show."""

    text: str | None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A call with what the store has beside it: the calls before and after, notes and scores."""

    record: ProviderTrace
    neighbours: Neighbours | None
    notes: Sequence[Annotation]
    form: NoteForm


async def call(request: Request) -> Response:
    """The page of a call."""
    record_id: str = request.path_params["id"]
    result = await store_of(request).run(lambda reader: _find_call(request, reader, record_id))
    if result is None:
        return _missing(request)
    tab = request.query_params.get("tab", TABS[0])
    tab = tab if tab in TABS else TABS[0]
    is_complete = request.query_params.get("all") == "1"

    # in a thread: a long conversation takes its time, in which other pages are to be answered
    def make() -> Response:
        values = _values(result.record, tab, is_complete=is_complete)
        beside = {"neighbours": result.neighbours, "notes": result.notes, "note_form_of": result.form}
        return render(request, "call.html", {**values, **beside, "value_text": value_text})

    return await asyncio.to_thread(make)


def _find_call(request: Request, reader: Reader, record_id: str) -> FoundCall | None:
    record = reader.find(record_id)
    if record is None:
        return None
    notes = reader.annotations(record_id=record.id, trace_id=record.trace_id)
    form = NoteForm(CALL_NOTES, record.id, "call", record.id, obstacle_of(request, reader))
    return FoundCall(record, neighbours_of(reader, record), notes, form)


async def call_json(request: Request) -> Response:
    """The record as ``llmspan show --json`` prints it."""
    record_id: str = request.path_params["id"]

    def read(reader: Reader) -> str | None:
        record = reader.find(record_id)
        if record is None:
            return None
        return annotated_json_line(record, reader.annotations(record_id=record.id, trace_id=record.trace_id))

    line = await store_of(request).run(read)
    return _missing(request) if line is None else Response(f"{line}\n", media_type="application/json")


def _missing(request: Request) -> Response:
    text = f"There is no call {request.path_params['id']!r} in this store."
    return render(request, "problem.html", {"title": "No such call", "text": text, "remedy": None}, status=404)


def _values(record: ProviderTrace, tab: str, *, is_complete: bool) -> dict[str, Any]:
    return {
        "record": record,
        "tab": tab,
        "tabs": TABS,
        "error_text": None if record.error_json is None else _indented(record.error_json),
        "bar_of": token_bar(record.usage, total_tokens(record.usage) or 0),
        "cost": call_cost(record),
        "usage_note": usage_note(record) or SOURCE_NOTES.get(record.usage.source),
        "links": _links(record),
        "snippets": snippets_of(record),
        "indent": _indented,
        **_values_of_tab(record, tab, is_complete=is_complete),
    }


def _values_of_tab(record: ProviderTrace, tab: str, *, is_complete: bool) -> dict[str, Any]:
    """What only the chosen tab shows: payloads may be large."""
    if tab in ("messages", "tools"):
        return {"conversation": conversation_of(record, is_complete=is_complete)}
    if tab in ("request", "response"):
        text = record.request_json if tab == "request" else record.response_json
        return {"content": _payload(text, is_complete=is_complete)}
    if tab == "usage":
        return {"usage_raw": None if record.usage.raw is None else _indented(record.usage.raw)}
    return {"facts": [(name, getattr(record, name)) for name in _FACTS if getattr(record, name) is not None]}


def _links(record: ProviderTrace) -> list[tuple[str, str, str]]:
    """What the call belongs to: a name, the address of its page, and the id."""
    pages = [("trace", "trace", record.trace_id), ("run", "run", record.run_id)]
    pages.append(("conversation", "conversation", record.conversation_id))
    links = [(name, page_of(page, value), value) for name, page, value in pages if value]
    keys = [("user", record.user_id), ("org", record.org_id), ("agent", record.agent_id), ("step", record.step_id)]
    # a user or a step has no page of its own: the list of calls, filtered, is that page
    links += [(name, f"/{query_string(q=term(f'{name}_id', value))}", value) for name, value in keys if value]
    return links


def _payload(text: str | None, *, is_complete: bool) -> Payload:
    if text is None:
        return Payload(None)
    indented = indent_json(text)
    visible = indented if is_complete else indented[:_CUT]
    return Payload(visible, len(indented) - len(visible))


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
