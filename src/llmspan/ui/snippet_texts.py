"""What the snippets of all providers share: literals, the address of a server, and a request by curl. Pure."""

from __future__ import annotations

import json
import keyword
import math
import pprint
import shlex
from typing import Any, Final

from ..trace import ProviderTrace

__all__ = ["base_url", "curl", "literal", "sdk_call"]

#: what the SDKs' methods take beside the members of a request, which may have one of the same name
_OWN_ARGUMENTS: Final = frozenset({"self", "extra_body", "extra_headers", "extra_query", "timeout"})
#: Python's parser reads no more brackets within each other than about twice as many
_DEEPEST: Final = 90


class _NonFinite(float):
    """A number that has no literal."""

    def __repr__(self) -> str:
        return f'float("{float.__repr__(self)}")'


def base_url(record: ProviderTrace, own_host: str) -> str | None:
    """The server of a call; None if it is the provider's own."""
    host = record.server_address
    if host is None or host == own_host:
        return None
    host = f"[{host}]" if ":" in host else host
    is_plain = record.server_port == 80 or (host in ("127.0.0.1", "localhost", "[::1]") and record.server_port != 443)
    port = f":{record.server_port}" if record.server_port not in (None, 443) else ""
    return f"{'http' if is_plain else 'https'}://{host}{port}"


def literal(value: Any) -> str:
    """A JSON value in Python, as an argument on a line of its own.

    Raises:
        RecursionError: it is nested deeper than Python reads.
    """
    return pprint.pformat(_written(value), width=100, sort_dicts=False).replace("\n", "\n    ")


def _written(value: Any, depth: int = 0) -> Any:
    """A JSON value in which each number has a ``repr`` that is Python."""
    if depth > _DEEPEST:
        raise RecursionError("nested deeper than Python reads")
    if isinstance(value, dict):
        return {key: _written(member, depth + 1) for key, member in value.items()}
    if isinstance(value, list):
        return [_written(item, depth + 1) for item in value]
    return _NonFinite(value) if isinstance(value, float) and not math.isfinite(value) else value


def _is_keyword_argument(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and name not in _OWN_ARGUMENTS


def sdk_call(import_line: str, client: str, method: str, arguments: dict[str, Any], *, stream: bool) -> str:
    """A program that makes the call and prints what comes; members that can be no argument are in ``extra_body``."""
    keywords = {key: value for key, value in arguments.items() if _is_keyword_argument(key)}
    others = {key: value for key, value in arguments.items() if key not in keywords}
    keywords |= {"extra_body": others} if others else {}
    lines = [f"    {key}={literal(value)}," for key, value in keywords.items()]
    call = f"client.{method}(\n" + "\n".join(lines) + "\n)"
    ending = "for event in response:\n    print(event)" if stream else "print(response)"
    return f"{import_line}\n\nclient = {client}\nresponse = {call}\n{ending}\n"


def curl(url: str, headers: str, body: dict[str, Any]) -> str:
    """The request by curl; ``headers`` as its arguments, which refer to the key as a variable."""
    data = shlex.quote(json.dumps(body, indent=2, ensure_ascii=False))
    return f'curl {shlex.quote(url)} \\\n  {headers} \\\n  -H "Content-Type: application/json" \\\n  -d {data}\n'
