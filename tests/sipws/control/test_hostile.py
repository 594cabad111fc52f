"""The control interface under attack: silence, slowness, smuggling, forged names, wrong tokens."""

import asyncio
import json
import os
import resource
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sipws.address import Address
from sipws.cli.main import main
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control import http_connection, mi
from sipws.control import server as control
from sipws.control.server import ControlServer, Page
from sipws.control.unix_socket import SpareFiles, UnixPath, parse_control
from sipws.errors import AddressError, ConfigurationError, TransportError
from sipws.service.app import Application
from sipws.service.commands import methods_of

HERE = Address("127.0.0.1", 0)
CALL = b'{"jsonrpc": "2.0", "id": 1, "method": "uptime"}'
PAGES = {
    "/metrics": Page("text/plain", lambda: (HTTPStatus.OK, "numbers\n")),
    "/healthz": Page("text/plain", lambda: (HTTPStatus.OK, "ok\n"), public=True),
}


def post(*headers: bytes, body: bytes = CALL) -> bytes:
    lines = [b"POST /mi HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *headers]
    if not any(line.lower().startswith((b"content-length", b"transfer")) for line in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def server(token: str | None = None, listen: Any = HERE, **options: Any) -> ControlServer:
    return ControlServer(listen, lambda body: body, token, pages=PAGES, **options)


async def connect(
    running: ControlServer,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = running.address
    if isinstance(where, UnixPath):
        return await asyncio.open_unix_connection(where.path)
    return await asyncio.open_connection(*where)


async def ask(running: ControlServer, request: bytes) -> bytes:
    """All that is answered, until the other end closes."""
    reader, writer = await connect(running)
    writer.write(request)
    writer.write_eof()
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


def exists(path: str) -> bool:
    return os.path.lexists(path)


def write(path: str) -> None:
    Path(path).write_text("precious")


def read(path: str) -> str:
    return Path(path).read_text()


def status(answer: bytes) -> int:
    return int(answer.split()[1])


async def test_silent_connections_make_room_for_one_that_asks() -> None:
    async with server() as running:
        silent = [await connect(running) for _ in range(control.MOST_CONNECTIONS + 10)]
        assert len(running.connections) <= control.MOST_CONNECTIONS
        assert status(await ask(running, post())) == 200
        assert running.ended["evicted"] >= 11
        for _, writer in silent:
            writer.close()


async def test_the_one_that_has_been_silent_longest_goes_first() -> None:
    async with server() as running:
        silent = [await connect(running) for _ in range(control.MOST_CONNECTIONS)]
        _, one_more = await connect(running)
        first, second = silent[0], silent[1]
        async with asyncio.timeout(http_connection.FIRST_REQUEST_TIMEOUT / 2):
            assert await first[0].read() == b""
        second[1].write(post())
        assert await second[0].readline() == b"HTTP/1.1 200 OK\r\n"
        for each in (one_more, *(w for _, w in silent)):
            each.close()


async def test_a_connection_that_has_asked_outlives_silent_ones() -> None:
    async with server() as running:
        reader, writer = await connect(running)
        writer.write(post())
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        silent = [await connect(running) for _ in range(control.MOST_CONNECTIONS + 10)]
        writer.write(post(b"Connection: close"))
        async with asyncio.timeout(5):
            assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 1
        for each in (writer, *(w for _, w in silent)):
            each.close()


async def test_when_all_are_being_answered_one_more_gets_a_503() -> None:
    asked, may_answer = 0, asyncio.Event()

    async def slow(body: bytes) -> bytes:
        nonlocal asked
        asked += 1
        await may_answer.wait()
        return body

    async with ControlServer(HERE, slow) as running:
        busy = [await connect(running) for _ in range(control.MOST_CONNECTIONS)]
        for _, writer in busy:
            writer.write(post())
        async with asyncio.timeout(5):
            while asked < control.MOST_CONNECTIONS:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.005)
        reader, writer = await connect(running)
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        assert running.ended["refused"] == 1
        may_answer.set()
        for each in (writer, *(w for _, w in busy)):
            each.close()


@pytest.mark.parametrize(
    "begun", [b"", b"POST /mi HTTP/1.1\r\nHost: ", post(b"Content-Length: 50", body=b"{")]
)
async def test_a_first_request_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http_connection, "FIRST_REQUEST_TIMEOUT", 0.1)
    async with server() as running:
        reader, writer = await connect(running)
        writer.write(begun)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        assert running.ended["timeout"] == 1
        assert not running.connections
        writer.close()


async def test_answers_that_are_not_read_are_bounded_and_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_connection, "REQUEST_TIMEOUT", 0.2)
    made = 0

    def big() -> tuple[HTTPStatus, str]:
        nonlocal made
        made += 1
        return HTTPStatus.OK, "x" * 4_000_000

    pages = {"/metrics": Page("text/plain", big)}
    async with ControlServer(HERE, lambda body: body, pages=pages) as running:
        loop = asyncio.get_running_loop()
        with socket.socket() as deaf:
            deaf.setblocking(False)
            await loop.sock_connect(deaf, running.address)
            await loop.sock_sendall(deaf, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
            async with asyncio.timeout(5):
                while not running.ended["timeout"]:  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.01)
        assert made <= 3


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"transfer-encoding:  CHUNKED", b"content-length: 0"),
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: " + b"9" * 5000,),
        (b"Content-Length: -1",),
    ],
)
async def test_a_request_that_may_end_in_two_places_is_refused_and_closed(
    headers: tuple[bytes, ...],
) -> None:
    smuggled = b"0\r\n\r\n" + post()
    async with server() as running:
        answer = await ask(running, post(*headers, body=smuggled))
    assert status(answer) in (400, 413)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    "headers",
    [
        (b"Authorization: Bearer wrong", b"Authorization: Bearer s3cr3t"),
        (b"Authorization: Bearer s3cr3t", b"authorization: Bearer s3cr3t"),
        (b"Authorization: Bearer s3cr3t", b"Content-Type: text/plain"),
        (b"Authorization: Bearer s3cr3t", b"Origin: http://a", b"Origin: http://b"),
        (b"Authorization: Bearer s3cr3t", b"Host: other"),
    ],
)
async def test_a_header_that_occurs_twice_is_refused_and_closed(
    headers: tuple[bytes, ...],
) -> None:
    """A proxy may have checked the other one."""
    async with server("s3cr3t") as running:
        answer = await ask(running, post(*headers))
    assert status(answer) == 400
    assert b"connection: close" in answer.lower()


