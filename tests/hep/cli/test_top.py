"""``hep top``: its list, its lines in a pipe, and its screen on a terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hep.cli.main import main
from hep.cli.top_calls import (
    CallList,
    EventReader,
    Finished,
    Wanted,
    changes_of,
    duration,
    line,
    status_of,
)
from hep.cli.top_screen import Picture
from hep.cli.view_client import ViewClient
from hep.view.model.record import record_of
from hep.view.model.summary import CallSummary, Outcome
from hep.view.store.keep import Keep
from hep.view.store.query import CallFilter
from hep.view.store.store import Store

from ..view.talks import ALICE, SERVER, START, Talk
from .conftest import packets

SECONDS = 60
"""Longest time to wait for something; nothing takes it."""

TODAY = datetime.fromtimestamp(START / 1_000_000)


def talk(call_id: str, answer: str = "", user: str = "alice", number: int = 0) -> Talk:
    made = Talk(call_id)
    made.now += number * 1_000_000
    made.request(ALICE, SERVER, "INVITE", user=user)
    if answer:
        made.answer(SERVER, ALICE, answer, user=user)
    return made


# The list


def test_an_event_stream_is_read_line_by_line() -> None:
    reader = EventReader()
    lines = b"retry: 2000\n\nevent: calls\r\ndata: [1,\r\ndata: 2]\r\n\r\n: comment\n\ndata:3\n\n"
    events = [reader.feed(each) for each in lines.splitlines(keepends=True)]
    assert [each for each in events if each] == [("calls", [1, 2]), ("", 3)]
    reader.feed(b"data: {\n")
    with pytest.raises(ValueError, match="Expecting"):
        reader.feed(b"\n")


def test_an_event_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hep.cli.top_calls.LONGEST_EVENT", 1000)
    reader = EventReader()
    for _ in range(100):
        reader.feed(b"data: 0123456789\n")
    with pytest.raises(ValueError, match="has more than"):
        reader.feed(b"data: 0123456789\n")


USERS = st.sampled_from(["alice", "Bob", "+4930123", ""])
ANSWERS = st.sampled_from(["", "180 Ringing", "486 Busy", "404 Not", "503 No", "603 No", "200 OK"])


@given(
    calls=st.lists(st.tuples(USERS, ANSWERS), max_size=6),
    user=st.sampled_from(["", "ali", "BOB", "b@EX", "+49", "nobody", "e@example.com"]),
    code=st.sampled_from(["", "486", "4xx", "6XX", "200"]),
    outcomes=st.lists(st.sampled_from(get_args(Outcome)), max_size=2, unique=True),
)
def test_no_filter_differs_from_that_of_the_store(
    calls: list[tuple[str, str]], user: str, code: str, outcomes: list[Any]
) -> None:
    with Store(None, Keep()) as store:
        for number, (who, answer) in enumerate(calls):
            store.add([record_of(each, 0) for each in packets(talk(f"c{number}", answer, who))])
        every = store.calls(CallFilter(), 100).rows
        wanted = CallFilter(user=user, code=code.lower(), outcomes=tuple(outcomes))
        found = {call.call_id for call in store.calls(wanted, 100).rows}
    ours = Wanted(user, code, tuple(outcomes))
    assert {call.call_id for call in every if ours.matches(call)} == found


def test_the_list_has_the_latest_calls_and_is_bounded() -> None:
    listed = CallList(Wanted(), most=10)
    listed.update(CallSummary(str(number), first=number) for number in range(1000))
    assert len(listed) <= 12
    assert [call.call_id for call in listed.latest(3)] == ["999", "998", "997"]
    listed.update([CallSummary("999", first=999, outcome="ok")])
    assert listed.latest(1)[0].outcome == "ok"
    listed.replace([CallSummary("1", first=1)])
    assert [call.call_id for call in listed.latest(9)] == ["1"]


def test_a_call_that_no_longer_matches_leaves_the_list() -> None:
    listed = CallList(Wanted(outcomes=("open",)))
    listed.update([CallSummary("1")])
    assert len(listed) == 1
    listed.update([CallSummary("1", outcome="ok")])
    assert len(listed) == 0


def test_a_finished_call_is_reported_once() -> None:
    finished = Finished(Wanted(user="alice"))
    going = CallSummary("1", from_user="alice", state="answered")
    other = CallSummary("2", from_user="bob", state="ended", outcome="ok")
    ended = CallSummary("1", from_user="alice", state="ended", outcome="ok", ended_at=2)
    earlier = CallSummary("3", from_user="alice", state="ended", outcome="lost", ended_at=1)
    assert finished.of([going, other]) == []
    assert finished.of([ended, earlier]) == [earlier, ended]
    assert finished.of([ended, earlier]) == []


def test_what_was_reported_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hep.cli.top_calls.MOST_REPORTED", 10)
    finished = Finished(Wanted())
    for number in range(100):
        assert finished.of([CallSummary(str(number), state="ended", outcome="ok")])
    assert len(finished._reported) == 10


def test_a_line_is_one_line_whatever_the_peer_sends() -> None:
    call = CallSummary(
        "a\nb\x1b", kind="call", from_user="x\x1b[2J\r\n", to_user="y\u202e", outcome="ok",
        ended="BYE of the caller", answered_at=START, ended_at=START + 61_000_000,
    )  # fmt: skip
    said = line(call, TODAY)
    assert said.isprintable()
    assert said.endswith("  ok  BYE of the caller  1:01  a b\\x1b")


def test_a_length_runs_while_the_call_does() -> None:
    assert duration(CallSummary("1"), START) == ""
    call = CallSummary("1", answered_at=START)
    assert duration(call, START + 3_725_000_000) == "1:02:05"
    assert duration(call, START - 1) == "0:00"


# The picture


def picture(*calls: CallSummary, **status: Any) -> Picture:
    listed = CallList(Wanted())
    listed.update(calls)
    made = Picture("http://127.0.0.1:9080", listed)
    if status:
        made.status, made.status_at = status_of(status), time.monotonic()
    return made


def drawn(made: Picture, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, color_system=None, force_terminal=True)
    with console.capture() as capture:
        console.print(made.drawn(width, height, TODAY))
    return capture.get().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(20, 5), (80, 24), (120, 30), (300, 3)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    many = (
        CallSummary(str(n), from_user="名" * 50, to_user="[red]b[/red]\x1b[2J", first=START + n)
        for n in range(100)
    )
    lines = drawn(picture(*many, rate=1.5, now=START), width, height)
    assert len(lines) <= max(height, 4)
    assert max(Console().measure(each).maximum for each in lines) <= width
    assert "\x1b[2J" not in "".join(lines)
    if width == 120:
        assert "[red]b[/red]\\x" in "".join(lines)
        assert len(lines) == height


def test_the_head_says_what_is_wrong() -> None:
    made = picture(
        rate=12.34, calls_open=3, connections_open=7,
        store={"dropped": 5, "problem": "the disk is full", "packets": 9},
    )  # fmt: skip
    head = drawn(made, 100, 20)
    assert head[1].startswith("12.3 packets/s  3 open calls  7 open connections  5 dropped")
    assert head[2] == "Not stored: the disk is full"
    made.lost = "no hep view can be reached"
    assert drawn(made, 100, 20)[2] == "no hep view can be reached; connecting again"


def test_values_of_a_viewer_are_checked() -> None:
    for wrong in ([], {"now": "x"}, {"store": 5}):
        with pytest.raises(ValueError, match="is no"):
            status_of(wrong)
    with pytest.raises(ValueError, match="missing"):
        changes_of({})
    assert changes_of({"calls": [], "more": 3, "new": 1}) == ([], 3)


# In a pipe


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "hep.cli", "top", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_pipe_gets_a_line_when_a_call_has_finished(start_viewer: Callable[..., Any]) -> None:
    viewer = start_viewer()
    viewer.send(packets(talk("old", "486 Busy Here")))
    while not ViewClient(viewer.url).get("calls")["calls"]:
        pass
    with running("--url", viewer.url, "--user", "alice") as process:
        assert process.stdout is not None
        lines: list[str] = []
        number = 0
        # It prints what ends after it has begun, and nothing says when that is.
        while not select.select([process.stdout], [], [], 0.2)[0]:
            number += 1
            viewer.send(packets(talk(f"none{number}", "200 OK", number=number)))
            viewer.send(packets(talk(f"bob{number}", "404 Not Found", "bob", number)))
            viewer.send(packets(talk(f"busy{number}", "486 Busy Here", number=number)))
        lines.append(process.stdout.readline())
        assert re.search(r"  alice > bob  call  rejected  486 Busy Here  busy\d+\n$", lines[0])
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert "none" not in rest
        assert "404" not in rest
        assert process.wait(SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_it_ends_when_the_reader_of_the_pipe_goes(start_viewer: Callable[..., Any]) -> None:
    viewer = start_viewer()
    with running("--url", viewer.url) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(SECONDS) == 0


# On a terminal


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, *arguments: str, lines: int = 24, columns: int = 80) -> None:
        self.ours, theirs = pty.openpty()
        self.theirs = theirs
        self.resize(lines, columns)
        self.before = termios.tcgetattr(theirs)
        environment = {**os.environ, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hep.cli", "top", *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
            # Ctrl-C and changes of the size become signals.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.seen = ""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait_for(self, text: str) -> None:
        """Read until a text comes; what was read before does not count."""
        end = time.monotonic() + SECONDS
        self.seen = ""
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, self.seen[-3000:]
            if select.select([self.ours], [], [], min(left, 1.0))[0]:
                self.seen += os.read(self.ours, 65536).decode("utf-8", "replace")
            assert self.process.poll() is None or text in self.seen, self.seen[-3000:]

    def rest(self) -> str:
        """What comes until the program has ended, and after."""
        read = ""
        while True:
            has_ended = self.process.poll() is not None
            if select.select([self.ours], [], [], 0 if has_ended else 0.05)[0]:
                read += os.read(self.ours, 65536).decode("utf-8", "replace")
            elif has_ended:
                return read

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for number in (self.ours, self.theirs):
            with suppress(OSError):
                os.close(number)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_(*arguments: str, **size: int) -> Terminal:
        opened.append(Terminal(*arguments, **size))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.mark.parametrize("end", ["q", "\x03", "\x1b", signal.SIGTERM])
def test_the_screen_shows_calls_live_and_leaves_the_terminal_as_it_was(
    start_viewer: Callable[..., Any], terminal: Callable[..., Terminal], end: str | int
) -> None:
    viewer = start_viewer()
    shown = terminal("--url", viewer.url, "--interval", "0.1")
    shown.wait_for("No calls yet.")
    assert "\x1b[?1049h" in shown.seen or "packets/s" in shown.seen
    viewer.send(packets(talk("a", "486 Busy Here", user="charlotte")))
    shown.wait_for("charlotte")
    viewer.send(packets(talk("b", "503 Service Unavailable", user="dorothea")))
    shown.wait_for("dorothea")
    if isinstance(end, int):
        shown.process.send_signal(end)
    else:
        os.write(shown.ours, end.encode())
    rest = shown.rest()
    assert shown.process.returncode == 0
    assert "\x1b[?1049l" in rest
    assert "\x1b[?25h" in rest
    assert termios.tcgetattr(shown.theirs) == shown.before


def test_the_screen_follows_the_size_of_the_terminal(
    start_viewer: Callable[..., Any], terminal: Callable[..., Terminal]
) -> None:
    viewer = start_viewer()
    viewer.send(packets(talk("a", "486 Busy Here")))
    # Without the signal the next picture would come after a minute.
    shown = terminal("--url", viewer.url, "--interval", "60")
    shown.wait_for("packets/s")
    shown.resize(30, 140)
    shown.wait_for("User-Agent")


def test_the_screen_connects_again(
    start_viewer: Callable[..., Any], terminal: Callable[..., Terminal]
) -> None:
    viewer = start_viewer()
    shown = terminal("--url", viewer.url, "--interval", "0.1", columns=120)
    shown.wait_for("No calls yet.")
    viewer.stop()
    shown.wait_for("connecting again")
    again = start_viewer(http=viewer.url.removeprefix("http://").rstrip("/"))
    again.send(packets(talk("a", "486 Busy Here", user="charlotte")))
    shown.wait_for("charlotte")


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--interval", "0"], "--interval 0 is not from 0.1 to 60"),
        (["--interval", "nan"], "--interval nan is not from"),
        (["--code", "99"], "--code '99' is no status code"),
        (["--url", "nonsense://"], "is no address"),
        (["--url", "http://127.0.0.1:1"], "no hep view can be reached at http://127.0.0.1:1"),
        (["--token-file", "/none"], "--token-file /none"),
    ],
)
def test_a_mistake_is_one_message(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hep.cli", "top", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_rich_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hep.cli.top_lines.is_screen", lambda: True)
    monkeypatch.setattr("hep.cli.top.find_spec", lambda name: None)
    assert main(["top"]) == 2
    assert "pip install 'sipws[view]'" in capsys.readouterr().err
