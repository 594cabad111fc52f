"""Who may use the interface, and what a page of another site cannot do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from hep.view.web import bodies, sessions
from hep.view.web.problems import WebSettingsError
from hep.view.web.settings import WebSettings

TOKEN = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ASKED = {"X-Requested-With": "hep-view"}
STATUS = "/api/v1/status"
LOGOUT = "/api/v1/logout"


@pytest.fixture
def guarded(make_service: Callable[..., Any]) -> Any:
    """The service with a token, on all addresses."""
    return make_service(host="0.0.0.0", token=TOKEN)


@pytest.fixture
async def stranger(guarded: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with guarded.client("http://view.example.com:9080") as client:
        yield client


async def log_in(client: httpx.AsyncClient, token: str = TOKEN) -> httpx.Response:
    return await client.post("/api/v1/login", json={"token": token})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "view.example.com", "", "*"])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(
        WebSettingsError, match=r"set a token with --token-file, or listen on 127\.0\.0\.1"
    ):
        WebSettings(host)
    WebSettings(host, token=TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    WebSettings(host)


@pytest.mark.parametrize("name", ["", "a b", "http://view.example.com", "a/b", "a:b", "a\n"])
def test_a_name_that_no_host_header_has_is_refused(name: str) -> None:
    with pytest.raises(WebSettingsError, match="is no host name"):
        WebSettings(names=("view.example.com:8443", name))


@pytest.mark.parametrize("token", ["", " ", "a b", "é", "a\n", "a" * 4097])
def test_a_token_that_no_header_carries_is_refused(token: str) -> None:
    with pytest.raises(WebSettingsError, match="the token is empty"):
        WebSettings(token=token)


def test_the_token_is_not_in_the_text_of_the_settings() -> None:
    assert TOKEN not in repr(WebSettings(token=TOKEN))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9080", 200),
        ("localhost:9080", 200),
        ("LOCALHOST", 200),
        ("localhost.", 200),
        ("[::1]:9080", 200),
        ("a.localhost:9080", 200),
        ("view.example.com", 200),
        ("View.Example.com:1", 200),
        ("port.example.com:8443", 200),
        ("port.example.com", 421),
        ("evil.example", 421),
        ("evil.example:9080", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("evil.example/127.0.0.1", 421),
        ("localhost\\.evil.example", 421),
        ("192.0.2.1:9080", 421),
        ("[::1", 421),
        ("127.0.0.1:port", 421),
        ("notlocalhost", 421),
        ("\xff", 421),
    ],
)
async def test_a_host_that_is_not_ours_is_refused(
    make_service: Callable[..., Any], host: str, status: int
) -> None:
    service = make_service(names=("view.example.com", "port.example.com:8443"))
    async with service.client() as client:
        for path in (STATUS, "/", "/static/app.js", "/metrics", "/openapi.json"):
            answer = await client.get(path, headers={"Host": host.encode("latin-1")})  # type: ignore[dict-item]
            assert (answer.status_code, path) == (status, path)
        # Load balancers ask by address.
        assert (await client.get("/healthz", headers={"Host": "lb"})).status_code == 200


async def test_with_a_token_any_host_will_do_unless_names_are_given(
    guarded: Any, make_service: Callable[..., Any]
) -> None:
    async with guarded.client("http://anything.example") as client:
        assert (await client.get(STATUS, headers=BEARER)).status_code == 200
    named = make_service(host="0.0.0.0", token=TOKEN, names=("view.example.com",))
    async with named.client() as client:
        for host, status in (
            ("view.example.com", 200), ("192.0.2.1:9080", 200), ("evil.example", 421),
        ):  # fmt: skip
            answer = await client.get(STATUS, headers={**BEARER, "Host": host})
            assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:9080"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9081"}, 403),
        ({"Origin": "http://127.0.0.1:9080.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        # Another port of this machine is the same site.
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:9080", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_a_page_of_another_site_reads_nothing(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    for path in (STATUS, "/api/v1/calls", "/metrics", "/openapi.json"):
        assert (await client.get(path, headers=headers)).status_code == status
    assert (await client.post(LOGOUT, headers={**headers, **ASKED})).status_code == (
        204 if status == 200 else 403
    )
    if status == 403:
        assert (await client.get("/api/v1/live", headers=headers)).status_code == 403
    # A link to the page may stand anywhere.
    assert (await client.get("/", headers=headers)).status_code == 200


async def test_a_page_behind_a_proxy_is_known_by_its_name(
    make_service: Callable[..., Any],
) -> None:
    async with make_service(names=("view.example.com",)).client() as client:
        for origin, status in (
            ("https://view.example.com", 200), ("https://view.example.com:8443", 403),
        ):  # fmt: skip
            answer = await client.get(STATUS, headers={"Origin": origin})
            assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Content-Type": "text/plain"}, 403),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 403),
        ({"Content-Type": "text/plain;application/json"}, 403),
        ({"X-Requested-With": "XMLHttpRequest"}, 403),
        ({"X-Requested-With": "hep-view"}, 204),
        ({"Content-Type": "application/json; charset=utf-8"}, 204),
    ],
)
async def test_a_form_posts_nothing(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    assert (await client.post(LOGOUT, headers=headers)).status_code == status


async def test_headers_that_two_programs_read_in_two_ways_are_refused(
    client: httpx.AsyncClient,
) -> None:
    for name in ("Origin", "Authorization", "Content-Type"):
        answer = await client.get(STATUS, headers=[(name, "a"), (name.lower(), "b")])
        assert answer.status_code == 400
        assert "more than once" in answer.json()["error"]


PRIVATE = ["/api/v1/status", "/api/v1/live", "/api/v1/control", "/metrics", "/openapi.json", "/x"]


@pytest.mark.parametrize("path", PRIVATE)
async def test_without_the_token_nothing_is_shown(stranger: httpx.AsyncClient, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer \xff"},
        {"Cookie": f"hep_view_9080={TOKEN}"},
        {"Cookie": "hep_view_9080="},
    ):
        encoded = {name: text.encode("latin-1") for name, text in headers.items()}
        answer = await stranger.get(path, headers=encoded)  # type: ignore[arg-type]
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "token" in answer.json()["error"]


async def test_the_page_and_the_health_are_open(stranger: httpx.AsyncClient) -> None:
    for path in ("/", "/static/app.js", "/healthz"):
        assert (await stranger.get(path)).status_code == 200
    assert (await stranger.get("/static/../api/v1/status")).status_code != 200


async def test_programs_send_the_token(stranger: httpx.AsyncClient) -> None:
    for scheme in ("Bearer", "bearer"):
        answer = await stranger.get("/metrics", headers={"Authorization": f"{scheme}  {TOKEN}"})
        assert answer.status_code == 200


async def test_a_browser_logs_in_and_out(stranger: httpx.AsyncClient) -> None:
    answer = await log_in(stranger)
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    fields = {each.strip().lower() for each in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", "max-age=43200"} <= fields
    assert "secure" not in fields
    assert (await stranger.get(STATUS)).json()["login"] is True
    kept = dict(stranger.cookies)
    assert (await stranger.post(LOGOUT, headers=ASKED)).status_code == 204
    assert not stranger.cookies
    # The session itself is over, not only its cookie.
    stranger.cookies.update(kept)
    assert (await stranger.get(STATUS)).status_code == 401


async def test_the_cookie_is_secure_over_https(
    guarded: Any, make_service: Callable[..., Any]
) -> None:
    async with guarded.client("https://view.example.com") as client:
        assert "secure" in (await log_in(client)).headers["set-cookie"].lower()
    proxied = make_service(token=TOKEN, secure=True)
    async with proxied.client() as client:
        assert "secure" in (await log_in(client)).headers["set-cookie"].lower()


async def test_each_login_has_a_session_of_its_own(guarded: Any) -> None:
    async with guarded.client() as first, guarded.client() as second:
        await log_in(first)
        await log_in(second)
        assert dict(first.cookies) != dict(second.cookies)
        await first.post(LOGOUT, headers=ASKED)
        assert (await second.get(STATUS)).status_code == 200


@pytest.mark.parametrize("name", ["token", "TOKEN", "access_token"])
async def test_a_token_in_a_url_is_refused(stranger: httpx.AsyncClient, name: str) -> None:
    for path in (STATUS, "/", "/api/v1/live", "/healthz"):
        answer = await stranger.get(f"{path}?a=1&{name}={TOKEN}", headers=BEARER)
        assert answer.status_code == 400
        assert "a token in a URL" in answer.json()["error"]
        assert TOKEN not in answer.text


async def test_wrong_tokens_are_limited_by_address(guarded: Any) -> None:
    async with guarded.client(address="192.0.2.1") as client, guarded.client() as other:
        for number in range(sessions.MOST_FAILURES):
            if number % 2:
                assert (await log_in(client, "wrong")).status_code == 401
            else:
                headers = {"Authorization": "Bearer wrong"}
                assert (await client.get(STATUS, headers=headers)).status_code == 401
        for answer in (await log_in(client), await client.get(STATUS, headers=BEARER)):
            assert answer.status_code == 429
            assert 0 < int(answer.headers["retry-after"]) <= sessions.WINDOW + 1
        assert (await log_in(other)).status_code == 204


async def test_a_session_goes_on_while_its_address_has_to_wait(guarded: Any) -> None:
    async with guarded.client() as client:
        await log_in(client)
        for _ in range(sessions.MOST_FAILURES + 1):
            await log_in(client, "wrong")
        assert (await client.get(STATUS)).status_code == 200


def test_wrong_tokens_are_forgotten_and_bounded() -> None:
    failures = sessions.Failures()
    for number in range(sessions.MOST_FAILURES):
        assert failures.wait("a", number) == 0
        failures.add("a", number)
    assert failures.wait("a", 10) == sessions.WINDOW - 10
    assert failures.wait("b", 10) == 0
    assert failures.wait("a", sessions.WINDOW) <= 0
    for number in range(sessions.MOST_FAILURES_IN_ALL):
        failures.add(str(number), 100.0)
    assert failures.wait("new", 100.0) == sessions.WINDOW
    for number in range(sessions.MOST_ADDRESSES + 10):
        failures.add(str(number), 200.0)
    assert len(failures._by_address) == sessions.MOST_ADDRESSES


def test_sessions_end_and_are_bounded() -> None:
    held = sessions.Sessions()
    first = held.begin(0.0)
    assert held.is_valid(first, sessions.LIFETIME - 1)
    assert not held.is_valid(first, sessions.LIFETIME)
    assert not held.is_valid("", 0.0)
    assert not held.is_valid("\ud800", 0.0)
    second = held.begin(1.0)
    for _ in range(sessions.MOST_SESSIONS - 1):
        held.begin(2.0)
    assert len(held) == sessions.MOST_SESSIONS
    assert not held.is_valid(first, 3.0)
    assert held.is_valid(second, 3.0)
    held.begin(sessions.LIFETIME + 2.0)
    assert len(held) == 1


async def test_each_answer_has_the_headers(stranger: httpx.AsyncClient) -> None:
    for path in ("/", "/static/app.js", "/static/none.js", "/healthz", STATUS, "/?token=1"):
        headers = (await stranger.get(path)).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../outside.js",
        "/static/..%2foutside.js",
        "/static/%2e%2e/outside.js",
        "/static/views/../../outside.js",
        "/static//etc/passwd",
        "/static/views%5c..%5c..%5coutside.js",
        "/static/app.js%00",
        "/static/app.js%00.js",
        "/static/secret.py",
        "/static/views",
        "/static/",
        "/static/.hidden.js",
        "/static/index.html/",
        "/static/" + "a" * 5000 + ".js",
        "/static/" + "a/" * 2000 + "a.js",
        "/static/%ff.js",
    ],
)
async def test_no_other_file_is_served(client: httpx.AsyncClient, path: str) -> None:
    request = client.build_request("GET", "http://127.0.0.1:9080/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert (await client.send(request)).status_code == 404


async def test_files_have_their_types_and_an_etag(client: httpx.AsyncClient) -> None:
    for path, media_type in (
        ("/", "text/html; charset=utf-8"),
        ("/static/app.js", "text/javascript; charset=utf-8"),
        ("/static/views/calls.js", "text/javascript; charset=utf-8"),
        ("/static/style.css", "text/css; charset=utf-8"),
    ):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
        assert answer.headers["cache-control"] == "no-cache"
        known = {"If-None-Match": f'"other", W/{answer.headers["etag"]}'}
        again = await client.get(path, headers=known)
        assert (again.status_code, again.content) == (304, b"")


async def test_a_long_query_is_refused(client: httpx.AsyncClient) -> None:
    for path in (STATUS, "/", "/static/app.js"):
        answer = await client.get(f"{path}?q={'a' * 60_000}")
        assert answer.status_code == 414


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "the body is not JSON"),
        (b"{", 400, "the body is not JSON"),
        (b"[" * 60_000, 400, "the body is not JSON"),
        (b"\xff", 400, "the body is not JSON"),
        (b"[]", 400, "the body"),
        (b"{}", 400, "parameter 'token' is missing"),
        (b'{"token": 1}', 400, "'token': '1' is not valid"),
        (b'{"token": "\\ud800"}', 400, "'token'"),
        (b'{"token": "a", "b": 1}', 400, "'b' is not known"),
        (json.dumps({"token": "a" * 4097}).encode(), 400, "'token': 'aaa"),
        (b" " * (bodies.LONGEST_BODY + 1), 413, "longer than 65536 bytes"),
    ],
)
async def test_a_wrong_body_is_refused(
    client: httpx.AsyncClient, body: bytes, status: int, error: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/api/v1/login", content=body, headers=headers)
    assert (answer.status_code, error in answer.json()["error"]) == (status, True), answer.text


async def test_a_body_without_a_length_is_bounded_too(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65_536

    headers = {"Content-Type": "application/json"}
    answer = await client.post("/api/v1/login", content=endless(), headers=headers)
    assert answer.status_code == 413


async def test_a_body_that_does_not_come_is_not_waited_for(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.01)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    headers = {"Content-Type": "application/json"}
    answer = await client.post("/api/v1/login", content=slow(), headers=headers)
    assert answer.status_code == 408
