"""``error.type``: the provider's code, else its type, else the HTTP status, else the exception's class."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from llmspan.wire import error_type, read_error

INVALID = "invalid_request_error"


def openai_error(**fields: Any) -> dict[str, Any]:
    return {"error": {"message": "no", "type": None, "param": None, "code": None, **fields}}


@pytest.mark.parametrize(("body", "status", "expected"), [
    # OpenAI: the code where there is one
    (openai_error(type=INVALID, code="invalid_api_key"), 401, "invalid_api_key"),
    (openai_error(type=INVALID, code="model_not_found"), 404, "model_not_found"),
    (openai_error(type=INVALID, code="context_length_exceeded"), 400, "context_length_exceeded"),
    (openai_error(type="tokens", code="rate_limit_exceeded"), 429, "rate_limit_exceeded"),
    (openai_error(type="insufficient_quota", code="insufficient_quota"), 429, "insufficient_quota"),
    (openai_error(type="server_error"), 500, "server_error"),
    (openai_error(type=INVALID), 400, INVALID),
    # the generic type beside a status that says more: a missing key, an unknown URL, a forbidden region
    (openai_error(type=INVALID), 401, "401"),
    (openai_error(type=INVALID), 403, "403"),
    (openai_error(type=INVALID), 404, "404"),
    (openai_error(type=INVALID), 422, INVALID),
    # what a limit counts is no class of errors
    (openai_error(type="tokens"), 429, "429"),
    (openai_error(type="requests"), 429, "429"),
    (openai_error(type="tokens_usage_based"), 429, "429"),
    (openai_error(type="input-images"), 429, "429"),
    # Anthropic
    ({"type": "error", "error": {"type": "authentication_error", "message": "no"}}, 401, "authentication_error"),
    ({"type": "error", "error": {"type": "not_found_error", "message": "no"}}, 404, "not_found_error"),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "no", "details": None}}, 529,
     "overloaded_error"),
    ({"type": "error", "error": {"type": INVALID, "message": "no", "details": {"error_code": "image_too_large"}}}, 400,
     "image_too_large"),
    # gateways: numbers, sentences, ids and placeholders are no codes
    (openai_error(type="invalid_model", code="1500"), 400, "invalid_model"),
    (openai_error(type=INVALID, code=400), 400, INVALID),
    (openai_error(type="invalid_api_key", code=401), 401, "invalid_api_key"),
    (openai_error(type="authentication_error", code=INVALID), 401, "authentication_error"),
    (openai_error(type="Bad Request", code="400"), 400, "400"),
    (openai_error(code=429), 429, "429"),
    (openai_error(type="None", code="None"), 500, "500"),
    (openai_error(type="error", code="unknown"), 502, "502"),
    (openai_error(type="api_error", code="req_011CYq7Zb3xT9"), 500, "api_error"),
    (openai_error(type="api_error", code="a3f2b1c0-44aa-4c7e-9f6d-000000000001"), 500, "api_error"),
    (openai_error(type="api_error", code="E100482"), 500, "api_error"),
    (openai_error(type="api_error", code="x" * 65), 500, "api_error"),
    (openai_error(code="c" * 64), 500, "c" * 64),
    ({"code": "Client specified an invalid argument", "error": "Incorrect API key provided"}, 400, "400"),
    ({"type": "about:blank", "title": "Forbidden", "status": 403}, 403, "403"),
    ([{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}], 400, "INVALID_ARGUMENT"),
    ({"error": "busy", "error_type": "overloaded"}, 429, "overloaded"),
    ({"error": {"type": "throttlingException", "message": "no"}}, 429, "throttlingException"),
    ("<html>Bad gateway</html>", 502, "502"),
    (None, 401, "401"),
    # errors in a stream that began well: the status is that of the response, unless the error names one
    (openai_error(type="server_error", code="server_error"), 200, "server_error"),
    (openai_error(code=502), 200, "502"),
    (openai_error(type=INVALID, code=401), 200, "401"),
    ({"error": "no", "code": 7}, 200, "_OTHER"),
    (openai_error(), 200, "_OTHER"),
    (None, None, "_OTHER"),
])  # fmt: skip
def test_error_type(body, status, expected):
    """Few values, and different ones for 400, 401, 404 and 429, whatever shape the error has."""
    assert error_type(read_error(body), http_status=status) == expected


@pytest.mark.parametrize(("status", "exception", "expected"), [
    (None, ValueError, "ValueError"), (None, openai.APIConnectionError, "openai.APIConnectionError"),
    (200, asyncio.CancelledError, "asyncio.exceptions.CancelledError"), (503, openai.APIError, "503"),
])  # fmt: skip
def test_without_a_provider_error(status, exception, expected):
    """The class of the exception is used where no response failed: connections, timeouts, interruptions."""
    assert error_type(None, http_status=status, exception=exception) == expected
