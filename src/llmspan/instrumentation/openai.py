"""OpenAI: which of the SDK's calls are recorded, whom its clients talk to, and the usage of chat streams.

The only file that knows openai's types, and it knows them by attribute: it never imports the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import getclosurevars
from typing import Any, Final

from .._setting_values import names_host
from ..settings import IncludeUsage
from ._call import Call, Route, Target
from ._endpoints import is_api_root, match_route, path_segments
from ._observe import Observer
from ._socket import CONNECTIONS, connection_patches
from ._stainless import Prepared, Provider

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

#: who speaks OpenAI's language at which host (``gen_ai.provider.name``, by its last labels)
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


def target(client: Any, url: Any = None) -> Target:
    """Whom a client talks to at ``url`` (its ``base_url`` by default): told by its class, then by the host.

    ``openai`` stands for the language that a host speaks.
    """
    url = url or client.base_url
    version = getattr(client, "_version", None)
    return Target(
        provider=_by_class(client) or host_provider(url.host) or "openai",
        address=url.host or None,
        port=url.port or (443 if url.scheme == "https" else 80),
        sdk=f"openai/{version}" if version else "openai",
    )


def host_provider(host: str) -> str | None:
    """The provider at ``host``, if it is a known one."""
    labels = host.lower().replace("-aiplatform.", ".aiplatform.").split(".")  # Vertex: region-aiplatform
    suffixes = (".".join(labels[start:]) for start in range(len(labels)))
    return next((_HOSTS[suffix] for suffix in suffixes if suffix in _HOSTS), None)


def begun(call: Call, options: Any) -> None:
    """Note the id of a response that is fetched: if the fetch fails, nothing else tells which one it was."""
    if call.route is _FETCH:
        call.response_id = path_segments(options.url)[-1]


def prepare(observer: Observer, call: Call, client: Any, body: Mapping[str, Any]) -> Prepared | None:
    """Ask for the usage of a chat stream whose caller did not say, where the setting has it asked for.

    The caller sees the chunks that he would have seen: the extra one is kept back, and the ``usage: null`` that the
    others then carry is unset again.
    """
    options = call.options
    if call.route.api != "chat_completions" or not _is_asked(observer.include_usage, call, client):
        return None
    if "stream_options" in body or _is_raw(options) or not isinstance(options.json_data, dict):
        return None
    changed = options.model_copy() if hasattr(options, "model_copy") else options.copy()
    changed.json_data = {**options.json_data, "stream_options": {"include_usage": True}}
    return Prepared(changed, hides=is_usage_chunk)


def caller_body(options: Any, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """``body`` less what the SDK has added by itself: the encoding of embeddings, which it decodes again."""
    if body.get("encoding_format") != "base64" or _asked_for_encoding(options):
        return body
    return {key: value for key, value in body.items() if key != "encoding_format"}


def _asked_for_encoding(options: Any) -> bool:
    """Whether the caller named the encoding of embeddings. The SDK tells its parser of the answer what he said.

    The parser is a partial function since 3.57, a closure before; a request without one is wholly the caller's.
    """
    extra = vars(options).get("extra_json")
    parser = vars(options).get("post_parser")
    if not callable(parser) or (isinstance(extra, Mapping) and "encoding_format" in extra):
        return True
    given = getattr(parser, "keywords", None) or getclosurevars(parser).nonlocals
    return isinstance(given.get("encoding_format"), str)


def is_usage_chunk(chunk: Any) -> bool:
    """Whether a chunk is the one that ``include_usage`` adds; of the others, unset the null that it adds."""
    if getattr(chunk, "usage", None) is None:
        fields = getattr(chunk, "model_fields_set", None)
        if isinstance(fields, set):
            fields.discard("usage")
        return False
    return not getattr(chunk, "choices", True)


def _is_asked(setting: IncludeUsage, call: Call, client: Any) -> bool:
    """Whether ``LLMSPAN_INCLUDE_USAGE`` names the host of ``call``."""
    if setting in ("off", "on"):
        return setting == "on"
    hosts: tuple[str, ...] = ("auto",) if setting == "auto" else tuple(setting)
    if names_host(hosts, call.target.address or "", call.target.port):
        return True
    return "auto" in hosts and _understands_usage(call, client)


def _understands_usage(call: Call, client: Any) -> bool:
    host = call.target.address or ""
    if names_host(_OPENAI_HOSTS, host, None):
        return _by_class(client) is None
    if host_provider(host) != "azure.ai.openai":
        return False
    version = getattr(client, "_api_version", None)
    return "/openai/v1" in client.base_url.path + call.path or (
        isinstance(version, str) and version[:10] >= _AZURE_STREAM_OPTIONS
    )


def _is_raw(options: Any) -> bool:
    """``with_raw_response`` and ``with_streaming_response`` mark their calls by a header of this name."""
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
    target=target,
    prepare=prepare,
    caller_body=caller_body,
    begun=begun,
    extras=dict.fromkeys(CONNECTIONS, connection_patches),
    newest=3,
)
