"""Which requests of the SDK are recorded: by their path, which also names the model, and where they are sent."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ..call import Endpoint, Route

#: the API's method, behind the last colon of a path -> the kind of call
_METHODS: Final = {
    "generateContent": Route("generate_content", "generate_content"),
    "streamGenerateContent": Route("generate_content", "generate_content"),
    "batchEmbedContents": Route("embeddings", "batch_embed_contents"),
    "embedContent": Route("embeddings", "embed_content"),
    "countTokens": Route("count_tokens", "gemini_count_tokens"),
    "batchGenerateContent": Route("create_batch", "batch_generate_content"),
    "asyncBatchEmbedContent": Route("create_batch", "batch_generate_content"),
}
_PREDICT: Final = "predict"
_EMBEDDINGS: Final = Route("embeddings", "predict")
_IMAGES: Final = Route("generate_content", "imagen_predict")
#: the last segment of a path without a model, which the body names
_NAMED_IN_BODY: Final = {
    "cachedContents": Route("create_cache", "cached_contents"),
    "batchPredictionJobs": Route("create_batch", "batch_generate_content"),
}
_INTERACTION: Final = Route("generate_content", "interactions")
_FETCH: Final = Route("fetch_response", "interactions")
_DECISION: Final = Route("generate_content", "gemini_decisions")
_DECISIONS: Final = "/decisions"
_BATCH_PATH: Final = re.compile(r"batches/[^/:?]+$")
_INTERACTIONS_PATH: Final = re.compile(r"/interactions(?:/([^/]+))?/*$")


class Target(NamedTuple):
    """What the path of a request says."""

    route: Route
    model: str | None = None
    stream: bool = False


def target(http_method: str, path: str, body: Mapping[str, Any]) -> Target | None:
    """The target of a request of ``BaseApiClient``; None if it is not recorded."""
    if http_method.lower() != "post":
        return None
    resource = path.partition("?")[0]
    route = _NAMED_IN_BODY.get(resource.rpartition("/")[2])
    if route is not None:
        model = body.get("model")
        return Target(route, model_name(model) if isinstance(model, str) else None)
    resource, _, method = resource.rpartition(":")
    route = _predict_route(body) if method == _PREDICT else _METHODS.get(method)
    return None if route is None else Target(route, model_name(resource), method == "streamGenerateContent")


def fetched_batch(http_method: str, path: str) -> str | None:
    """The name of the batch of the Gemini API that a request asks for; None if it asks for something else."""
    resource = path.partition("?")[0]
    return resource if http_method.lower() == "get" and _BATCH_PATH.match(resource) else None


def interaction_target(http_method: str, path: str) -> tuple[Route, str | None] | None:
    """The kind of a request of the interactions client, and the id of the interaction that it fetches."""
    if path.endswith(_DECISIONS):
        return (_DECISION, None) if http_method.upper() == "POST" else None
    match = _INTERACTIONS_PATH.search(path)
    if match is None:
        return None
    method = http_method.upper()
    if method == "POST":
        return None if match[1] else (_INTERACTION, None)
    return (_FETCH, match[1]) if method == "GET" and match[1] else None


def _predict_route(body: Mapping[str, Any]) -> Route:
    """Image models and Vertex AI's embeddings share a method; the instances of the latter have a content."""
    instances = body.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    return _EMBEDDINGS if isinstance(first, dict) and "content" in first else _IMAGES


def model_name(resource: str) -> str | None:
    """The model that ``resource`` names, as the caller knows it: ``models/m`` is ``m``, others keep their kind."""
    return resource.rpartition("models/")[2] if "/models/" in f"/{resource}" else resource.rpartition("locations/")[2]


def endpoint(api_client: Any, http_options: Any) -> Endpoint:
    """The endpoint of a request; its own options may name another server than the client's."""
    url = _base_url(http_options) or _base_url(getattr(api_client, "_http_options", None))
    return endpoint_of(bool(getattr(api_client, "vertexai", False)), url or "")


@lru_cache(maxsize=64)
def endpoint_of(is_vertex: bool, url: str) -> Endpoint:
    """The endpoint of requests to ``url``. A proxy's address says nothing of the platform: the client's flag does."""
    parts = urlsplit(url)
    version = getattr(sys.modules.get("google.genai.version"), "__version__", None)
    return Endpoint(
        provider="gcp.vertex_ai" if is_vertex else "gcp.gemini",
        address=parts.hostname,
        port=parts.port or (80 if parts.scheme == "http" else 443),
        sdk=f"google-genai/{version}" if version else "google-genai",
    )


def _base_url(http_options: Any) -> str | None:
    if isinstance(http_options, Mapping):
        url = http_options.get("base_url") or http_options.get("baseUrl")
    else:
        url = getattr(http_options, "base_url", None)
    return url if isinstance(url, str) and url else None
