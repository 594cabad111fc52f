"""The protocols of systemd, spoken with real sockets."""

import asyncio
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from sipws.address import Address, Listener
from sipws.errors import ConfigurationError
from sipws.service import systemd

PAGE = Origin("https://phone.example.com")

PATIENCE = 20.0
"""Seconds that a process may take to start on a busy machine."""


class Manager:
    """The service manager's end of the notification socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE)

    def hear(self) -> list[str]:
        """The next datagram, line by line."""
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@{secrets.token_hex(8)}"
    manager = Manager(address)
    with manager.socket:
        yield manager


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_what_we_do_is_told(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address}
    notifier = systemd.Notifier.of(environment)
    notifier.ready("listening")
    assert manager.hear() == ["READY=1", "STATUS=listening"]
    notifier.reloading()
    reloading, since = manager.hear()
    assert reloading == "RELOADING=1"
    assert int(since.removeprefix("MONOTONIC_USEC=")) > 0
    notifier.stopping("closing")
    assert manager.hear() == ["STOPPING=1", "STATUS=closing"]
    assert environment == {}


async def test_the_watchdog_hears_from_the_event_loop(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000"}
    notifier = systemd.Notifier.of(environment)
    notifier.ready("listening")
    notifier.ready("listening")
    heard = [await asyncio.to_thread(manager.hear) for _ in range(4)]
    notifier.close()
    assert sorted(heard) == [["READY=1", "STATUS=listening"]] * 2 + [["WATCHDOG=1"]] * 2


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "9" * 5000},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": ""},
    ],
)
def test_without_a_manager_nothing_is_told_and_no_timer_runs(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    notifier = systemd.Notifier.of(environment)
    notifier.ready("listening")
    notifier.reloading()
    notifier.stopping("closing")
    notifier.close()
    assert notifier.watchdog is None
    assert caplog.text == ""
    assert environment == {}


@pytest.mark.parametrize(
    "address",
    ["/gone", "@", "@gone", "/" + "a" * 5000, "@" + "a" * 5000, "/a\0b", "/\udcff"],
    ids=["path", "no name", "name", "long path", "long name", "NUL", "not UTF-8"],
)
def test_a_manager_that_is_not_there_is_no_reason_to_fail(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    systemd.Notifier.of({"NOTIFY_SOCKET": address}).ready("listening")
    assert "cannot notify the service manager" in caplog.text


def test_an_address_that_no_manager_has_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    notifier = systemd.Notifier.of({"NOTIFY_SOCKET": "run/notify"})
    notifier.ready("listening")
    notifier.stopping("closing")
    [record] = caplog.records
    assert "NOTIFY_SOCKET = 'run/notify' is neither a path" in record.getMessage()


@pytest.mark.parametrize("limit", ["1" * 20, str(2**64 - 1)])
async def test_a_watchdog_of_ages_is_one_of_a_year(limit: str) -> None:
    notifier = systemd.Notifier.of({"WATCHDOG_USEC": limit})
    notifier.ready("listening")
    notifier.close()
    assert notifier.watchdog == systemd.LONGEST_WATCHDOG


@pytest.mark.parametrize(
    ("count", "message"),
    [
        ("x", "LISTEN_FDS = 'x' is not a number of sockets"),
        ("-1", "LISTEN_FDS = '-1' is not a number of sockets"),
        ("1e999", "LISTEN_FDS = '1e999' is not a number of sockets"),
        ("9" * 5000, f"LISTEN_FDS = {'9' * 40!r} is not a number of sockets"),
    ],
    ids=["word", "negative", "infinite", "5000 digits"],
)
def test_a_number_of_sockets_that_is_none_is_refused(count: str, message: str) -> None:
    environment = {"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())}
    with pytest.raises(ConfigurationError) as refused:
        systemd.inherited_sockets(environment)
    assert str(refused.value).startswith(message)
    assert "unset LISTEN_FDS and LISTEN_PID" in str(refused.value)
    assert environment == {}


@pytest.mark.parametrize("count", ["", "0"])
def test_no_sockets_may_be_handed_over(count: str) -> None:
    assert systemd.inherited_sockets({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())}) == []


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_PID": "x"}],
)
def test_sockets_for_another_process_are_left_alone(environment: dict[str, str]) -> None:
    assert systemd.inherited_sockets(environment) == []
    assert environment == {}


def inherited(server: socket.socket) -> systemd.Inherited:
    return systemd.Inherited("web", server)


def test_a_socket_goes_to_the_listener_with_its_address(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    wanted = Listener.parse(f"ws:127.0.0.1:{port} tag edge")
    others = [Listener.parse(f"ws:127.0.0.2:{port}"), Listener.parse("ws:127.0.0.1:1")]
    assigned = systemd.assign([inherited(listening)], [*others, wanted], None)
    assert assigned.listeners == {wanted: [listening]}
    control = Address("127.0.0.1", port)
    assert systemd.assign([inherited(listening)], others, control).control is listening


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_socket_for_every_address_goes_to_the_star(host: str) -> None:
    with ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = stack.enter_context(socket.create_server((host, 0), family=family))
        listener = Listener.parse(f"ws:*:{server.getsockname()[1]}")
        assert systemd.assign([inherited(server)], [listener], None).listeners == {
            listener: [server]
        }


def test_a_socket_that_nobody_wants_is_refused_by_name(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    with pytest.raises(ConfigurationError) as refused:
        systemd.assign([inherited(listening)], [Listener.parse("ws:*:80")], Address("127.0.0.1", 1))
    assert str(refused.value) == (
        f"the inherited socket 'web' listens on 127.0.0.1:{port}, which no listener is configured"
        " for; there are: ws:*:80, control 127.0.0.1:1"
    )


EXEC = """
import os, sys
for number, fd in enumerate(map(int, filter(None, sys.argv[1].split(","))), 3):
    os.dup2(fd, number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "sipws", "run", *sys.argv[2:]])
