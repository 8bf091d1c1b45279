"""``gen_ai.provider.name`` is who really answers, where class or host tell."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import openai
import pytest

from llmspan.instrumentation import anthropic as ours_anthropic
from llmspan.instrumentation import openai as ours_openai
from llmspan.instrumentation.call import Endpoint
from llmspan.instrumentation.stainless.hooks import StainlessHooks
from streams import CHAT, MESSAGES, json
from watching import Watch, watching


@pytest.mark.parametrize(
    ("base_url", "provider"),
    [
        (None, "openai"),
        ("http://127.0.0.1:8000/v1", "openai"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.mistral.ai/v1", "mistral_ai"),
        ("https://api.x.ai/v1", "x_ai"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.perplexity.ai", "perplexity"),
        ("https://api.moonshot.cn/v1", "moonshot_ai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://mine.openai.azure.com/openai/v1", "azure.ai.openai"),
        ("https://mine.services.ai.azure.com/models", "azure.ai.inference"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1", "aws.bedrock"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gcp.gemini"),
        ("https://us-central1-aiplatform.googleapis.com/v1", "gcp.vertex_ai"),
        ("https://notapi.x.ai.example.com/v1", "openai"),
    ],
)
def test_openai_by_host(base_url: str | None, provider: str) -> None:
    """The host names the provider; an unknown one speaks OpenAI's language, and that is what is said."""
    client = openai.OpenAI(api_key="k", base_url=base_url)
    endpoint = ours_openai.endpoint(client)
    assert endpoint.provider == provider
    assert endpoint.address == httpx2.URL(base_url or "https://api.openai.com/v1").host
    assert endpoint.sdk == f"openai/{openai.__version__}"


def test_ports() -> None:
    """The port is said even where it is the scheme's own."""
    assert ours_openai.endpoint(openai.OpenAI(api_key="k")).port == 443
    assert ours_openai.endpoint(openai.OpenAI(api_key="k", base_url="http://h.test/v1")).port == 80
    assert ours_openai.endpoint(openai.OpenAI(api_key="k", base_url="http://h.test:81/v1")).port == 81


@pytest.mark.parametrize(
    ("client", "provider"),
    [
        (openai.AzureOpenAI(api_key="k", api_version="2024-10-21", base_url="http://proxy.test"), "azure.ai.openai"),
        (openai.AsyncAzureOpenAI(api_key="k", api_version="2024-10-21", base_url="http://p.test"), "azure.ai.openai"),
    ],
)
def test_openai_by_class(client: Any, provider: str) -> None:
    """An Azure client behind a proxy is an Azure client."""
    assert ours_openai.endpoint(client).provider == provider


def anthropic_clients() -> list[tuple[Any, str]]:
    return [
        (anthropic.Anthropic(api_key="k"), "anthropic"),
        (anthropic.AsyncAnthropic(api_key="k"), "anthropic"),
        (anthropic.AnthropicFoundry(api_key="k", resource="r"), "azure.ai.inference"),
    ]


@pytest.mark.parametrize(("client", "provider"), anthropic_clients())
def test_anthropic_by_class(client: Any, provider: str) -> None:
    """The platform clients name their platform."""
    assert ours_anthropic.endpoint(client).provider == provider


@pytest.mark.parametrize("name", ["AnthropicBedrock", "AsyncAnthropicBedrock"])
def test_anthropic_on_bedrock(name: str) -> None:
    """Bedrock's clients say Bedrock (told by class, so their drivers need not be there)."""
    kind = getattr(anthropic, name)
    client = kind.__new__(kind)
    client._base_url = httpx2.URL("https://bedrock-runtime.us-east-1.amazonaws.com/")
    client._version = "0"
    assert ours_anthropic.endpoint(client).provider == "aws.bedrock"


