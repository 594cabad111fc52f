"""``sipws run --workers 2`` over real processes."""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families as parse
from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as connect_in_one_thread
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

PAGE = Origin("https://phone.example.com")

PATIENCE = 20.0
"""Seconds that processes may take on a busy machine."""


def until(done: Callable[[], Any]) -> Any:
    """Ask until the answer is yes, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := done()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return answer


class SecureClient:
    """A client over TLS in one thread.

    websockets' own reads and writes a TLS socket in two at once, which Python 3.11 cannot: about
    one request in some hundred is never sent.
    """

    def __init__(self, url: str, tls: ssl.SSLContext, subprotocol: Subprotocol) -> None:
        self._runner = asyncio.Runner()
        opening = connect_in_one_thread(
            url, subprotocols=[subprotocol], origin=PAGE, ssl=tls, open_timeout=PATIENCE
        )
        self._client = self._runner.run(_awaited(opening))

    def send(self, message: str) -> None:
        self._runner.run(self._client.send(message))

    def recv(self, timeout: float) -> str | bytes:
        return self._runner.run(asyncio.wait_for(self._client.recv(), timeout))

    def close(self) -> None:
        self._runner.run(self._client.close())

    def __enter__(self) -> "SecureClient":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        self._runner.close()


async def _awaited(opening: connect_in_one_thread) -> AsyncConnection:
    return await opening


class Program:
    """A program of several workers that runs, and clients of it."""

    def __init__(self, stack: ExitStack, log: Path, *words: str) -> None:
        self._stack = stack
        self.log = log
        self.tls: ssl.SSLContext | None = None
        """What clients trust."""
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sipws", "run", *words],
                stdout=file,
                stderr=file,
            )
        stack.callback(self._kill)

    def _kill(self) -> None:
        # The workers end when their parent is gone.
        self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def serves(self) -> "Program":
        def ready() -> bool:
            assert self.process.poll() is None, self.said
            return "workers serve" in self.said

        until(ready)
        [listening] = re.findall(r"listening on (wss?:127\.0\.0\.1:\d+)", self.said)
        self.url = listening.replace(":", "://", 1)
        [self.control] = re.findall(r"control is on (\S+)/mi", self.said)
        return self

    def connect(self) -> Any:
        sip = Subprotocol("sip")
        if self.tls is not None:
            return self._stack.enter_context(SecureClient(self.url, self.tls, sip))
        client = connect(self.url, subprotocols=[sip], origin=PAGE, open_timeout=PATIENCE)
        return self._stack.enter_context(client)

    def one_on(self, worker: int) -> Any:
        """A client of one of the workers: the system chooses, until it has chosen that."""
        for _ in range(50):
            before = self.connections
            client = self.connect()
            if (self.connections - before)[worker]:
                return client
            client.close()
            until(lambda before=before: self.connections == before)
        pytest.fail(f"none of 50 clients came to worker {worker}")

    def mi(self, method: str, *params: Any, **named: Any) -> Any:
        call = {"jsonrpc": "2.0", "id": "a", "method": method, "params": list(params) or named}
        request = urllib.request.Request(
            f"{self.control}/mi", json.dumps(call).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            said = json.load(reply)
        assert said["id"] == "a"
        return said["result"] if "result" in said else said["error"]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.control + path, timeout=PATIENCE) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()

    def metrics(self, name: str) -> Counter[tuple[str, ...]]:
        """The samples of a metric, by their labels' values."""
        families = parse(self.get("/metrics")[1])
        samples = [x for family in families for x in family.samples]
        series = Counter((x.name, *sorted(x.labels.items())) for x in samples)
        assert set(series.values()) == {1}
        return Counter({tuple(x.labels.values()): int(x.value) for x in samples if x.name == name})

    @property
    def connections(self) -> Counter[int]:
        """Open connections of each worker."""
        found = self.metrics("sipws_connections")
        return Counter(
            {int(n): count for (_, state, _, n), count in found.items() if state == "open"}
        )

    @property
    def pids(self) -> dict[int, int]:
        return {row["ID"]: row["PID"] for row in self.mi("ps")["Processes"]}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(*words: str, listener: str = "ws:127.0.0.1:0") -> Program:
            ports = ("--listen", listener, "--control", "127.0.0.1:0")
            return Program(stack, tmp_path / "log", *ports, "--workers", "2", *words)

        yield run


