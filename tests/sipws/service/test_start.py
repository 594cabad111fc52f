"""Starting with input that nobody means: one clear line, and never a traceback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hep.cli.main import main as hep_main
from hep.cli.usage import LONGEST_LINE, MOST_LINES, clipped
from sipws.cli.main import main
from sipws.errors import ConfigurationError
from sipws.service import systemd

DIGITS = "9" * 5000
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("address", "is_told"), [("", ""), ("x", "neither a path"), ("vsock:2:1", "neither a path")]
)
def test_a_notify_socket_that_is_none_is_as_if_it_were_not_set(
    address: str, is_told: str, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = systemd.Notifier.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": DIGITS})
    notifier.ready("listening")
    notifier.close()
    assert is_told in caplog.text
    assert len(caplog.records) == bool(is_told)
    assert notifier.watchdog is None


@pytest.mark.parametrize("address", ["/" + "x" * 200, "@" + "x" * 200, "@"])
def test_a_notify_socket_that_cannot_be_is_a_warning(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    systemd.Notifier.of({"NOTIFY_SOCKET": address}).ready("listening")
    assert "cannot notify the service manager" in caplog.text


def test_a_watchdog_of_ages_is_one_that_a_timer_can_have() -> None:
    watchdog = systemd.Notifier.of({"WATCHDOG_USEC": "9" * 20}).watchdog
    assert watchdog == systemd.LONGEST_WATCHDOG


@pytest.mark.parametrize("count", ["x", "-1", DIGITS, "1.5", "0x3"])
def test_listen_fds_that_is_no_number_is_refused(count: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a number of sockets"):
        systemd.inherited_sockets({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())})


@pytest.mark.parametrize("kind", ["file", "closed", "datagram", "connected"])
def test_listen_fds_that_is_no_listening_socket_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    null = os.open(os.devnull, os.O_RDONLY)
    given = {
        "file": null,
        "closed": 10**6,
        "datagram": datagram.fileno(),
        "connected": ours.fileno(),
    }
    said = {
        "file": "LISTEN_FDS = 1, but .*web.* is not a socket",
        "closed": "LISTEN_FDS = 1, but .*web.* is not open",
        "datagram": "is not a TCP socket",
        "connected": "is a connection",
    }
    # What is refused is closed.
    fd = os.dup(given[kind]) if kind != "closed" else 10**6
    monkeypatch.setattr(systemd, "FIRST_FD", fd)
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "web"}
    try:
        with pytest.raises(ConfigurationError, match=said[kind]):
            systemd.inherited_sockets(environment)
    finally:
        for each in (ours, theirs, datagram):
            each.close()
        os.close(null)
        if kind == "file":
            os.close(fd)


@pytest.mark.parametrize(
    "toml",
    [
        f"[transport]\nworkers = {DIGITS}",
        "x = " + "[" * 20_000 + "]" * 20_000,
        '[tracing]\nscript = "a\\u0000b"\ntrace_filter_route = "x"',
        '[hep]\nhep_tls_ca = "a\\u0000b"',
        '[transport]\nlisten = "wss:127.0.0.1:1"\ntls_certificate = "a\\u0000b"',
        f'[hep]\nhep_id = "[a]127.0.0.1:{DIGITS}"',
        f'[upstream]\nupstream_uri = "ws://a:{DIGITS}/"',
        '[tracing]\ntrace_filter = ".:x"',
        "[transport]\nmax_handshake_rate = 1e999\nlisten = 5",
        "transport = 5",
    ],
    ids=range(10),
)
def test_a_configuration_that_nobody_means_is_one_message(
    tmp_path: Path, toml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sipws.toml"
    path.write_text(toml)
    assert main(["config", "check", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"sipws: {path}: ") or "trace_filter" in err or "filter" in err
    assert all(len(line) < 2 * LONGEST_LINE for line in err.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--trace-destination", f"x:{DIGITS}"],
        ["run", "--control", "unix:@x"],
        ["run", "--control", f"127.0.0.1:{DIGITS}"],
        ["ctl", "--url", f"http://127.0.0.1:{DIGITS}/", "trace"],
        ["ctl", "--url", "http://[::1", "trace"],
        ["ctl", "--url", "http://ü..b/", "trace"],
        ["ctl", "--url", "unix:" + "x" * 200, "trace"],
        ["ctl", "--control", "x", "trace"],
        ["ctl", "--token", "a\nb", "trace"],
        ["ctl", "--token", "€", "trace"],
    ],
    ids=range(10),
)
def test_arguments_that_nobody_means_are_one_message(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert len(line) < 2 * LONGEST_LINE


def test_hep_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert hep_main(["doctor", f"127.0.0.1:{DIGITS}"]) == 2
    assert capsys.readouterr().err.startswith("hep: ")


def test_a_message_is_short_enough_to_read() -> None:
    assert clipped("short\nlines") == "short\nlines"
    assert len(clipped("x" * 10**6)) <= LONGEST_LINE + 3
    assert clipped("\n" * 10**6).count("\n") == MOST_LINES
    assert clipped("\n" * 10**6).endswith("lines more")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("command", ["sipws config check FILE", "hep decode -", "sipws ctl stats"])
def test_closed_standard_streams_are_no_reason_to_fail_by_itself(
    closed: str, command: str, tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_text("")
    environment = {**os.environ, "HOME": str(tmp_path)}
    ran = subprocess.run(
        ["sh", "-c", f"{BIN}/{command} {closed}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
    )
    assert ran.returncode in (0, 1, 2)
    assert "Traceback" not in ran.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["config show", "config check FILE", "run"])
def test_output_that_cannot_be_written_is_one_message(command: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("")
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [BIN / "sipws", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )
    assert ran.returncode == 1
    assert ran.stderr.startswith("sipws: the output cannot be written: ")
    assert ran.stderr.count("\n") == 1