def test_a_client_that_is_pointed_elsewhere_is_asked_again() -> None:
    """What is known about a client holds for as long as its base URL does."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=CHAT.body)

    with watching() as watch:
        client = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
        client.chat.completions.create(**CHAT.arguments)
        client.base_url = httpx2.URL("https://api.deepseek.com")
        client.chat.completions.create(**CHAT.arguments)
    assert [record.provider for record in watch.records] == ["openai", "deepseek"]


class Client:
    """As much of a client as it takes to ask whom it talks to."""

    def __init__(self, name: str, base_url: httpx2.URL) -> None:
        self.name = name
        self.base_url = base_url


def test_a_client_is_not_taken_for_one_that_is_gone(watch: Watch) -> None:
    """What is known about a client goes with it: the next one may have its id, and may share its URL."""
    url = httpx2.URL("http://shared.test/v1/")

    def endpoint(client: Client) -> Endpoint:
        return Endpoint(client.name, None, None, "sdk")

    hooks = StainlessHooks(ours_openai.PROVIDER._replace(endpoint=endpoint), watch.observer)

    def ask(name: str) -> list[str]:
        client = Client(name, url)
        return [hooks._endpoint_of(client).provider for _ in range(2)]

    names = [str(n) for n in range(50)]
    assert [ask(name) for name in names] == [[name] * 2 for name in names]
    assert hooks._endpoints == {}


@pytest.mark.parametrize(
    "path", ["embeddings.create", "completions.create", "chat.completions.parse", "responses.parse"]
)
def test_other_methods(path: str) -> None:
    """Embeddings, legacy completions and ``parse`` are recorded by their own names."""
    bodies: dict[str, Any] = {
        "embeddings.create": {
            "object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
            "usage": {"prompt_tokens": 9, "total_tokens": 9},
        },
        "completions.create": {
            "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "e", "usage": None,
            "choices": [{"index": 0, "text": "x", "finish_reason": "stop", "logprobs": None}],
        },
        "chat.completions.parse": CHAT.body,
        "responses.parse": {
            "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "e", "output": [],
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
            "usage": {"input_tokens": 9, "output_tokens": 0, "total_tokens": 9},
        },
    }  # fmt: skip
    arguments: dict[str, Any] = {
        "embeddings.create": {"model": "e", "input": ["a", "b"], "dimensions": 8},
        "completions.create": {"model": "e", "prompt": "p", "n": 2, "stop": ["\n"]},
        "chat.completions.parse": CHAT.arguments,
        "responses.parse": {"model": "e", "input": "p", "reasoning": {"effort": "high"}, "conversation": "conv_1"},
    }
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=bodies[path]))
    with watching() as watch:
        client = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=mock))
        CHAT.method(client, path)(**arguments[path])
    record, span = watch.only()
    attributes = span.attributes or {}
    expected = {
        "embeddings.create": ("embeddings", "embeddings", 9),
        "completions.create": ("text_completion", "completions", None),
        "chat.completions.parse": ("chat", "chat_completions", 1200),
        "responses.parse": ("chat", "responses", 9),
    }[path]
    assert (record.operation, record.api, record.usage.input_tokens) == expected
    assert span.name == f"{expected[0]} {arguments[path]['model']}"
    if path == "embeddings.create":
        assert attributes["gen_ai.embeddings.dimension.count"] == 8
    if path == "completions.create":
        assert attributes["gen_ai.request.choice.count"] == 2
        assert attributes["gen_ai.request.stop_sequences"] == ("\n",)
    if path == "responses.parse":
        assert attributes["gen_ai.request.reasoning.level"] == "high"
        assert (record.conversation_id, attributes["gen_ai.conversation.id"]) == ("conv_1", "conv_1")
        assert attributes["gen_ai.usage.output_tokens"] == 0  # zero is a number, and is written
        assert attributes["openai.api.type"] == "responses"


def test_messages_parse_and_unary() -> None:
    """Anthropic's plain and parsed messages are recorded alike."""
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=MESSAGES.body))
    with watching() as watch:
        client = anthropic.Anthropic(api_key="k", http_client=httpx2.Client(transport=mock))
        client.messages.create(**MESSAGES.arguments)
        client.messages.parse(**MESSAGES.arguments)
        client.beta.messages.create(**MESSAGES.arguments)
        client.beta.messages.parse(**MESSAGES.arguments)
    assert [record.usage.input_tokens for record in watch.records] == [32012] * 4
    assert {record.stream for record in watch.records} == {False}
    assert json.loads(watch.records[0].response_json or "") == MESSAGES.body
