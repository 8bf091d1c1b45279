"""Files that are uploaded, and audio that comes back: said what they are, never kept, never touched."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from llmspan.content import ContentPolicy
from replay import Pieces, client_for
from surfaces import AUDIO
from watching import Watch, watching

CONTENT = b"planted audio " * 100
SHA = hashlib.sha256(CONTENT).hexdigest()


def server(seen: list[httpx2.Request]) -> httpx2.MockTransport:
    def answer(request: httpx2.Request) -> httpx2.Response:
        request.read()
        seen.append(request)
        return httpx2.Response(200, json={"text": "hello", "data": [], "created": 1})

    return httpx2.MockTransport(answer)


class Counting(io.BytesIO):
    """A file that counts how often it is read and moved."""

    reads = 0

    def read(self, *args: Any) -> bytes:
        self.reads += 1
        return super().read(*args)


def transcribe(file: Any) -> bytes:
    """Uploads a file; the body that was sent, the boundary left out."""
    seen: list[httpx2.Request] = []
    with client_for("openai", server(seen)) as client:
        client.audio.transcriptions.create(model="whisper-1", file=file, extra_body={"temperature": 0.5})
    (request,) = seen
    boundary = request.headers["content-type"].partition("boundary=")[2]
    return request.content.replace(boundary.encode(), b"")


def kinds(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "talk.mp3"
    path.write_bytes(CONTENT)
    return {
        "bytes": lambda: ("talk.mp3", CONTENT),
        "path": lambda: path,
        "file": lambda: path.open("rb"),
        "memory": lambda: ("talk.mp3", io.BytesIO(CONTENT), "audio/mpeg"),
        "own": lambda: ("talk.mp3", Counting(CONTENT), "audio/mpeg"),
    }


@pytest.mark.parametrize("kind", ["bytes", "path", "file", "memory", "own"])
def test_what_is_said_of_a_file(kind: str, tmp_path: Path, watch: Watch) -> None:
    """Name, type and, where that costs nothing, size and hash; the fields beside it; and not one byte of it."""
    file = kinds(tmp_path)[kind]()
    transcribe(file)
    (record,) = watch.records
    sent = json.loads(record.request_json or "")
    said = sent.pop("file")
    assert sent == {"model": "whisper-1", "temperature": 0.5}
    assert (said["filename"], said["content_type"]) == ("talk.mp3", "audio/mpeg")
    assert said.get("bytes") == (None if kind == "own" else len(CONTENT))
    assert said.get("sha256") == (None if kind in ("own", "file") else SHA)
    assert "planted" not in record.to_json()
    assert (record.request_bytes or 0) > len(CONTENT)
    if kind == "file":
        file.close()


@pytest.mark.parametrize("kind", ["bytes", "path", "file", "memory", "own"])
def test_the_upload_is_what_it_is_without_us(kind: str, tmp_path: Path) -> None:
    """The same bytes go over the wire, and the user's file is read as often and left at the same place."""
    results = []
    for observed in (False, True):
        file = kinds(tmp_path)[kind]()
        if observed:
            with watching() as watch:
                body = transcribe(file)
                assert len(watch.records) == 1
        else:
            body = transcribe(file)
        handle = file[1] if isinstance(file, tuple) else file
        at = handle.tell() if hasattr(handle, "tell") else None
        results.append((body, at, getattr(handle, "reads", None)))
        if kind == "file":
            file.close()
    assert results[0] == results[1]


def test_several_files_of_one_name(watch: Watch) -> None:
    """Images that are edited together are a list, in order."""
    images = [(f"{name}.png", name.encode(), "image/png") for name in ("a", "b")]
    with client_for("openai", server([])) as client:
        client.images.edit(model="gpt-image-1", prompt="both", image=images, mask=("m.png", b"m", "image/png"))
    sent = json.loads(watch.records[0].request_json or "")
    assert [file["filename"] for file in sent["image[]"]] == ["a.png", "b.png"]
    assert sent["mask"]["bytes"] == 1
    assert sent["prompt"] == "both"


def test_uploads_obey_the_policy() -> None:
    """With ``LLMSPAN_CAPTURE_PAYLOADS=metadata``, nothing is said of the files either."""
    with watching(policy=ContentPolicy(keep=False)) as watch:
        transcribe(("talk.mp3", CONTENT))
    assert watch.records[0].request_json is None
    assert watch.records[0].request_bytes


def speech(pieces: list[bytes], kind: str = "audio/mpeg") -> httpx2.MockTransport:
    return httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"content-type": kind}, stream=Pieces(list(pieces)))
    )


SPEECH = {"model": "tts-1", "voice": "alloy", "input": "hi"}


@pytest.mark.parametrize("kind", ["audio/mpeg", "audio/pcm", "application/octet-stream"])
@pytest.mark.parametrize("content", [AUDIO, b'{"looks": "like"} JSON', b"\x00\x00\x00\x00 silence", b"data: x\n\n"])
def test_audio_is_described(kind: str, content: bytes, watch: Watch) -> None:
    """Whatever audio looks like, its record is its type, size and hash, and none of its bytes."""
    with client_for("openai", speech([content[:3], content[3:]], kind)) as client:
        assert client.audio.speech.create(**SPEECH).read() == content
    record, _ = watch.only()
    said = json.loads(record.response_json or "")
    assert said == {"content_type": kind, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert (record.status, record.response_bytes) == ("ok", len(content))


def test_audio_that_was_not_read_to_its_end(watch: Watch) -> None:
    """Audio cannot say that it is done; whoever stops reading it has closed it early."""
    client = client_for("openai", speech([AUDIO[:100], AUDIO[100:]]))
    with client.audio.speech.with_streaming_response.create(**SPEECH) as response:
        next(response.iter_bytes(50))
    record, _ = watch.only()
    assert record.status == "closed_early"
    assert json.loads(record.response_json or "")["bytes"] == 100


@pytest.mark.parametrize("count", [17, 40, 100])
@pytest.mark.parametrize("streamed", [False, True])
def test_audio_beyond_the_limit(streamed: bool, count: int) -> None:
    """Of audio too long to be held, the size is right, and there is no hash of the half."""
    with watching(policy=ContentPolicy(max_bytes=1000)) as watch:
        client = client_for("openai", speech([b"a" * 100_000] * count))
        if streamed:
            with client.audio.speech.with_streaming_response.create(**SPEECH) as response:
                assert sum(map(len, response.iter_bytes())) == 100_000 * count
        else:
            assert len(client.audio.speech.create(**SPEECH).read()) == 100_000 * count
    record, _ = watch.only()
    said = json.loads(record.response_json or "")
    assert said["bytes"] == 100_000 * count
    assert ("sha256" in said) is not streamed
    assert (record.response_bytes, record.status) == (100_000 * count, "ok")


def test_an_error_instead_of_audio(watch: Watch) -> None:
    """The error of a speech call is read as any other."""
    error = {"error": {"type": "invalid_request_error", "message": "no such voice", "code": None}}
    mock = httpx2.MockTransport(lambda _: httpx2.Response(400, json=error))
    with client_for("openai", mock) as client, pytest.raises(openai.BadRequestError):
        client.audio.speech.create(**SPEECH)
    record, _ = watch.only()
    assert (record.status, record.error_type) == ("error", "invalid_request_error")
    assert json.loads(record.response_json or "") == error
