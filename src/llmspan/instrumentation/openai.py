"""OpenAI: which of the SDK's calls are recorded, the endpoints of its clients, and the usage of chat streams.

The only file that uses openai's types, by their attributes: it never imports the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import getclosurevars
from typing import Any, Final

from .._setting_values import names_host
from ..settings import IncludeUsage
from .call import Call, Endpoint, Route
from .observer import Observer
from .routes import is_api_root, match_route, path_segments
from .stainless.hooks import Provider, RequestOverrides
from .stainless.websocket import CONNECTIONS, connection_patches

_ROUTES: Final = {
    "/chat/completions": Route("chat", "chat_completions"),
    "/responses": Route("chat", "responses"),
    "/responses/compact": Route("chat", "responses_compact"),
    "/responses/input_tokens": Route("count_tokens", "input_tokens"),
    "/completions": Route("text_completion", "completions"),
    "/embeddings": Route("embeddings", "embeddings"),
    "/images/generations": Route("generate_content", "images"),
    "/images/edits": Route("generate_content", "images"),
    "/images/variations": Route("generate_content", "images"),
    "/audio/speech": Route("generate_content", "speech"),
    "/audio/transcriptions": Route("generate_content", "transcriptions"),
    "/audio/translations": Route("generate_content", "translations"),
    "/decisions": Route("generate_content", "decisions"),
    "/moderations": Route("moderation", "moderations"),
}
_FETCH: Final = Route("fetch_response", "responses")

#: last labels of a host with an OpenAI-compatible API -> ``gen_ai.provider.name``
_HOSTS: Final = {
    "openai.azure.com": "azure.ai.openai",
    "openai.azure.us": "azure.ai.openai",
    "openai.azure.cn": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "amazonaws.com": "aws.bedrock",
    "api.aws": "aws.bedrock",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "openrouter.ai": "openrouter",
}
_CLIENTS: Final = {"Azure": "azure.ai.openai", "Bedrock": "aws.bedrock"}
#: the global host and the regional ones (``eu.api.openai.com``)
_OPENAI_HOSTS: Final = ("api.openai.com", "*.api.openai.com")
#: the first dated Azure API version that is generally available and takes ``stream_options``
_AZURE_STREAM_OPTIONS: Final = "2024-10-21"


def route(options: Any) -> Route | None:
    """The kind of call that these options describe."""
    method = options.method.lower()
    if method == "post":
        return _ROUTES.get(options.url) or match_route(_ROUTES, options.url)
    return _FETCH if method == "get" and _is_response(path_segments(options.url)) else None


def _is_response(segments: Sequence[str]) -> bool:
    return len(segments) > 1 and segments[-2] == "responses" and is_api_root(segments[:-2])


def endpoint(client: Any, url: Any = None) -> Endpoint:
    """The endpoint at ``url`` (the client's ``base_url`` by default).

    The client's class, or else the host, names the provider. The provider of an unknown host is ``openai``: that is the
    API that it offers.
    """
    url = url or client.base_url
    version = getattr(client, "_version", None)
    return Endpoint(
        provider=_by_class(client) or host_provider(url.host) or "openai",
        address=url.host or None,
        port=url.port or (443 if url.scheme == "https" else 80),
        sdk=f"openai/{version}" if version else "openai",
    )


def host_provider(host: str) -> str | None:
    """The provider at ``host``; None for an unknown host."""
    labels = host.lower().replace("-aiplatform.", ".aiplatform.").split(".")  # Vertex: region-aiplatform
    suffixes = (".".join(labels[start:]) for start in range(len(labels)))
    return next((_HOSTS[suffix] for suffix in suffixes if suffix in _HOSTS), None)


def on_call_started(call: Call, options: Any) -> None:
    """Keep the id of a response that is fetched: if the fetch fails, it is the only place with the id."""
    if call.route is _FETCH:
        call.response_id = path_segments(options.url)[-1]


def on_request(observer: Observer, call: Call, client: Any, body: Mapping[str, Any]) -> RequestOverrides | None:
    """Request the usage of a chat stream, if ``LLMSPAN_INCLUDE_USAGE`` says so and the caller did not decide it.

    The caller gets the same chunks as without it: the additional one is hidden, and the ``usage: null`` that the other
    chunks then have is unset again.
    """
    options = call.options
    if call.route.api != "chat_completions" or not _requests_usage(observer.include_usage, call, client):
        return None
    if "stream_options" in body or _is_raw(options) or not isinstance(options.json_data, dict):
        return None
    changed = options.model_copy() if hasattr(options, "model_copy") else options.copy()
    changed.json_data = {**options.json_data, "stream_options": {"include_usage": True}}
    return RequestOverrides(changed, hides_event=is_usage_chunk)


def caller_body(options: Any, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """``body`` without the encoding of embeddings if the SDK has added it: the SDK decodes them again."""
    if body.get("encoding_format") != "base64" or _caller_set_encoding(options):
        return body
    return {key: value for key, value in body.items() if key != "encoding_format"}


def _caller_set_encoding(options: Any) -> bool:
    """Whether the caller set the encoding of embeddings. The SDK passes his value to its parser of the response.

    The parser is a partial function since 3.57, a closure before; the SDK has added nothing to a request without one.
    """
    extra = vars(options).get("extra_json")
    parser = vars(options).get("post_parser")
    if not callable(parser) or (isinstance(extra, Mapping) and "encoding_format" in extra):
        return True
    parameters = getattr(parser, "keywords", None) or getclosurevars(parser).nonlocals
    return isinstance(parameters.get("encoding_format"), str)


def is_usage_chunk(chunk: Any) -> bool:
    """Whether a chunk is the one that ``include_usage`` adds. Unsets the ``usage: null`` of other chunks."""
    if getattr(chunk, "usage", None) is None:
        fields = getattr(chunk, "model_fields_set", None)
        if isinstance(fields, set):
            fields.discard("usage")
        return False
    return not getattr(chunk, "choices", True)


def _requests_usage(setting: IncludeUsage, call: Call, client: Any) -> bool:
    """Whether ``LLMSPAN_INCLUDE_USAGE`` names the host of ``call``."""
    if setting in ("off", "on"):
        return setting == "on"
    hosts: tuple[str, ...] = ("auto",) if setting == "auto" else tuple(setting)
    if names_host(hosts, call.endpoint.address or "", call.endpoint.port):
        return True
    return "auto" in hosts and _supports_stream_options(call, client)


def _supports_stream_options(call: Call, client: Any) -> bool:
    host = call.endpoint.address or ""
    if names_host(_OPENAI_HOSTS, host, None):
        return _by_class(client) is None
    if host_provider(host) != "azure.ai.openai":
        return False
    version = getattr(client, "_api_version", None)
    return "/openai/v1" in client.base_url.path + call.path or (
        isinstance(version, str) and version[:10] >= _AZURE_STREAM_OPTIONS
    )


def _is_raw(options: Any) -> bool:
    """Whether a header marks the call as one of ``with_raw_response`` or ``with_streaming_response``."""
    headers = options.headers
    return isinstance(headers, Mapping) and any("raw-response" in str(name).lower() for name in headers)


def _by_class(client: Any) -> str | None:
    for kind in type(client).__mro__:
        for mark, provider in _CLIENTS.items():
            if kind.__module__.startswith("openai.") and mark in kind.__name__:
                return provider
    return None


PROVIDER: Final = Provider(
    name="openai",
    route=route,
    endpoint=endpoint,
    on_request=on_request,
    caller_body=caller_body,
    on_call_started=on_call_started,
    extra_patches=dict.fromkeys(CONNECTIONS, connection_patches),
    latest_tested_major=3,
)
