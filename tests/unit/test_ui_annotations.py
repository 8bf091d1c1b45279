"""Notes and scores, and comparisons, in the viewer: forms without a script, refusals, and text that stays text."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from llmspan.annotation import Annotation
from llmspan.backends.memory import MemoryBackend
from llmspan.errors import RefusedError
from records import make_trace
from viewer import TOKEN, Answer, Viewer, viewing

EVIL = "<script>document.title='owned'</script>"


def send(viewer: Viewer, path: str, *, origin: str | None = None, **fields: str) -> Answer:
    headers = {
        "Cookie": f"llmspan_ui_{viewer.port}={TOKEN}", "Content-Type": "application/x-www-form-urlencoded",
        "Origin": viewer.address if origin is None else origin,
    }  # fmt: skip
    return viewer.ask(path, method="POST", headers=headers, body=urlencode(fields))


def test_a_note_is_added_shown_and_removed() -> None:
    """The form stores what it has and leads back to the page, which escapes it; its button takes it out again."""
    backend = MemoryBackend()
    backend.write([make_trace(id="call/1 x")])
    with viewing(backend) as viewer:
        path = "/annotations/call%2F1%20x"
        assert f'action="{path}" method="post">' in viewer.ask("/call/call%2F1%20x").text
        answer = send(viewer, path, name=EVIL, value="-1", comment=EVIL, source=EVIL)
        assert (answer.status, answer.headers["location"]) == (303, path)
        (note,) = backend.annotations(["call/1 x"], [], 10)
        assert (note.name, note.value, note.comment, note.source) == (EVIL, -1.0, EVIL, EVIL)
        text = viewer.ask(path).text
        assert EVIL not in text
        assert text.count("&lt;script&gt;") >= 3
        assert send(viewer, path, remove=note.id).status == 303
        assert backend.annotations(["call/1 x"], [], 10) == []


def test_notes_are_on_the_page_of_their_call() -> None:
    """The call's page has its notes and their form, which leads back to it; the JSON is that of ``show --json``."""
    backend = MemoryBackend()
    record = make_trace(id="call")
    backend.write([record])
    with viewing(backend) as viewer:
        assert viewer.ask("/json/call/call").text == f"{record.to_json_line()}\n"
        answer = send(viewer, "/annotations/call", page="call", name=EVIL, value="2.5", comment=f"said {EVIL}")
        assert (answer.status, answer.headers["location"]) == (303, "/call/call")
        text = viewer.ask("/call/call").text
        assert ("2.5" in text, "said &lt;script&gt;" in text, EVIL in text) == (True, True, False)
        (line,) = viewer.ask("/json/call/call").text.splitlines()
        assert [note["value"] for note in json.loads(line)["annotations"]] == [2.5]


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other pages, empty notes, calls that are not there, large forms, and a store that may only be read."""
    backend = MemoryBackend()
    backend.write([make_trace(id="call")])
    with viewing(backend) as viewer:
        for origin in ("https://evil.example", "null", "", "http://["):
            assert send(viewer, "/annotations/call", origin=origin, value="1").status == 403
        assert send(viewer, "/annotations/call").status == 400
        assert send(viewer, "/annotations/other", value="1").status == 400
        assert send(viewer, "/annotations/call", **{f"field{number}": "1" for number in range(25)}).status == 400
        assert send(viewer, "/annotations/call", comment="x" * 200_000).status == 413
        assert viewer.ask("/annotations/other").status == 404
        assert backend.annotations(["call"], [], 10) == []

        def refuse(annotation: Annotation) -> None:
            raise RefusedError("the user 'reader' may not change annotations; GRANT INSERT")

        monkeypatch.setattr(backend, "annotate", refuse)
        answer = send(viewer, "/annotations/call", value="1")
        assert (answer.status, "GRANT INSERT" in answer.text, "may not write" in answer.text) == (403, True, True)
        assert viewer.ask("/annotations/call").status == 200


def test_two_calls_side_by_side() -> None:
    """The page has what differs, escaped; without ids a form, and what is not there is named."""
    backend = MemoryBackend()
    request = '{"model": "m", "messages": [{"role": "user", "content": "%s"}]}'
    backend.write([
        make_trace(id="first-call", request_json=request % "hello", run_id="one"),
        make_trace(id="second-call", request_json=request % EVIL, status="error", run_id="two"),
    ])  # fmt: skip
    with viewing(backend) as viewer:
        page = viewer.ask("/diff?a=first-call&b=second-call")
        assert page.status == 200
        assert "<del>- hello</del>" in page.text
        assert EVIL not in page.text
        assert "1. " in viewer.ask("/diff?a=one&b=two").text
        assert viewer.ask("/diff?a=first-call").status == 200
        assert viewer.ask("/diff?a=first-call&b=nothing").status == 404
        assert viewer.ask("/diff.json?a=one&b=two").text.startswith('{"kind":"run"')