@pytest.fixture
def another() -> Iterator[socket.socket]:
    yield from receiving()


@pytest.fixture
def collector() -> Iterator[socket.socket]:
    yield from receiving()


def receiving() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind(("127.0.0.1", 0))
        receiving.settimeout(PATIENCE)
        yield receiving


def destination(collector: socket.socket) -> str:
    return f"127.0.0.1:{collector.getsockname()[1]};transport=udp"


def is_served(client: ClientConnection | SecureClient) -> bool:
    client.send("\r\n\r\n")
    return client.recv(timeout=PATIENCE) == "\r\n"


def close_code(client: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed):
        client.recv(timeout=PATIENCE)
    return client.close_code


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Orphans are nobody's until they are reaped.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_several_workers_are_one_program(start: Start, collector: socket.socket) -> None:
    program = start("--trace-destination", destination(collector)).serves()
    first, second = program.one_on(1), program.one_on(2)
    assert is_served(first)
    assert is_served(second)
    assert program.connections == {1: 1, 2: 1}

    listed = program.mi("list_tcp_conns")["Connections"]
    peers = [f"{ip}:{port}" for ip, port in (x.local_address[:2] for x in (first, second))]
    assert {each["Remote"] for each in listed} == set(peers)
    assert len({each["ID"] for each in listed}) == 2
    statistics = program.mi("get_statistics", ["ws:connections", "ws:messages_in", "trace:on"])
    assert statistics["ws:connections"] == 2
    assert statistics["ws:messages_in"] >= 2
    assert statistics["trace:on"] == 1

    # Workers count SIP for the metrics, though the control interface is their parent's.
    for method, clients in (("OPTIONS", [first, second]), ("INVITE", [second])):
        for client in clients:
            client.send(
                f"{method} sip:b SIP/2.0\r\nVia: SIP/2.0/WS a.invalid\r\nFrom: <sip:a@b>;tag=1\r\n"
                f"To: <sip:b>\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n\r\n"
            )
            assert client.recv(timeout=PATIENCE)
    requests = program.metrics("sipws_sip_requests_total")
    assert +requests == {
        ("OPTIONS", "client", "1"): 1,
        ("OPTIONS", "client", "2"): 1,
        ("INVITE", "client", "2"): 1,
    }
    assert {worker for _, leg, worker in program.metrics("sipws_messages_total")} == {"1", "2"}

    assert program.mi("ws_trace") == {"WS tracing": "on"}
    assert program.mi("ws_trace", trace_mode="off") == "OK"
    assert program.mi("get_statistics", ["trace:on"]) == {"trace:on": 0}
    assert program.mi("trace", mode="on") == "OK"
    assert program.mi("get_statistics", ["trace:on"]) == {"trace:on": 1}
    assert program.mi("trace", mode="off") == "OK"
    assert program.mi("get_statistics", ["trace:on"]) == {"trace:on": 0}
    assert program.mi("ws:trace", "sideways")["code"] == 500
    assert program.mi("get_statistics", ["core:timestamp"])["core:timestamp"] < 600
    assert program.mi("reset_statistics", ["messages_in"]) == "OK"
    assert program.mi("get_statistics", ["messages_in"]) == {"ws:messages_in": 0}
    assert program.mi("get_statistics", ["nosuch"]) == {}

    for client, peer in zip((first, second), peers, strict=True):
        assert program.mi("tcp:close", ipport=peer, code=1000) == "OK"
        assert close_code(client) == 1000
    assert program.mi("tcp:close", peers[0])["code"] == 404
    assert program.mi("nonsense")["code"] == -32601
    assert program.mi("tcp:close", code="x", id=1)["code"] == -32602

    pids = program.pids
    assert pids[0] == program.process.pid
    assert len(set(pids.values())) == 3
    assert program.mi("uptime")["Up time"].endswith("[sec]")
    assert program.mi("pwd") == {"WD": os.readlink(f"/proc/{pids[0]}/cwd")}
    assert "run" in program.mi("arg")
    assert program.mi("which", "arg") == [[]]
    assert "ws_trace" in program.mi("which")
    assert program.get("/healthz") == (200, "ok\n")
    assert program.get("/readyz") == (200, "ready\n")
    assert program.get("/nothing")[0] == 404
    assert program.metrics("sipws_worker_up") == {("1",): 1, ("2",): 1}
    assert set(program.metrics("process_open_fds")) == {("0",), ("1",), ("2",)}