async def test_http_1_0_has_no_transfer_encoding() -> None:
    chunked = post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")
    request = chunked.replace(b"HTTP/1.1", b"HTTP/1.0")
    async with server() as running:
        assert status(await ask(running, request)) == 400


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"Bearer s3cr3t", 200),
        (b"bearer s3cr3t", 200),
        (b"BEARER  s3cr3t", 200),
        (b"Bearer", 401),
        (b"Bearer ", 401),
        (b"Bearer s3cr3", 401),
        (b"Bearer s3cr3tt", 401),
        (b"Bearer S3CR3T", 401),
        (b"Basic s3cr3t", 401),
        (b"s3cr3t", 401),
        (b"Bearer r3ads", 403),
    ],
)
async def test_only_the_whole_token_opens_mi(given: bytes, expected: int) -> None:
    async with server("s3cr3t", metrics_token="r3ads") as running:
        assert status(await ask(running, post(b"Authorization: " + given))) == expected


@pytest.mark.parametrize(
    ("given", "expected"), [(b"s3cr3t", 200), (b"r3ads", 200), (b"r3ad", 401), (b"", 401)]
)
async def test_either_token_opens_the_pages(given: bytes, expected: int) -> None:
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + given + b"\r\n\r\n"
    async with server("s3cr3t", metrics_token="r3ads") as running:
        assert status(await ask(running, request)) == expected


@pytest.mark.parametrize("token", [None, "", "  ", "\t"])
async def test_without_a_token_nothing_but_loopback_is_listened_on(token: str | None) -> None:
    with pytest.raises(ConfigurationError, match="not a loopback address"):
        await server(token, Address("0.0.0.0", 0)).__aenter__()
    refused = pytest.raises(ConfigurationError, match="not a loopback address")
    with socket.create_server(("0.0.0.0", 0)) as inherited, refused:
        await server(token, inherited=inherited).__aenter__()
    async with server("s3cr3t", Address("0.0.0.0", 0)):
        pass