"""
"""What systemd does between fork and exec."""


class Open(Protocol):
    """What has a file descriptor."""

    def fileno(self) -> int: ...


def start(
    handed_over: Sequence[Open], words: list[str], **environment: str
) -> subprocess.Popen[str]:
    # Out of the way of 3 and 4, so that none is overwritten before it is moved there.
    fds = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 100) for each in handed_over]
    try:
        return subprocess.Popen(
            [sys.executable, "-c", EXEC, ",".join(map(str, fds)), *words],
            pass_fds=fds,
            env={**os.environ, "LISTEN_FDS": str(len(fds)), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize(
    ("workers", "also", "stopping"),
    [("1", "", "closing 0 connections"), ("2", ", 2 workers", "stopping 2 workers")],
)
def test_a_service_takes_its_sockets_over_and_says_how_it_is(
    tmp_path: Path, listening: socket.socket, workers: str, also: str, stopping: str
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket, socket.create_server(("127.0.0.1", 0)) as control:
        port, control_port = (each.getsockname()[1] for each in (listening, control))
        config = tmp_path / "sipws.toml"
        config.write_text(
            f'[transport]\nlisten = "ws:127.0.0.1:{port}"\n'
            f'[control]\nlisten = "127.0.0.1:{control_port}"\n'
        )
        process = start(
            [listening, control],
            ["-c", str(config), "--workers", workers],
            NOTIFY_SOCKET=manager.address,
            LISTEN_FDNAMES="sip:control",
        )
        with process:
            try:
                status = f"STATUS=listening on ws:127.0.0.1:{port}{also}"
                assert manager.hear() == ["READY=1", status]
                url = f"ws://127.0.0.1:{port}/"
                with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE) as client:
                    client.send("\r\n\r\n")
                    assert client.recv(timeout=PATIENCE) == "\r\n"
                with socket.create_connection(("127.0.0.1", control_port)) as asking:
                    asking.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                    assert asking.recv(100).startswith(b"HTTP/1.1 200 OK")
                process.send_signal(signal.SIGHUP)
                assert manager.hear()[0] == "RELOADING=1"
                assert manager.hear() == ["READY=1", status]
                process.send_signal(signal.SIGTERM)
                assert manager.hear() == ["STOPPING=1", f"STATUS={stopping}"]
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()


def test_a_service_with_a_socket_too_many_does_not_start(
    tmp_path: Path, listening: socket.socket
) -> None:
    config = tmp_path / "sipws.toml"
    config.write_text('[transport]\nlisten = "ws:127.0.0.1:1"\n')
    with start([listening], ["-c", str(config)], LISTEN_FDNAMES="sip") as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "sipws: the inherited socket 'sip' listens on 127.0.0.1:" in err


@contextmanager
def a_file() -> Iterator[Open]:
    with open(os.devnull) as file:
        yield file


@contextmanager
def a_pipe() -> Iterator[Open]:
    reading, writing = os.pipe()
    with open(reading) as reader, open(writing, "w"):
        yield reader


@contextmanager
def a_datagram_socket() -> Iterator[Open]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        yield udp


@contextmanager
def a_connection() -> Iterator[Open]:
    one, other = socket.socketpair()
    with one, other:
        yield one


@pytest.mark.parametrize(
    ("handed_over", "count", "problem"),
    [
        (a_file, "1", "(file descriptor 3) is not a socket; unset LISTEN_FDS"),
        (a_pipe, "1", "(file descriptor 3) is not a socket; unset LISTEN_FDS"),
        (a_datagram_socket, "1", "(file descriptor 3) is not a TCP socket; its unit needs"),
        (a_connection, "1", "(file descriptor 3) is a connection and does not listen"),
        (
            None,
            "3",
            "LISTEN_FDS = 3, but the inherited socket 'unknown' (file descriptor 3) is not open",
        ),
        (None, "x", "LISTEN_FDS = 'x' is not a number of sockets"),
        (None, "9" * 5000, "99' is not a number of sockets"),
    ],
)
def test_what_is_no_listening_socket_ends_the_start_in_one_line(
    handed_over: Callable[[], AbstractContextManager[Open]] | None,
    count: str,
    problem: str,
    tmp_path: Path,
) -> None:
    config = tmp_path / "sipws.toml"
    config.write_text('[transport]\nlisten = "ws:127.0.0.1:0"\n')
    with ExitStack() as stack:
        fds = [] if handed_over is None else [stack.enter_context(handed_over())]
        words = ["-c", str(config)]
        process = stack.enter_context(start(fds, words, LISTEN_FDS=count, NOTIFY_SOCKET=""))
        stack.callback(process.kill)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert err.startswith("sipws: ")
    assert problem in err
    assert err.count("\n") == 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    units = Path(__file__).parents[3] / "docs" / "systemd"
    copies = [tmp_path / path.name for path in sorted(units.iterdir())]
    for copy in copies:
        text = (units / copy.name).read_text()
        # It looks for the program too.
        copy.write_text(text.replace("/usr/bin/sipws", sys.executable))
    assert [copy.suffix for copy in copies] == [".service", ".socket"]
    checked = subprocess.run(
        ["systemd-analyze", "verify", *map(str, copies)], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")
