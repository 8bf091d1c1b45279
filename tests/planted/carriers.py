"""Where in a request a secret can be: for each place a call of a real SDK to a server in memory."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import anthropic
import httpx2
import openai

from streams import BETA_MESSAGES, CHAT, MESSAGES, RESPONSES, Api

from . import marks

Mock = httpx2.MockTransport
#: makes the call: the secret, the server, whether to stream, and what the model is asked
Call = Callable[[str, Mock, bool, str], None]
Form = Callable[[int], str]


class Carrier(NamedTuple):
    """A place in requests."""

    call: Call
    form: Form
    api: Api
    #: whether the secret is in the request's body, which is stored
    in_body: bool = False
    #: whether the method can stream
    streams: bool = True


def _read(result: Any, stream: bool) -> None:
    if stream:
        for _ in result:
            pass


def _arguments(api: Api, word: str, more: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(api.arguments)
    arguments["input" if "input" in arguments else "messages"] = [{"role": "user", "content": word}]
    return arguments | dict(more)


def _openai(mock: Mock, stream: bool, word: str, api: Api = CHAT, *, more: Any = (), **options: Any) -> None:
    http_client = options.pop("http_client", None) or httpx2.Client(transport=mock, follow_redirects=True)
    client = openai.OpenAI(**{"api_key": "none-of-it", "max_retries": 0, "http_client": http_client} | options)
    _read(api.method(client)(**_arguments(api, word, dict(more)), stream=stream), stream)


def _anthropic(mock: Mock, stream: bool, word: str, api: Api = MESSAGES, *, more: Any = (), **options: Any) -> None:
    http_client = httpx2.Client(transport=mock, follow_redirects=True)
    client = anthropic.Anthropic(**{"max_retries": 0, "http_client": http_client} | options)
    _read(api.method(client)(**_arguments(api, word, dict(more)), stream=stream), stream)


def _azure(mock: Mock, stream: bool, word: str, **options: Any) -> None:
    client = openai.AzureOpenAI(
        api_version="2024-10-21", azure_endpoint="https://x.openai.azure.com", max_retries=0,
        http_client=httpx2.Client(transport=mock, follow_redirects=True), **options,
    )  # fmt: skip
    _read(CHAT.method(client)(**_arguments(CHAT, word, {}), stream=stream), stream)


def _with_options(make: Callable[[str], dict[str, Any]]) -> Call:
    """An option of the client."""
    return lambda secret, mock, stream, word: _openai(mock, stream, word, **make(secret))


def _with_arguments(make: Callable[[str], dict[str, Any]], api: Api = CHAT) -> Call:
    """An argument of the method."""
    return lambda secret, mock, stream, word: _openai(mock, stream, word, api, more=make(secret))


def _cookies(secret: str, mock: Mock, stream: bool, word: str) -> None:
    client = httpx2.Client(transport=mock, cookies={"session": secret}, follow_redirects=True)
    _openai(mock, stream, word, http_client=client)


def _form_field(secret: str, mock: Mock, stream: bool, word: str) -> None:
    client = openai.OpenAI(api_key="none-of-it", max_retries=0, http_client=httpx2.Client(transport=mock))
    client.audio.transcriptions.create(
        model="whisper-1", file=("talk.mp3", b"sound"), prompt=word, extra_body={"upstream": {"api_key": secret}}
    )


def _service_account(secret: str) -> dict[str, Any]:
    return {"type": "service_account", "private_key": secret, "client_email": "x@y.iam.example"}


def _mcp(**more: Any) -> dict[str, Any]:
    tool = {"type": "mcp", "server_label": "wiki", "server_url": "https://x.example/mcp", "require_approval": "never"}
    return {"tools": [tool | more]}


def _mcp_server(secret: str, mock: Mock, stream: bool, word: str) -> None:
    server = {"type": "url", "name": "wiki", "url": "https://x.example", "authorization_token": secret}
    _anthropic(mock, stream, word, BETA_MESSAGES, more={"mcp_servers": [server]}, api_key="none-of-it")


def _in_body(make: Callable[[str], dict[str, Any]], form: Form = marks.opaque, api: Api = CHAT) -> Carrier:
    return Carrier(_with_arguments(lambda secret: {"extra_body": make(secret)}, api), form, api, in_body=True)


def _basic(secret: str) -> dict[str, Any]:
    return {"extra_headers": {"Authorization": f"Basic {b64encode(f'ann:{secret}'.encode()).decode()}"}}


def _image(secret: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": f"https://x.example/a.png?X-Amz-Signature={secret}&n=1"}}
    return {"extra_body": {"messages": [{"role": "user", "content": [part]}]}}


CARRIERS: Final[Mapping[str, Carrier]] = {
    "api_key": Carrier(_with_options(lambda s: {"api_key": s}), marks.vendor, CHAT),
    "api_key of no known form": Carrier(_with_options(lambda s: {"api_key": s}), marks.opaque, RESPONSES),
    "api_key by a function": Carrier(_with_options(lambda s: {"api_key": lambda: s}), marks.opaque, CHAT),
    "Authorization of a call": Carrier(
        _with_arguments(lambda s: {"extra_headers": {"Authorization": f"Bearer {s}"}}), marks.opaque, CHAT
    ),
    "Basic authorization": Carrier(_with_arguments(_basic), marks.opaque, CHAT),
    "another header": Carrier(
        _with_options(lambda s: {"default_headers": {"X-Gateway-Token": s}}), marks.opaque, RESPONSES
    ),
    "header of a proxy": Carrier(
        _with_options(lambda s: {"default_headers": {"X-Proxy-Authorization": f"Bearer {s}"}}), marks.opaque, CHAT
    ),
    "cookie": Carrier(_cookies, marks.opaque, CHAT),
    "default query": Carrier(_with_options(lambda s: {"default_query": {"key": s}}), marks.opaque, CHAT),
    "query of a call": Carrier(_with_arguments(lambda s: {"extra_query": {"api-key": s}}), marks.odd, CHAT),
    "userinfo of base_url": Carrier(
        _with_options(lambda s: {"base_url": f"https://ann:{s}@x.example/v1"}), marks.opaque, CHAT
    ),
    "encoded userinfo of base_url": Carrier(
        _with_options(lambda s: {"base_url": f"https://{quote(s, safe='')}@x.example/v1"}), marks.odd, RESPONSES
    ),
    "x-api-key": Carrier(lambda s, m, t, w: _anthropic(m, t, w, api_key=s), marks.opaque, MESSAGES),
    "auth_token": Carrier(lambda s, m, t, w: _anthropic(m, t, w, auth_token=s, api_key=None), marks.opaque, MESSAGES),
    "api-key of Azure": Carrier(lambda s, m, t, w: _azure(m, t, w, api_key=s), marks.opaque, CHAT),
    "azure_ad_token": Carrier(lambda s, m, t, w: _azure(m, t, w, azure_ad_token=s), marks.opaque, CHAT),
    "api_key in the body": _in_body(lambda s: {"api_key": s}),
    "api_key of a fallback": _in_body(lambda s: {"fallbacks": [{"model": "m"}, {"model": "n", "api_key": s}]}),
    "api_key of a target": _in_body(lambda s: {"config": {"targets": [{"override": {"apiKey": s}}]}}, marks.odd),
    "aws_secret_access_key": _in_body(lambda s: {"aws_access_key_id": s, "aws_secret_access_key": s}),
    "azure_ad_token in the body": _in_body(lambda s: {"azure_ad_token": s}, api=RESPONSES),
    "vertex_credentials": _in_body(lambda s: {"vertex_credentials": _service_account(s)}),
    "vertex_credentials as text": _in_body(lambda s: {"vertex_credentials": json.dumps(_service_account(s))}),
    "headers in the body": _in_body(lambda s: {"headers": {"X-Anything": s}}),
    "token in a list": _in_body(lambda s: {"callbacks": [{"access_tokens": [s], "api_keys": [s]}]}),
    "api_base in the body": _in_body(lambda s: {"api_base": f"https://ann:{quote(s, safe='')}@x.example"}, marks.odd),
    "token of an MCP URL": Carrier(
        _with_arguments(lambda s: _mcp(server_url=f"https://x.example/mcp?token={s}"), RESPONSES),
        marks.opaque, RESPONSES, in_body=True,
    ),
    "authorization of an MCP tool": Carrier(
        _with_arguments(lambda s: _mcp(authorization=s), RESPONSES), marks.opaque, RESPONSES, in_body=True
    ),
    "headers of an MCP tool": Carrier(
        _with_arguments(lambda s: _mcp(headers={"X-Wiki": s}), RESPONSES), marks.opaque, RESPONSES, in_body=True
    ),
    "authorization_token of an MCP server": Carrier(_mcp_server, marks.opaque, BETA_MESSAGES, in_body=True),
    "signature of an image's URL": Carrier(_with_arguments(_image), marks.opaque, CHAT, in_body=True),
    "metadata": Carrier(
        _with_arguments(lambda s: {"metadata": {"access_token": s, "n": "1"}}), marks.opaque, CHAT, in_body=True
    ),
    "user": Carrier(
        lambda s, m, t, w: _openai(m, t, w, api_key=s, more={"user": s}), marks.vendor, CHAT, in_body=True
    ),
    "field of a form": Carrier(_form_field, marks.opaque, CHAT, in_body=True, streams=False),
}  # fmt: skip