@pytest.mark.parametrize("token", ["", "   "])
def test_an_empty_token_is_none(token: str) -> None:
    section = {"listen": "0.0.0.0:8888", "token": token}
    with pytest.raises(ConfigurationError, match="token is empty; set token as well"):
        Config.of({"control": section}, "test")
    allowed = Config.of({"control": {**section, "listen": "127.0.0.1:8888"}}, "test")
    assert allowed.control.secret is None
    assert any(
        "control.token is empty" in warning for warning in ResolvedConfig.of(allowed).warnings
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"token": "sec\nret"}, "token holds a blank"),
        ({"token": " secret"}, "token holds a blank"),
        ({"token": "secrét"}, "token holds a blank"),
        ({"metrics_token": "secret"}, "metrics_token needs token"),
        ({"token": "secret", "metrics_token": "secret"}, "is the same as token"),
        ({"listen": "unix:"}, "the path is missing"),
        ({"listen": "unix:@name"}, "an abstract socket has no permissions"),
        ({"listen": "unix:/" + "x" * 107}, "108 bytes"),
        ({"listen": "unix:/a\0b"}, "NUL"),
        ({"listen": "127.0.0.1:" + "9" * 5000}, "is not a port"),
    ],
)
def test_a_mistake_in_control_is_told_and_no_secret(section: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Config.of({"control": {"listen": "127.0.0.1:1", **section}}, "test")
    assert message in str(refused.value)
    assert "sec" not in str(refused.value).replace("section", "")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    before = os.umask(0)
    yield str(tmp_path / "control.sock")
    os.umask(before)


async def test_a_unix_socket_is_for_its_owner_alone_and_goes_at_the_end(path: str) -> None:
    async with server(listen=UnixPath(path)) as running:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert str(running.address) == running.url == f"unix:{path}"
        assert status(await ask(running, post())) == 200
        rebound = post().replace(b"Host: localhost", b"Host: rebound.test")
        assert status(await ask(running, rebound)) == 421
    assert not exists(path)
    assert os.umask(0) == 0


async def test_a_dead_socket_is_replaced_and_a_live_one_is_not(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with server(listen=UnixPath(path)) as running:
        with pytest.raises(TransportError, match="another program listens there"):
            await server(listen=UnixPath(path)).__aenter__()
        assert status(await ask(running, post())) == 200


async def test_what_is_no_socket_is_left_alone(path: str) -> None:
    write(path)
    with pytest.raises(TransportError, match="is not a socket"):
        await server(listen=UnixPath(path)).__aenter__()
    assert read(path) == "precious"
    with pytest.raises(TransportError, match="its directory does not exist"):
        await server(listen=UnixPath(f"{path}-none/control.sock")).__aenter__()


async def test_a_socket_that_another_has_made_meanwhile_is_left_at_the_end(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as successor:
        async with server(listen=UnixPath(path)):
            os.unlink(path)
            successor.bind(path)
        assert exists(path)


@pytest.mark.parametrize(("mode", "is_refused"), [(0o666, True), (0o660, False), (0o600, False)])
async def test_an_inherited_unix_socket_is_not_for_everybody(
    path: str, mode: int, is_refused: bool
) -> None:
    with socket.socket(socket.AF_UNIX) as inherited:
        inherited.bind(path)
        inherited.listen()
        os.chmod(path, mode)
        running = server(listen=UnixPath(path), inherited=inherited)
        if is_refused:
            with pytest.raises(ConfigurationError, match="SocketMode=0600"):
                await running.__aenter__()
            return
        async with running:
            assert status(await ask(running, post())) == 200
        # It is the service manager's to remove.
        assert exists(path)


async def test_it_answers_again_and_again_while_no_descriptor_is_left() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    pages = {"/metrics": Page("text/plain", lambda: (HTTPStatus.OK, Path("/dev/null").read_text()))}
    async with ControlServer(HERE, lambda body: body, pages=pages) as running:
        clients = [socket.socket() for _ in range(20)]
        with ExitStack() as taken:
            for each in clients:
                each.setblocking(False)
                taken.callback(each.close)
            highest = max(map(int, os.listdir("/proc/self/fd")))
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, before[1]))
                with suppress(OSError):
                    while True:
                        taken.callback(os.close, os.dup(0))
                loop = asyncio.get_running_loop()
                for client in clients:
                    await loop.sock_connect(client, running.address)
                    await loop.sock_sendall(client, b"GET /metrics HTTP/1.0\r\n\r\n")
                    async with asyncio.timeout(5):
                        assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 200 OK")
                        while await loop.sock_recv(client, 100):
                            pass
                    client.close()
                    with suppress(OSError):
                        # Phones that wait take all that has become free.
                        while True:
                            taken.callback(os.close, os.dup(0))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_spare_files_are_as_many_as_can_be_had() -> None:
    spare = SpareFiles(3)
    assert len(spare) == 3
    assert [spare.release() for _ in range(4)] == [True, True, True, False]
    spare.refill()
    assert len(spare) == 3
    spare.close()
    assert len(spare) == 0


async def test_nothing_is_left_after_many_attacks() -> None:
    async with server() as running:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(200):
            _, writer = await connect(running)
            writer.write((b"\x16\x03\x01", b"GET", post(), b"\r\n" * 50)[number % 4])
            writer.transport.abort()
        async with asyncio.timeout(5):
            while running.connections:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.parametrize("text", ["", "host", "unix", "[::1", "1.2.3.4:99999", "unix:" + "x" * 999])
def test_what_is_no_address_of_a_control_interface_is_an_address_error(text: str) -> None:
    with pytest.raises(AddressError):
        parse_control(text)


async def test_ctl_over_a_unix_socket(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = {"transport": {"listen": "ws:127.0.0.1:0"}, "control": {"listen": f"unix:{path}"}}
    async with Application(ResolvedConfig.of(Config.of(table, "test"))):
        for words in (["--control", f"unix:{path}"], ["-u", f"unix:{path}"]):
            assert await asyncio.to_thread(main, ["ctl", *words, "trace"]) == 0
    assert capsys.readouterr().out == "WS tracing: off\nWSS tracing: off\n" * 2
    assert await asyncio.to_thread(main, ["ctl", "-u", f"unix:{path}", "trace"]) == 2
    assert "is sipws running" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b"5",
        b'{"error": 5}',
        b'{"error": {"code": "x"}}',
        b'{"error": {"code": 1e999}}',
        b'{"result": [{"Connections": [{"ID": 1}]}]}',
        b'{"result": 5}',
        b"[" * 100_000,
        b'{"result": ' + b"9" * 5000 + b"}",
    ],
)
@pytest.mark.parametrize("order", ["connections", "stats"])
async def test_ctl_takes_a_wrong_answer_for_one(
    answer: bytes, order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ControlServer(HERE, lambda body: answer) as running:
        code = await asyncio.to_thread(main, ["ctl", "--url", running.url, order])
    [line] = capsys.readouterr().err.splitlines()
    assert code == 2
    assert "control interface" in line


async def test_ctl_shows_no_escapes_and_follows_no_redirect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ControlServer(HERE, lambda body: b'{"result": "a\\u001b[2J\\u202e"}') as running:
        assert await asyncio.to_thread(main, ["ctl", "--url", running.url, "trace"]) == 0
    assert capsys.readouterr().out == "a\\x1b[2J\\u202e\n"
    heard: list[bytes] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"}}"))
        there = writer.get_extra_info("sockname")[1]
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/mi\r\n" % there)
        writer.write(b"Content-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as other:
        url = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}/mi"
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://192.0.2.1:1")
        words = ["ctl", "--token", "s3cr3t", "--url", url, "trace"]
        assert await asyncio.to_thread(main, words) == 2
    assert len(heard) == 1


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    table = {"transport": {"listen": "ws:127.0.0.1:0"}}
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as running:
        yield running


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["9" * 5000, 10**4000, "-1", "²", "a\x1b[2J", "a\u202eb", "a\nb", "x" * 300]),
)  # fmt: skip
PARAMS = st.recursive(
    LEAVES, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=5), x, max_size=4)
)
NAMES = st.sampled_from(
    [
        "id",
        "ipport",
        "code",
        "reason",
        "uri",
        "filter",
        "trace_mode",
        "statistics",
        "command",
        "mode",
        "level",
        "pid",
        "mi_cmd",
        "scope",
        "type",
    ]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(params=st.lists(PARAMS, max_size=4) | st.dictionaries(NAMES, PARAMS, max_size=4))
async def test_no_parameters_make_a_method_fail_by_itself(
    application: Application, params: Any
) -> None:
    methods = methods_of(application)
    for method in methods:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = json.loads(mi.reply(mi.parse(json.dumps(call).encode()), methods))
        assert answer.get("error", {}).get("code") != mi.SERVER_ERROR, (method, params)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\u202eb", "a\u2028b", "x" * 256])
async def test_names_that_logs_could_not_repeat_are_refused(
    application: Application, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    params = {"id": name, "uri": "hep:127.0.0.1:1;transport=udp"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "trace_start", "params": params}
    answer = json.loads(mi.reply(mi.parse(json.dumps(call).encode()), methods_of(application)))
    assert answer["error"]["message"] == "Invalid params"
    assert name not in caplog.text