def test_a_worker_that_dies_is_started_again_and_the_others_go_on(
    start: Start, collector: socket.socket, another: socket.socket
) -> None:
    program = start("--trace-destination", destination(collector), "--no-trace-on").serves()
    client, other = program.one_on(1), program.one_on(2)
    assert program.mi("ws_trace", trace_mode="on") == "OK"
    assert program.mi("log_level", 4) == {"New global log level": 4}
    traces = f"hep:{destination(another)}"
    assert program.mi("trace_start", "by-hand", traces, ["ip=192.0.2.1"]) == "OK"
    files = f"/proc/{program.process.pid}/fd"

    def die_and_come_back(times: int) -> None:
        os.kill(program.pids[1], signal.SIGKILL)
        until(lambda: program.metrics("sipws_worker_restarts_total")[("1",)] == times)
        until(lambda: 1 in program.pids)
        assert is_served(other)
        # What was switched is switched in the new one too.
        assert program.mi("get_statistics", ["trace:on"]) == {"trace:on": 1}
        assert [x["ID"] for x in program.mi("trace_list")["Traces"]][1:] == ["by-hand"]
        processes = program.mi("log_level")["Processes"]
        assert [(x["PID"], x["Log level"]) for x in processes] == [
            (pid, 4) for _, pid in sorted(program.pids.items())
        ]
        assert [x["Type"] for x in processes] == ["sipws parent", *["sipws worker"] * 2]
        assert is_served(program.one_on(1))

    die_and_come_back(1)
    assert close_code(client) == 1006
    opened = len(os.listdir(files))
    die_and_come_back(2)
    assert len(os.listdir(files)) == opened
    assert "worker 1 ended with signal 9 and is started again" in program.said
    for pid in program.pids.values():
        assert program.mi("log_level", 3, pid) == {"Log level": 3}
    assert {x["Log level"] for x in program.mi("log_level")["Processes"]} == {3}
    assert program.mi("log_level", 3, os.getpid())["data"] == "Bad PID"
    assert program.mi("trace_stop", "by-hand") == "OK"
    assert program.mi("trace_stop", "by-hand")["code"] == 400


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_the_end_every_client_is_told_and_nothing_is_left(
    start: Start, number: signal.Signals
) -> None:
    program = start("-c", os.devnull).serves()
    clients, pids = [program.one_on(1), program.one_on(2)], program.pids.values()
    assert program.stop(number) == 0
    assert [close_code(client) for client in clients] == [1001, 1001]
    assert not any(map(is_alive, pids))
    assert program.said.count("stopped: ") == 3


def test_one_worker_can_be_ended_and_comes_back(start: Start) -> None:
    program = start("-c", os.devnull).serves()
    client, other = program.one_on(1), program.one_on(2)
    first = program.pids[1]
    os.kill(first, signal.SIGTERM)
    assert close_code(client) == 1001
    assert is_served(other)
    until(lambda: program.pids.get(1, first) != first)
    assert is_served(program.one_on(1))


@pytest.fixture
def short_tmpdir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The path of a Unix socket may not be as long as those of pytest's directories."""
    with TemporaryDirectory(prefix="t") as path:
        monkeypatch.setenv("TMPDIR", path)
        yield Path(path)


def test_workers_end_with_their_parent(start: Start, short_tmpdir: Path) -> None:
    program = start("-c", os.devnull).serves()
    clients, pids = [program.one_on(1), program.one_on(2)], program.pids.values()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        uri = "hep:{}:{};transport=tcp".format(*listening.getsockname())
        assert program.mi("trace_start", "live", uri) == "OK"
        assert list(short_tmpdir.iterdir())
        program.process.kill()
        assert [close_code(client) for client in clients] == [1001, 1001]
        program.process.wait(PATIENCE)
        until(lambda: not any(map(is_alive, pids)))
    assert program.said.count("the parent process is gone: stopping") == 2
    assert "Traceback" not in program.said
    assert not list(short_tmpdir.iterdir()), "they clean up behind it"


