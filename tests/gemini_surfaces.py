"""The methods of google-genai that are recorded: what they are called with, answered with, and recorded as."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.genai import types

from gemini_server import BODY, EVENTS, Answer, event

MODEL = "gemini-2.5-flash"
GEMINI = {"model": MODEL, "contents": "hi"}
_SPENT = (1200, 350)
_IMAGE = base64.b64encode(b"\x89PNG not really").decode()
INTERACTION = {
    "id": "v1_1", "object": "interaction", "model": MODEL, "status": "completed", "created": "2026-11-01T00:00:00Z",
    "updated": "2026-11-01T00:00:00Z", "steps": [{"type": "model_output", "content": [{"type": "text", "text": "Hi"}]}],
    "usage": {"total_tokens": 9, "total_input_tokens": 4, "total_output_tokens": 2, "total_thought_tokens": 3},
}  # fmt: skip
_STARTED = {key: INTERACTION[key] for key in ("id", "object", "model", "created", "updated")} | {
    "status": "in_progress"
}
_INTERACTION_EVENTS = [
    event({"event_type": "interaction.created", "interaction": {**_STARTED, "status": "in_progress"}}),
    event({"event_type": "step.start", "index": 0, "step": {"type": "model_output"}}),
    event({"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "Hi"}}),
    event({"event_type": "step.stop", "index": 0}),
    event({"event_type": "interaction.completed", "interaction": INTERACTION}),
    b"data: [DONE]\n\n",
]
_QUESTIONS = {"polite": {"type": "noul", "instructions": "Is it polite?"}}
_DECIDED = {"answers": {"polite": {"type": "noul", "noul": 0.9, "confidence": 0.9}}, "usage": INTERACTION["usage"]}
_CACHE = {
    "name": "cachedContents/1", "model": f"models/{MODEL}", "createTime": "2026-11-01T00:00:00Z",
    "usageMetadata": {"totalTokenCount": 4096},
}  # fmt: skip
_BATCH = {"name": "batches/1", "metadata": {"state": "BATCH_STATE_PENDING", "model": f"models/{MODEL}"}}


@dataclass(frozen=True)
class Surface:
    """One method: ``path`` leads from a client, or from its ``aio``, to it."""

    path: str
    arguments: dict[str, Any]
    answer: Callable[[], Answer]
    api: str
    operation: str = "generate_content"
    usage: tuple[int | None, int | None] = (None, None)
    stream: bool = False
    vertex: bool = False
    model: str | None = MODEL
    remark: str = ""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.path, self.remark)))


def _json(data: Any) -> Callable[[], Answer]:
    return lambda: Answer.json(data)


def _events(pieces: list[bytes]) -> Callable[[], Answer]:
    return lambda: Answer(pieces)


_EMBEDDINGS = {"operation": "embeddings", "model": "gemini-embedding-001"}
_EMBEDDED = {"model": "gemini-embedding-001", "contents": ["hi"]}
_VECTOR = {"values": [0.5], "statistics": {"token_count": 3}}

_PICTURE = types.Image(image_bytes=b"\x89PNG", mime_type="image/png")
_IMAGE_CALLS: dict[str, dict[str, Any]] = {
    "edit_image": {
        "model": "imagen-3.0-capability-001", "prompt": "a cat",
        "reference_images": [types.RawReferenceImage(reference_id=1, reference_image=_PICTURE)],
    },
    "recontext_image": {
        "model": "virtual-try-on-001",
        "source": types.RecontextImageSource(
            person_image=_PICTURE, product_images=[types.ProductImage(product_image=_PICTURE)]
        ),
    },
    "segment_image": {"model": "image-segmentation-001", "source": types.SegmentImageSource(image=_PICTURE)},
    "upscale_image": {"model": "imagen-4.0-upscale-preview", "image": _PICTURE, "upscale_factor": "x2"},
}  # fmt: skip

SURFACES = (
    Surface("models.generate_content", GEMINI, _json(BODY), "generate_content", usage=_SPENT),
    Surface("models.generate_content", GEMINI, _json(BODY), "generate_content", usage=_SPENT, vertex=True,
            remark="Vertex AI"),
    Surface("models.generate_content_stream", GEMINI, _events(EVENTS), "generate_content", usage=_SPENT, stream=True),
    Surface("models.generate_content_stream", GEMINI, _events(EVENTS), "generate_content", usage=_SPENT, stream=True,
            vertex=True, remark="Vertex AI"),
    Surface("chats.send_message", {"message": "hi"}, _json(BODY), "generate_content", usage=_SPENT),
    Surface("chats.send_message_stream", {"message": "hi"}, _events(EVENTS), "generate_content", usage=_SPENT,
            stream=True),
    Surface("models.embed_content", _EMBEDDED, _json({"embeddings": [{"values": [0.5]}]}), "batch_embed_contents",
            **_EMBEDDINGS),
    Surface("models.embed_content", _EMBEDDED | {"model": "text-embedding-005"},
            _json({"predictions": [{"embeddings": _VECTOR}]}), "predict", vertex=True, remark="Vertex AI",
            usage=(3, None), **_EMBEDDINGS | {"model": "text-embedding-005"}),
    Surface("models.count_tokens", GEMINI, _json({"totalTokens": 3}), "gemini_count_tokens", operation="count_tokens"),
    Surface("models.generate_images", {"model": "imagen-4.0-generate-001", "prompt": "a cat"},
            _json({"predictions": [{"bytesBase64Encoded": _IMAGE, "mimeType": "image/png"}]}), "imagen_predict",
            model="imagen-4.0-generate-001", vertex=True, remark="Vertex AI"),
    *(Surface(f"models.{name}", arguments, _json({"predictions": [{"bytesBase64Encoded": _IMAGE}]}), "imagen_predict",
              model=arguments["model"], vertex=True, remark="Vertex AI")
      for name, arguments in _IMAGE_CALLS.items()),
    Surface("caches.create", {"model": MODEL, "config": {"contents": "hi"}}, _json(_CACHE), "cached_contents",
            operation="create_cache"),
    Surface("batches.create", {"model": MODEL, "src": [{"contents": [{"parts": [{"text": "hi"}]}]}]}, _json(_BATCH),
            "batch_generate_content", operation="create_batch"),
    Surface("batches.create_embeddings",
            {"model": "gemini-embedding-001", "src": {"inlined_requests": {"contents": ["hi"]}}}, _json(_BATCH),
            "batch_generate_content", operation="create_batch", model="gemini-embedding-001"),
    Surface("interactions.create", {"model": MODEL, "input": "hi"}, _json(INTERACTION), "interactions", usage=(4, 5)),
    Surface("interactions.create", {"model": MODEL, "input": "hi", "stream": True}, _events(_INTERACTION_EVENTS),
            "interactions", usage=(4, 5), stream=True, remark="stream"),
    Surface("decisions.create", {"model": MODEL, "input": "hi", "questions": _QUESTIONS}, _json(_DECIDED),
            "gemini_decisions", usage=(4, 5)),
    Surface("interactions.get", {"id": "v1_1"}, _json(INTERACTION), "interactions", operation="fetch_response",
            model=None),
)  # fmt: skip


def method_of(client: Any, surface: Surface) -> Any:
    *parts, name = surface.path.split(".")
    for part in parts:
        client = getattr(client, part)
    return getattr(client.create(model=MODEL) if parts == ["chats"] else client, name)


def call(client: Any, surface: Surface) -> list[Any]:
    result = method_of(client, surface)(**surface.arguments)
    return list(result) if surface.stream else [result]


async def call_async(client: Any, surface: Surface) -> list[Any]:
    result = await method_of(client.aio, surface)(**surface.arguments)
    return [chunk async for chunk in result] if surface.stream else [result]
