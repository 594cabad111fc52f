"""How the commands start, and end, where their surroundings are not as usual."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE = 20.0
"""Seconds that a process may take on a busy machine."""

PACKET = Path(__file__).parents[2] / "data" / "opensips-3.6.8" / "hep" / "v3_udp_json_009.bin"

FULL = Path("/dev/full")

SHELL = 'exec "$0" -m "$@"'


def command(
    *words: str, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run ``sipws`` or ``hep`` in a shell, with its streams redirected."""
    module = {"sipws": "sipws", "hep": "hep.cli"}[words[0]]
    return subprocess.run(
        ["sh", "-c", f"{SHELL} {redirect}", sys.executable, module, *words[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=PATIENCE,
        check=False,
    )


ASKED = [("sipws", "config", "show"), ("hep", "decode", "--json", str(PACKET))]


@pytest.mark.parametrize("words", ASKED, ids=["sipws", "hep"])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_reason_to_fail(words: tuple[str, ...], closed: str) -> None:
    done = command(*words, redirect=closed)
    assert done.returncode == 0
    assert done.stderr == b""
    assert bool(done.stdout) == (" >&-" not in f" {closed}")


@pytest.mark.parametrize("program", ["sipws", "hep"])
def test_a_mistake_ends_with_status_2_though_nobody_can_be_told(program: str) -> None:
    words = {"sipws": ("config", "check", "/none"), "hep": ("decode", "/none")}[program]
    assert command(program, *words, redirect="<&- >&- 2>&-").returncode == 2


def test_what_is_read_does_not_take_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """A file that got number 1 would be written to by whoever prints."""
    config = tmp_path / "sipws.toml"
    config.write_text("[transport]\n")
    assert command("sipws", "config", "check", str(config), redirect="<&- >&-").returncode == 0
    assert config.read_text() == "[transport]\n"


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words",
    [*ASKED, *((name, option) for name in ("sipws", "hep") for option in ("--version", "--help"))],
)
def test_a_disk_that_is_full_is_one_line_and_status_1(
    words: tuple[str, ...], unbuffered: str
) -> None:
    done = command(*words, redirect=f">{FULL}", PYTHONUNBUFFERED=unbuffered)
    told = f"{words[0]}: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr.decode()) == (1, told)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [("config", "check", "/none"), ("--nonsense",)])
def test_a_mistake_ends_with_status_2_though_its_message_cannot_be_written(
    words: tuple[str, ...],
) -> None:
    assert command("sipws", *words, redirect=f"2>{FULL}").returncode == 2


@pytest.mark.parametrize("words", ASKED, ids=["sipws", "hep"])
def test_who_reads_no_more_is_no_failure(words: tuple[str, ...]) -> None:
    module = {"sipws": "sipws", "hep": "hep.cli"}[words[0]]
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", module, *words[1:]],
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    config = tmp_path / "größe.toml"
    config.write_text("")
    done = command("sipws", "config", "check", str(config), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gr\xf6\xdfe.toml: ok" in done.stdout


def test_a_message_is_not_buried_under_a_long_value(tmp_path: Path) -> None:
    config = tmp_path / "sipws.toml"
    config.write_text('[transport]\nlisten = "' + "x" * 100_000 + '"\n')
    done = command("sipws", "config", "check", str(config))
    assert done.returncode == 2
    assert len(done.stderr) < 2000
    assert done.stderr.startswith(b"sipws: ")


@pytest.mark.parametrize("option", ["--auth", "--payload", "--correlation-id"])
def test_bytes_that_are_no_text_are_sent_as_they_were_given(option: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as homer:
        homer.bind(("127.0.0.1", 0))
        homer.settimeout(PATIENCE)
        to = f"127.0.0.1:{homer.getsockname()[1]};transport=udp"
        words = ["send", "--to", to, "--src", "127.0.0.1:1", "--dst", "127.0.0.1:2"]
        payload = [] if option == "--payload" else ["--payload", "x"]
        given = [option, os.fsdecode(b"a\xffb")]
        done = command("hep", *words, "--proto", "LOG", *payload, *given)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"a\xffb" in homer.recv(65535)


@contextmanager
def serving(path: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
    words = ["run", "--listen", "ws:127.0.0.1:0", "--workers", str(workers)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sipws", *words, "--control", f"unix:{path}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ctrl-C ends it" in line:
                    break
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_control_interface_is_a_socket_for_its_owner_alone(
    tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as left:
        # What a run leaves that was killed.
        left.bind(str(path))
    with serving(path, workers) as process:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        asked = command("sipws", "ctl", "--control", f"unix:{path}", "connections")
        assert (asked.returncode, asked.stdout) == (0, b"no connections\n")
        second = command("sipws", "run", "--listen", "ws:127.0.0.1:0", "--control", f"unix:{path}")
        assert second.returncode == 2
        assert b"another program listens there" in second.stderr
        assert path.exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert not path.exists()


def test_a_file_in_the_place_of_the_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("mine")
    done = command("sipws", "run", "--listen", "ws:127.0.0.1:0", "--control", f"unix:{path}")
    assert done.returncode == 2
    assert b"the file there is not a socket" in done.stderr
    assert path.read_text() == "mine"