@pytest.mark.parametrize(
    "child",
    [
        "subprocess.Popen(['sleep', '60'], close_fds=False).pid",
        "os.fork() or os.execlp('sleep', 'sleep', '60')",
        "os.fork() or time.sleep(60) or os._exit(0)",
    ],
)
def test_workers_end_whatever_a_filter_has_started(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: str
) -> None:
    pids = tmp_path / "pids"
    (tmp_path / "starting.py").write_text(
        f"import os, subprocess, time\nstarted = {child}\n"
        f"print(started, file=open({str(pids)!r}, 'a'), flush=True)\n"
        "def decide(connection): return True\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    program = start("-c", os.devnull, "--trace-filter", "starting:decide")
    try:
        assert program.serves().stop() == 0
    finally:
        for pid in map(int, pids.read_text().split()):
            os.kill(pid, signal.SIGKILL)


def test_workers_log_no_more_than_one_process_would(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "sipws.toml"
    config.write_text('[tracing]\ntrace_mask_parameters = ["pet"]\n')
    program = start("-c", str(config)).serves()
    with program.connect() as client:
        client.close(1000, "asked for /?pet=felix")
    until(lambda: "asked for" in program.said)
    assert "/?pet=***" in program.said
    assert "felix" not in program.said


def test_a_reload_is_for_all(start: Start, tmp_path: Path) -> None:
    script = tmp_path / "filter.cfg"
    script.write_text("route[f] { exit; }")
    program = start("-c", os.devnull, "--script", str(script), "--trace-filter-route", "f")
    program.serves()
    assert program.mi("reload") == "OK"
    assert program.said.count("filter reloaded") == 2
    program.process.send_signal(signal.SIGHUP)
    until(lambda: program.said.count("filter reloaded") == 4)
    pids = program.pids
    os.kill(pids[1], signal.SIGHUP)
    until(lambda: program.said.count("filter reloaded") == 5)
    assert program.pids == pids
    script.write_text("nonsense")
    refused = program.mi("reload")
    assert refused["code"] == 500
    assert "the new filter is refused, the old one stays" in refused["message"]
    assert is_served(program.connect())


def test_tls_is_done_by_the_worker_that_has_the_connection(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    config = tmp_path / "sipws.toml"
    config.write_text('[transport]\ntls_certificate = "server.pem"\n')
    program = start("-c", str(config), listener="wss:127.0.0.1:0").serves()
    program.tls = ssl.create_default_context()
    authority.configure_trust(program.tls)
    assert is_served(program.one_on(1))
    assert is_served(program.one_on(2))
    assert program.mi("tls_reload") == "OK"
    assert program.said.count("certificates reloaded") == 2


def test_a_phone_that_comes_to_another_worker_has_left_the_first(
    start: Start, collector: socket.socket
) -> None:
    program = start("--trace-destination", destination(collector)).serves()
    register = (
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
        "From: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: 1\r\n"
        "CSeq: 1 REGISTER\r\nContact: <sip:a@a.invalid;transport=ws>"
        ';reg-id=1;+sip.instance="<urn:uuid:1>"\r\nContent-Length: 0\r\n\r\n'
    )
    for worker in (1, 2, 1):
        client = program.one_on(worker)
        client.send(register)
        assert client.recv(timeout=PATIENCE).startswith("SIP/2.0 200 ")
    told = 0
    while told < 2:
        told += b"SUPERSEDED" in collector.recv(65536)


def test_the_embedded_collector_shows_the_traces_of_all(start: Start) -> None:
    program = start()
    until(lambda: "Ctrl-C ends it." in program.said or program.process.poll())
    [url] = set(re.findall(r"ws:(127\.0\.0\.1:\d+)", program.said))
    for _ in range(40):
        with connect(f"ws://{url}", subprotocols=[Subprotocol("sip")], origin=PAGE):
            pass
    assert program.stop(signal.SIGINT) == 0
    traces = re.findall(
        r"^\S+  NET  127\.0\.0\.1:\d+ > \S+  ACCEPTED SUCCESS .*$", program.said, re.M
    )
    assert len(traces) == 40
    # Two processes count on from numbers of their own.
    ids = sorted(int(line.rpartition("#")[2]) for line in traces)
    assert ids[-1] - ids[0] > 40
    assert "\nStopped: 40 connections traced, " in program.said


def test_a_trace_whose_peer_is_gone_ends_in_all_workers(
    start: Start, collector: socket.socket, another: socket.socket
) -> None:
    program = start("--trace-destination", destination(collector)).serves()
    client = program.one_on(1)
    gone = destination(another)
    another.close()
    assert program.mi("trace_start", id="by-hand", uri=f"hep:{gone}") == "OK"

    def has_ended() -> bool:
        # Only the worker with this client finds out.
        client.send("OPTIONS sip:example.com SIP/2.0\r\nCall-ID: 1\r\n\r\n")
        return [x["ID"] for x in program.mi("trace_list")["Traces"]] == ["0"]

    until(has_ended)


def test_who_asks_for_a_trace_gets_that_of_all_workers_on_one_connection(start: Start) -> None:
    program = start("-c", os.devnull, "--no-trace-sip").serves()
    clients = [program.one_on(1), program.one_on(2)]
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listening:
        listening.settimeout(PATIENCE)
        uri = "hep:{}:{};transport=tcp;version=3".format(*listening.getsockname())
        assert program.mi("trace_start", "live", uri, ["ip=127.0.0.1"]) == "OK"
        assert program.mi("trace_start", "live", uri)["code"] == 500
        assert program.mi("trace_start", "other", "hep:nonsense;transport=x")["code"] == 500
        assert program.mi("trace_start", True, uri)["code"] == -32602
        assert program.mi("trace_start", "more", uri, [], "too much")["code"] == -32602
        connected, _ = listening.accept()
        connected.settimeout(PATIENCE)
        [trace] = program.mi("trace_list")["Traces"]
        assert trace["URI"] == uri.removeprefix("hep:")
        for number, client in enumerate(clients):
            client.send(f"OPTIONS sip:{number}@example.com SIP/2.0\r\nCall-ID: {number}\r\n\r\n")
        received = b""
        while not all(b"OPTIONS sip:%d@" % number in received for number in (0, 1)):
            received += connected.recv(65536)
        os.kill(program.pids[1], signal.SIGKILL)
        until(lambda: 1 in program.pids and program.metrics("sipws_worker_restarts_total")[("1",)])
        program.one_on(1).send("OPTIONS sip:2@example.com SIP/2.0\r\nCall-ID: 2\r\n\r\n")
        while b"OPTIONS sip:2@" not in received:
            received += connected.recv(65536)
        connected.close()

        def has_ended() -> bool:
            clients[1].send("OPTIONS sip:3@example.com SIP/2.0\r\nCall-ID: 3\r\n\r\n")
            return program.mi("trace_list")["Traces"] == []

        until(has_ended)
        # Its name is free again, and stopped by hand it ends as well.
        assert program.mi("trace_start", "live", uri) == "OK"
        connected, _ = listening.accept()
        connected.settimeout(PATIENCE)
        assert program.mi("trace_stop", "live") == "OK"
        while connected.recv(65536):
            pass
        connected.close()
    assert program.stop() == 0


def test_a_second_signal_ends_it_at_once(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "sipws.toml"
    config.write_text("[transport]\nshutdown_grace = 600000\n")
    program = start("-c", str(config)).serves()
    client, pids = program.connect(), program.pids.values()
    with socket.create_connection(client.remote_address) as deaf:
        deaf.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: sip\r\nOrigin: null\r\n\r\n"
        )
        until(lambda: program.connections.total() == 2)
        program.process.terminate()
        assert close_code(client) == 1001
        until(lambda: program.get("/readyz") == (503, "stopping\n"))
        assert program.stop() == -signal.SIGTERM
        until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--workers", "0"], "transport.workers = 0: Input should be greater than or equal to 1"),
        (["--listen", "ws:192.0.2.1:1"], "cannot listen on ws:192.0.2.1:1: "),
        (["--script", "/nowhere.cfg"], "/nowhere.cfg: cannot be read"),
        (["-c", "spool.toml"], "hep_spool: spool "),
    ],
)
def test_a_users_mistake_is_one_message_and_status_2(
    start: Start, tmp_path: Path, words: list[str], why: str
) -> None:
    (tmp_path / "spool.toml").write_text(
        '[hep]\nhep_id = "[homer]127.0.0.1:9060"\nhep_spool = "log"\n'
        '[tracing]\ntrace_destination = "homer"\ntrace_on = true\n'
    )
    program = start(*(str(tmp_path / x) if x.endswith("toml") else x for x in words))
    assert program.process.wait(PATIENCE) == 2
    assert program.said.count("sipws: ") == 1
    assert why in program.said
    assert "Traceback" not in program.said


def test_a_port_that_another_program_of_ours_has_is_not_shared_with_it(start: Start) -> None:
    first = start("-c", os.devnull).serves()
    second = start("-c", os.devnull, "--listen", first.url.replace("//", ""))
    assert second.process.wait(PATIENCE) == 2
    assert "Address already in use" in second.said
