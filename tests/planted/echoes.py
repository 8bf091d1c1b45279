"""How a provider, a gateway or a transport gives back what it was sent: an in-memory transport for each way.

``seen`` is what the server knows of the request: the secret itself, the headers, the URL and the body.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx2

from replay import Pieces
from streams import Api

SSE: Final = {"content-type": "text/event-stream"}
WORD: Final = json.dumps("wörld")[1:-1]


class Seen(NamedTuple):
    """A request as its server sees it."""

    secret: str
    request: httpx2.Request
    api: Api

    @property
    def text(self) -> str:
        """All of it, as a server that is being debugged would say it."""
        headers = "\n".join(f"{name}: {value}" for name, value in self.request.headers.items())
        body = self.request.content.decode("utf-8", "replace")
        return f"bad key: {self.secret}, in {self.request.url}\n{headers}\n\n{body}\nkey:\n{self.secret}\n"


Answer = Callable[[Seen], httpx2.Response]


def in_events(api: Api, text: str) -> list[bytes]:
    """The stream of ``api`` in which one word is ``text``."""
    return [piece.replace(WORD.encode(), json.dumps(text)[1:-1].encode()) for piece in api.stream]


def in_body(api: Api, text: str) -> bytes:
    """The body of ``api`` in which one word is ``text``."""
    return json.dumps(api.body).replace(WORD, json.dumps(text)[1:-1]).encode()


def error(message: Any, status: int = 401) -> httpx2.Response:
    return httpx2.Response(status, json={"type": "error", "error": {"message": message, "code": "invalid_api_key"}})


def _json_error(seen: Seen) -> httpx2.Response:
    return error(seen.text)


def _bare_error(seen: Seen) -> httpx2.Response:
    body = {"error": {"message": "no", "type": "auth", "param": [seen.secret, {"you_sent": seen.secret}]}}
    return httpx2.Response(403, json=body)


def _members_error(seen: Seen) -> httpx2.Response:
    """A debug dump of a gateway: the request as JSON, in the error."""
    try:
        body: Any = json.loads(seen.request.content)
    except ValueError:
        body = seen.request.content.decode("utf-8", "replace")
    dump = {"headers": dict(seen.request.headers), "url": str(seen.request.url), "body": body}
    return httpx2.Response(400, json={"error": {"message": json.dumps(dump), "debug": dump}, "request": dump})


def _text_error(seen: Seen) -> httpx2.Response:
    return httpx2.Response(500, text=seen.text)


def _html_error(seen: Seen) -> httpx2.Response:
    return httpx2.Response(502, html=f"<html><body><pre>{html.escape(seen.text)}</pre></body></html>")


def _torn_error(seen: Seen) -> httpx2.Response:
    """JSON that Python cannot parse."""
    content = json.dumps({"error": {"message": seen.text, "code": "bad"}})[:-3]
    return httpx2.Response(400, headers={"content-type": "application/json"}, content=content)


def _latin_error(seen: Seen) -> httpx2.Response:
    """Bytes that are no UTF-8."""
    return httpx2.Response(400, content=seen.text.encode("utf-8") + b"\xff\xfe\xe9")


def _headers(seen: Seen) -> httpx2.Response:
    value = quote(seen.secret, safe="-_.") if not seen.secret.isascii() else seen.secret
    names = ("x-request-id", "request-id", "www-authenticate", "x-debug", "location", "retry-after")
    return httpx2.Response(401, headers=dict.fromkeys(names, value), json={"error": {"message": "no"}})


def _nested_json(seen: Seen) -> httpx2.Response:
    return error(json.dumps({"upstream": json.dumps({"said": seen.text})}), 400)


def _percent(seen: Seen) -> httpx2.Response:
    return error(f"see https://x.example/login?from={quote(seen.text, safe='')}%20now", 400)


def _escaped_letters(seen: Seen) -> httpx2.Response:
    text = "".join(f"\\u{ord(character):04x}" for character in seen.secret)
    message = f"bad key \\u0022{text}\\u0022, or \\u0022{seen.secret}\\u0022"
    return httpx2.Response(
        400, content=f'{{"error": {{"message": "k {text}", "more": {json.dumps(message)}}}}}'.encode()
    )


def _coloured(seen: Seen) -> httpx2.Response:
    return error(f"failed \x1b[31m{seen.secret}\x1b[0m and \x1b[1m{seen.secret[:9]}\x1b[0m{seen.secret[9:]}", 500)


def _answer(seen: Seen) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "application/json"}, content=in_body(seen.api, seen.text))


def _answer_ids(seen: Seen) -> httpx2.Response:
    """An answer that names itself, its model and its tier by the secret."""
    body = {**seen.api.body, **dict.fromkeys(("id", "model", "service_tier", "system_fingerprint"), seen.secret)}
    body["stop_reason"] = seen.secret
    body["choices"] = [{**choice, "finish_reason": seen.secret} for choice in body.get("choices", [])]
    return httpx2.Response(200, json=body)


def _events(seen: Seen) -> httpx2.Response:
    half = len(seen.secret) // 2
    pieces = in_events(seen.api, seen.text)
    at = next(index for index, piece in enumerate(seen.api.stream) if WORD.encode() in piece)
    parts = [in_events(seen.api, text)[at] for text in (seen.secret[:half], seen.secret[half:])]
    return httpx2.Response(200, headers=SSE, stream=Pieces([*pieces[:at], *parts, *pieces[at:]]))


def _cut_stream(seen: Seen) -> httpx2.Response:
    def gone() -> BaseException:
        return httpx2.ReadError(f"peer closed after {seen.secret}")

    pieces = in_events(seen.api, seen.text)
    return httpx2.Response(200, headers=SSE, stream=Pieces([*pieces[:6], f"data: {seen.secret}".encode()], gone))


def _error_event(seen: Seen) -> httpx2.Response:
    event = {"type": "error", "error": {"type": "auth", "message": seen.text}, "message": seen.secret, "code": "x"}
    lines = f"event: error\ndata: {json.dumps(event)}\n\n".encode()
    return httpx2.Response(200, headers=SSE, stream=Pieces([*seen.api.stream[:4], lines]))


def _redirect(seen: Seen) -> httpx2.Response:
    if seen.request.url.path.endswith("/moved"):
        return error(seen.text)
    target = f"https://{quote(seen.secret, safe='')}@elsewhere.example/moved?token={quote(seen.secret, safe='')}"
    return httpx2.Response(307, headers={"location": target})


def _exception(seen: Seen) -> httpx2.Response:
    raise httpx2.ConnectError(f"no route to {seen.request.url} for {seen.secret}: {dict(seen.request.headers)}")


def _exception_chain(seen: Seen) -> httpx2.Response:
    try:
        raise OSError(5, f"tls: {seen.secret}", f"/run/{seen.secret}")
    except OSError as cause:
        raise httpx2.ReadTimeout(f"timed out: {seen.text}") from cause


#: the way -> how it is done, and whether the call streams
ECHOES: Final[Mapping[str, tuple[Answer, bool]]] = {
    "a JSON error": (_json_error, False),
    "a JSON error, streaming": (_json_error, True),
    "bare values of an error": (_bare_error, False),
    "the request in an error": (_members_error, False),
    "a text error": (_text_error, False),
    "an HTML error": (_html_error, False),
    "a torn JSON error": (_torn_error, False),
    "an error that is no UTF-8": (_latin_error, False),
    "headers of an error": (_headers, False),
    "JSON in JSON": (_nested_json, False),
    "percent-encoding": (_percent, False),
    "escaped letters": (_escaped_letters, False),
    "colours": (_coloured, False),
    "an answer": (_answer, False),
    "names of an answer": (_answer_ids, False),
    "a stream": (_events, True),
    "a cut stream": (_cut_stream, True),
    "an error event": (_error_event, True),
    "a redirect": (_redirect, False),
    "an exception": (_exception, False),
    "the cause of an exception": (_exception_chain, True),
}


def transport(answer: Answer, secret: str, api: Api) -> httpx2.MockTransport:
    """A server that answers so."""
    return httpx2.MockTransport(lambda request: answer(Seen(secret, request, api)))
