"""Calls of Google's APIs as programs: Python for the Gemini API and Vertex AI, curl for the former.

The URL of a request to Vertex AI has the project, which records do not.
"""

from __future__ import annotations

from typing import Any, Final

from ..trace import ProviderTrace
from .snippet_texts import base_url, curl, sdk_call

__all__ = ["APIS", "curl_snippet", "python_snippet"]

APIS: Final = frozenset({"batch_embed_contents", "generate_content", "interactions"})
_IMPORT: Final = "from google import genai"
_HOST: Final = "generativelanguage.googleapis.com"
#: it has all that ``v1`` has; records do not say which of the two it was
_VERSION: Final = "v1beta"
_KEY: Final = '-H "x-goog-api-key: $GEMINI_API_KEY"'
_VERTEX: Final = "aiplatform.googleapis.com"
#: members of a request that are no members of the SDK's ``config``
_ARGUMENTS: Final = frozenset({"contents", "generationConfig"})


def python_snippet(record: ProviderTrace, body: dict[str, Any]) -> str | None:
    """The call by ``google-genai``; None for embeddings, which the SDK's method spells otherwise."""
    if record.api == "interactions":
        return sdk_call(_IMPORT, _client(record), "interactions.create", body, stream=bool(body.get("stream")))
    if record.api != "generate_content" or record.request_model is None:
        return None
    config = {**_object(body.get("generationConfig"))}
    config |= {key: value for key, value in body.items() if key not in _ARGUMENTS}
    arguments = {"model": record.request_model, "contents": body.get("contents")}
    arguments |= {"config": config} if config else {}
    method = "models.generate_content_stream" if record.stream else "models.generate_content"
    return sdk_call(_IMPORT, _client(record), method, arguments, stream=record.stream)


def curl_snippet(record: ProviderTrace, body: dict[str, Any]) -> str | None:
    """The request by curl; None for one to Vertex AI."""
    path = "interactions" if record.api == "interactions" else _method_path(record)
    if path is None or record.provider == "gcp.vertex_ai":
        return None
    return curl(f"{base_url(record, _HOST) or f'https://{_HOST}'}/{_VERSION}/{path}", _KEY, body)


def _method_path(record: ProviderTrace) -> str | None:
    """A method of a model as the URL has it."""
    model = record.request_model
    if model is None:
        return None
    method = "batchEmbedContents" if record.api == "batch_embed_contents" else "generateContent"
    method = "streamGenerateContent?alt=sse" if record.stream else method
    return f"{model if '/' in model else f'models/{model}'}:{method}"


def _client(record: ProviderTrace) -> str:
    """The client of a call; the project of Vertex AI is in the environment."""
    arguments: list[str] = []
    host = record.server_address or ""
    if record.provider == "gcp.vertex_ai":
        arguments.append("vertexai=True")
        if host.endswith(_VERTEX):
            arguments.append(f"location={host.removesuffix(_VERTEX).removesuffix('-') or 'global'!r}")
            return f"genai.Client({', '.join(arguments)})"
    url = base_url(record, _HOST)
    arguments += [f"http_options={ {'base_url': url}!r}"] if url else []
    return f"genai.Client({', '.join(arguments)})"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
