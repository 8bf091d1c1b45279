"""Who gets in: each rule with a request that is refused, and that nothing else is answered with data."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from llmspan.backends.memory import MemoryBackend
from llmspan.ui.tries import FREE_TRIES
from records import make_trace
from viewer import TOKEN, Viewer, viewing

SECRET_MODEL = "model-that-only-insiders-see"


@pytest.fixture(scope="module")
def backend() -> MemoryBackend:
    memory = MemoryBackend()
    memory.open()
    memory.write([make_trace(request_model=SECRET_MODEL, response_model=SECRET_MODEL)])
    return memory


@pytest.fixture(scope="module")
def viewer(backend: MemoryBackend) -> Iterator[Viewer]:
    with viewing(backend) as running:
        yield running


def cookie(viewer: Viewer) -> dict[str, str]:
    return {"Cookie": f"llmspan_ui_{viewer.port}={TOKEN}"}


def test_the_token_becomes_a_cookie(viewer: Viewer) -> None:
    """The first address lets in, and is replaced by one without the token, which a history or a referrer would keep."""
    answer = viewer.ask(f"/?q=status:ok&token={TOKEN}", headers={})
    assert (answer.status, answer.headers["location"]) == (303, "/?q=status%3Aok")
    flags = answer.headers["set-cookie"]
    assert flags.startswith(f"llmspan_ui_{viewer.port}={TOKEN};")
    assert "HttpOnly" in flags
    assert "SameSite=strict" in flags
    assert SECRET_MODEL in viewer.ask("/").text


@pytest.mark.parametrize(
    "path", ["/", "/calls.json", "/previews", "/events", "/health", "/run/x", "/call/x", "/nothing"]
)
@pytest.mark.parametrize(
    "credentials",
    [{}, {"Cookie": "llmspan_ui_1=wrong"}, {"Cookie": f"llmspan_ui_1={TOKEN}"}, {"Authorization": f"Bearer {TOKEN}"}],
    ids=["none", "wrong", "other-port", "bearer"],
)
def test_without_the_token(viewer: Viewer, path: str, credentials: dict[str, str]) -> None:
    """No page says anything, not even whether it exists."""
    answer = viewer.ask(path, headers=credentials)
    assert answer.status == 401
    assert "llmspan ui" in answer.text
    assert SECRET_MODEL not in answer.text


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "%ff", TOKEN.upper()])
def test_a_wrong_token_in_the_address(viewer: Viewer, token: str) -> None:
    assert viewer.ask(f"/?token={token}", headers={}).status == 401


@pytest.mark.parametrize("path", ["//evil.example/?token=", "/\\evil.example/?token="])
def test_no_open_redirect(viewer: Viewer, path: str) -> None:
    """What the browser is sent to is always of this host."""
    location = viewer.ask(path + TOKEN, headers={}).headers.get("location", "/")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::2]"]
)
@pytest.mark.parametrize("path", ["/", "/calls.json", "/static/app.js"])
def test_a_host_that_is_not_ours(viewer: Viewer, host: str, path: str) -> None:
    """A name that somebody points at 127.0.0.1 is refused, also with a cookie (DNS rebinding)."""
    answer = viewer.ask(path, headers={"Host": host, **cookie(viewer)})
    assert answer.status in (400, 403)
    assert SECRET_MODEL not in answer.text


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_a_host_that_is_ours(viewer: Viewer, name: str) -> None:
    assert viewer.ask("/", headers={"Host": f"{name}:{viewer.port}", **cookie(viewer)}).status == 200


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"])
def test_a_change_from_another_page(viewer: Viewer, origin: str | None) -> None:
    """What changes something comes from a page of ours (CSRF), whatever the cookie says."""
    headers = cookie(viewer) | ({"Origin": origin} if origin else {})
    assert viewer.ask("/", method="POST", headers=headers).status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_a_method_that_a_page_does_not_have(viewer: Viewer, method: str) -> None:
    headers = {**cookie(viewer), "Origin": viewer.address}
    assert viewer.ask("/", method=method, headers=headers).status == 405


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/static/vendor"],
)
def test_a_path_out_of_the_static_files(viewer: Viewer, path: str) -> None:
    """Static files are those of one folder, and a folder is not listed."""
    answer = viewer.ask(f"/static/{path}")
    assert answer.status in (401, 404)
    assert "Starlette" not in answer.text


def test_every_answer_keeps_to_itself(viewer: Viewer) -> None:
    """Pages, refusals and errors alike: no foreign script, no frame, no sniffing, nothing kept."""
    for path, headers in (("/", None), ("/", {}), ("/nothing", None), ("/call/x", None), ("/static/app.js", None)):
        answer = viewer.ask(path, headers=headers)
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in answer.headers


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def test_a_password(backend: MemoryBackend) -> None:
    """With a password, any user name gets in, and nobody without; the token's address is no way in."""
    with viewing(backend, password="böhm:secret") as viewer:
        assert viewer.ask("/", headers=basic("anna:böhm:secret")).status == 200
        for headers in ({}, basic("anna:wrong"), basic("anna"), {"Authorization": "Basic !"}, {"Authorization": "x"}):
            answer = viewer.ask("/", headers=headers)
            assert (answer.status, answer.headers["www-authenticate"][:5]) == (401, "Basic")
        assert viewer.ask(f"/?token={TOKEN}", headers={}).status == 401


def test_too_many_wrong_passwords(backend: MemoryBackend) -> None:
    """The address is locked out, also with the right password; requests without any do not count."""
    with viewing(backend, password="secret") as viewer:
        for _ in range(20):
            viewer.ask("/", headers={})
        for _ in range(FREE_TRIES + 1):
            assert viewer.ask("/", headers=basic("anna:wrong")).status == 401
        for password in ("wrong", "secret"):
            answer = viewer.ask("/", headers=basic(f"anna:{password}"))
            assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (429, True)
            assert SECRET_MODEL not in answer.text


def test_a_proxy_in_front(backend: MemoryBackend) -> None:
    """The header of the proxy lets in; without it, or empty, nobody."""
    with viewing(backend, proxy_header="X-Forwarded-User") as viewer:
        assert viewer.ask("/", headers={"X-Forwarded-User": "anna"}).status == 200
        assert viewer.ask("/", headers={}).status == 401
        assert viewer.ask("/", headers={"X-Forwarded-User": ""}).status == 401
