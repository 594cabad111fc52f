"""``hep why``: captures, stores and viewers, and what is printed of them."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hep.captures.pcap_writer import PcapWriter
from hep.cli import why_text
from hep.cli.json_values import value_of
from hep.cli.main import main
from hep.cli.view_client import ViewClient, ViewerError
from hep.cli.why_sources import shown_call
from hep.cli.why_text import Style
from hep.view.export import text_ladder
from hep.view.model.picture import Ladder, Party, Step
from hep.view.model.record import record_of
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store.keep import Keep
from hep.view.store.store import Store

from ..view.talks import ALICE, LEG, SDP, SERVER, START, UP, Talk, relayed
from .conftest import packets

MINUTE = 60_000_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``hep why``; the result is its status, output and errors."""
    monkeypatch.delenv("HEP_VIEW_TOKEN", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["why", *arguments])
        return status, *capsys.readouterr()

    return run


def busy(call_id: str = "busy@10.1.2.3", later: int = 10 * MINUTE) -> Talk:
    """A call of alice that bob's upstream rejects."""
    talk = Talk(call_id)
    talk.now += later
    talk.request(ALICE, SERVER, "INVITE", body=SDP)
    talk.request(LEG, UP, "INVITE", body=SDP)
    talk.answer(UP, LEG, "486 Busy Here")
    talk.answer(SERVER, ALICE, "486 Busy Here")
    talk.request(ALICE, SERVER, "ACK", tags=("fa", "tb"))
    return talk


def event(talk: Talk, name: str, status: str, connection: str, src: str, **members: str) -> None:
    named = {key.replace("_", "-"): text for key, text in members.items()}
    payload = json.dumps({"Protocol": "WSS", "Event": name, "Status": status, **named})
    talk.event(payload, src=src, connection=connection)


def registered(user: str = "alice") -> Talk:
    """A phone connects, registers, is cut off, and is refused three times."""
    talk = Talk("register@10.1.2.3")
    event(talk, "ACCEPTED", "SUCCESS", "7", ALICE, Message="accepted")
    contact = f"Contact: <sip:{user}@a1.invalid;transport=ws>"
    talk.request(ALICE, SERVER, "REGISTER", user=user, to=user, more=[contact, "Expires: 600"])
    talk.answer(
        SERVER, ALICE, "200 OK", "REGISTER", user=user, to=user, more=[f"{contact};expires=600"]
    )
    talk.now += MINUTE
    event(
        talk, "CLOSED", "FAILURE", "7", ALICE,
        Close_Code="1006", Closed_By="peer", Error="connection-lost",
    )  # fmt: skip
    for number in range(3):
        event(
            talk, "ACCEPTED", "FAILURE", str(20 + number), f"10.1.2.3:4{number}000",
            Reply_Code="403", Error="origin-not-allowed",
        )  # fmt: skip
    return talk


# What is printed


def test_the_latest_call_of_a_user_is_drawn_under_its_verdict(
    why: Run, write_hep: Callable[..., str]
) -> None:
    status, out, _ = why("alice", write_hep(relayed(), busy()), "--width", "80")
    assert status == 0
    rows, _, rest = out.partition("\n\n")
    assert [line.split()[0] for line in rows.splitlines()] == ["time", "1", "2"]
    assert "486 Busy Here" in rows.splitlines()[1]
    assert "BYE of the caller" in rows.splitlines()[2]
    assert rest.startswith("1. Call alice@example.com → bob@example.com, ")
    assert "Call-ID busy@10.1.2.3\n\nRejected by 172.16.9.9:5060: 486 Busy Here.\n" in rest
    assert re.search(r"\+0\.000 +│─+INVITE \(SDP\)─+▶│", rest)
    assert "\x1b" not in out


def test_a_call_id_is_that_call_alone(why: Run, write_hep: Callable[..., str]) -> None:
    status, out, _ = why("c1@10.1.2.3", write_hep(relayed(), busy()))
    assert status == 0
    assert out.startswith("Call alice@example.com → bob@example.com, ")
    assert "Ended by BYE of the caller after 3 s." in out
    assert "busy@" not in out


def test_any_call_of_the_table_can_be_drawn(why: Run, write_hep: Callable[..., str]) -> None:
    file = write_hep(relayed(), busy())
    second = why("alice", file, "--number", "2")[1]
    assert "\n2. Call" in second
    assert "\n1. Call" not in second
    every = why("alice", file, "--all")[1]
    assert 0 < every.index("\n2. Call") < every.index("\n1. Call")
    assert why("alice", file, "--last", "2")[1] == every
    status, _, error = why("alice", file, "--number", "3")
    assert status == 2
    assert "there are 2" in error


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_wider_than_the_terminal(
    why: Run, write_hep: Callable[..., str], width: int
) -> None:
    talk = registered()
    talk.event(
        json.dumps({"Protocol": "WSS", "Event": "CLOSED", "Status": "FAILURE", "Error": "x " * 99}),
        connection="7",
    )
    file = write_hep(talk, relayed(), busy("long-" + 99 * "x"))
    for number in ("1", "2", "3"):
        out = why("alice", file, "--width", str(width), "--number", number)[1]
        wide = [line for line in out.splitlines() if len(line) > width]
        assert [line for line in wide if not line.startswith("Call-ID ")] == []


def test_ascii_draws_with_ascii(why: Run, write_hep: Callable[..., str]) -> None:
    out = why("alice", write_hep(relayed(), busy()), "--ascii", "--width", "60")[1]
    assert out.isascii()
    assert "->" in out


def test_texts_of_peers_do_not_act_on_the_terminal(why: Run, write_hep: Callable[..., str]) -> None:
    talk = Talk("evil\x1b[2J\u202e@x")
    evil = "al\x1b]0;owned\x07ice\u202e\u200b\x9b31m"
    talk.request(ALICE, SERVER, "INVITE", user=evil, agent="A\x1b[31mgent", more=["X: \x1b[2J"])
    talk.answer(SERVER, ALICE, "603 De\x1b[31mcline\u2066", user=evil)
    second = Talk("other\x1b@x")
    second.request(ALICE, SERVER, "INVITE", user=evil)
    status, out, _ = why("bob", write_hep(talk, second), "--messages", "--all")
    assert status == 0
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e\u2066]", out)
    assert "\\x1b" in out


def test_messages_come_without_credentials(why: Run, write_hep: Callable[..., str]) -> None:
    talk = Talk()
    secret = 'Authorization: Digest username="alice", response="0123456789abcdef"'
    talk.request(ALICE, SERVER, "INVITE", more=[secret])
    out = why("alice", write_hep(talk), "--messages")[1]
    assert "\nINVITE sip:bob@example.com SIP/2.0\n" in out
    assert "Authorization: Digest" in out
    assert "0123456789abcdef" not in out
    assert "SIP/2.0\n" not in why("alice", write_hep(talk))[1]


@pytest.mark.parametrize("more", [[], ["--messages"], ["--json"], ["--all"]])
def test_anonymous_names_nobody(why: Run, write_hep: Callable[..., str], more: list[str]) -> None:
    file = write_hep(registered("robert"), busy())
    for sought in ("robert", "alice", "10.1.2.3"):
        status, out, _ = why(sought, file, "--anonymous", *more)
        assert status == 0
        for name in ("robert", "alice", "bob", "example.com", "10.1.2.3", "192.168.7.1"):
            assert name not in out.replace(file, "")


def test_json_is_an_object_on_one_line(why: Run, write_hep: Callable[..., str]) -> None:
    file = write_hep(relayed(), busy())
    status, out, _ = why("alice", file, "--json")
    assert status == 0
    assert out.count("\n") == 1
    answer = json.loads(out)
    assert [call["call_id"] for call in answer["calls"]] == ["busy@10.1.2.3", "c1@10.1.2.3"]
    (shown,) = answer["shown"]
    assert shown["verdict"]["text"] == "Rejected by 172.16.9.9:5060: 486 Busy Here."
    assert answer["searched"]["packets"] == len(relayed().records) + len(busy().records)
    status, out, _ = why("nobody", file, "--json")
    assert status == 1
    assert json.loads(out)["found"] == {"calls": 0, "connections": 0}


# Connections


def test_a_user_without_a_call_is_told_what_became_of_the_connection(
    why: Run, write_hep: Callable[..., str]
) -> None:
    status, out, _ = why("alice", write_hep(registered()))
    assert status == 0
    first, second = out.split("\n\n")[0].replace("\n  ", " ").split("\n")
    assert first.startswith("alice@example.com: connected from 10.1.2.3:41000 ")
    assert first.endswith(" closed 1006 by the peer: connection-lost.")
    assert re.fullmatch(
        r"10\.1\.2\.3: refused 403 origin-not-allowed 3 times since, last at .*\d\d:\d\d:\d\d\.",
        second,
    )
    assert "\nRegistration alice@example.com" in out.replace("\n\n", "\n")


def test_handshakes_before_the_connection_are_not_counted(
    why: Run, write_hep: Callable[..., str]
) -> None:
    early = Talk("none")
    early.now -= MINUTE
    event(early, "ACCEPTED", "FAILURE", "3", "10.1.2.3:9", Reply_Code="403", Error="no-origin")
    out = why("alice", write_hep(early, registered()))[1]
    assert "origin-not-allowed 3 times since" in out.replace("\n  ", " ")
    assert "no-origin" not in out


def test_an_event_begins_further_left_if_it_needs_the_room() -> None:
    parties = [Party("a", "phone"), Party("b", "server")]
    step = Step(1, START, "event", 1, 1, "", "", 62 * "x")
    for length, whole in ((20, True), (62, True), (99, False)):
        step.label = length * "x"
        last = text_ladder(Ladder(parties, [step]), width=80).splitlines()[-1]
        assert len(last) <= 80
        assert (length * "x" in last) is whole


def test_an_address_that_was_only_refused_is_found(why: Run, write_hep: Callable[..., str]) -> None:
    talk = Talk()
    event(talk, "ACCEPTED", "FAILURE", "3", "10.7.7.7:999", Reply_Code="403", Error="no-origin")
    status, out, _ = why("10.7.7.7", write_hep(talk))
    assert status == 0
    assert out.startswith("10.7.7.7: refused 403 no-origin once, at ")


TODAY = datetime.fromtimestamp(START / 1_000_000)


def test_connections_are_sentences() -> None:
    each = ConnectionSummary("1", peer="[::1]:5", aor="al@ex", since=START, state="open")
    shown = why_text.connection(each, TODAY)
    assert shown == f"al@ex: connected from [::1]:5 since {TODAY:%H:%M:%S}."
    closed = ConnectionSummary(
        "1", peer="10.0.0.1:5", since=START, until=START, state="closed", code=1001,
        closed_by="local", reason="going\x1b away",
    )  # fmt: skip
    assert why_text.connection(closed, TODAY).endswith(
        "closed 1001 by the server: going\\x1b away."
    )


def test_refusals_are_counted_by_address_and_reason() -> None:
    each = [
        ConnectionSummary(str(number), peer=f"10.0.0.{number % 2}:{number}", since=START + number,
                          state="refused", status=403, error="no-origin")
        for number in range(5)
    ]  # fmt: skip
    each.append(ConnectionSummary("f", peer="10.0.0.9:1", since=START, state="failed", error="tls"))
    shown = why_text.refusals(each, TODAY, since=False)
    at = f"{TODAY:%H:%M:%S}"
    assert shown == [
        f"10.0.0.0: refused 403 no-origin 3 times, last at {at}.",
        f"10.0.0.1: refused 403 no-origin twice, last at {at}.",
        f"10.0.0.9: handshake failed: tls once, at {at}.",
    ]


def test_a_registration_that_fails_says_more_than_an_earlier_call(
    why: Run, write_hep: Callable[..., str]
) -> None:
    refused = Talk("reg")
    refused.now += MINUTE
    refused.request(ALICE, SERVER, "REGISTER", to="alice")
    refused.answer(SERVER, ALICE, "403 Forbidden", "REGISTER", to="alice")
    assert "\n1. Registration " in why("alice", write_hep(relayed(), refused))[1]
    well = Talk("reg")
    well.now += MINUTE
    well.request(ALICE, SERVER, "REGISTER", to="alice")
    well.answer(SERVER, ALICE, "200 OK", "REGISTER", to="alice")
    assert "\n2. Call " in why("alice", write_hep(relayed(), well))[1]


# Where it searches


def test_a_capture_is_read_with_scapy(
    why: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "call.pcap"
    with PcapWriter(path) as writer:
        for packet in packets(busy()):
            writer.write(packet, 0)
    status, out, _ = why("alice", str(path))
    assert status == 0
    assert "486 Busy Here" in out
    monkeypatch.setattr("hep.captures.extra.find_spec", lambda name: None)
    status, out, error = why("alice", str(path))
    assert status == 2
    assert "needs scapy" in error
    assert "pip install" in error


def test_nothing_found_says_where_it_was_searched(why: Run, write_hep: Callable[..., str]) -> None:
    file = write_hep(busy())
    status, out, error = why("nobody", file)
    assert (status, out) == (1, "")
    assert f"nothing found of 'nobody' in {file}: 5 packets from " in error
    assert "Try " in error


def test_a_store_is_read_while_it_is_written(why: Run, tmp_path: Path) -> None:
    with Store(tmp_path / "store", Keep()) as store:
        store.add([record_of(packet, 0) for packet in packets(relayed())])
        where = ("--store", str(tmp_path / "store"))
        assert "BYE of the caller" in why("alice", *where)[1]
        store.add([record_of(packet, 0) for packet in packets(busy())])
        assert "Rejected by 172.16.9.9" in why("alice", *where)[1]
        # It takes no lock and changes nothing.
        assert store.add([record_of(packet, 0) for packet in packets(busy("third"))])
        assert not store.problem


def test_a_running_viewer_is_asked(
    why: Run, start_viewer: Callable[..., Any], write_hep: Callable[..., str]
) -> None:
    file = write_hep(relayed(), registered())
    viewer = start_viewer()
    viewer.send([*packets(relayed()), *packets(registered())])
    client = ViewClient(viewer.url)
    sent = len(relayed().records) + len(registered().records)
    while client.get("status")["store"]["packets"] < sent:
        pass
    for arguments in ([], ["--all"], ["--anonymous"], ["--messages"]):
        status, out, _ = why("alice", "--url", viewer.url, *arguments)
        assert status == 0
        assert out == why("alice", file, *arguments)[1]
    status, _, error = why("nobody", "--url", viewer.url)
    assert status == 1
    assert f"{sent} packets" in error


def test_a_viewer_with_a_token_wants_it(
    why: Run,
    start_viewer: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    viewer = start_viewer(token="right")
    # A proxy is not for loopback.
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:1")
    status, _, error = why("alice", "--url", viewer.url)
    assert status == 2
    assert "HEP_VIEW_TOKEN" in error
    monkeypatch.setenv("HEP_VIEW_TOKEN", "wrong")
    status, _, error = why("alice", "--url", viewer.url)
    assert status == 2
    assert "token is wrong" in error
    (tmp_path / "token").write_text("right\n")
    status, _, error = why(
        "alice", "--url", viewer.url + "#/calls", "--token-file", str(tmp_path / "token")
    )
    assert status == 1
    assert "has no packets" in error


@contextmanager
def answering(body: bytes, status: int = 200, **headers: str) -> Any:
    """Something that is no viewer."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers)
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"<html>", 200), (b"{}", 200), (b"[]", 200), (b'{"calls": [{}]}', 200), (b"gone", 404),
     (b'{"error": 5}', 500), (b"[" * 100_000, 200)],
)  # fmt: skip
def test_what_is_no_viewer_is_a_message(why: Run, body: bytes, status: int) -> None:
    with answering(body, status) as (url, _):
        exit_status, _, error = why("alice", "--url", url)
    assert exit_status == 2
    assert "is no hep view" in error
    assert "Traceback" not in error


def test_the_token_follows_no_redirect(why: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEP_VIEW_TOKEN", "secret")
    with answering(b"") as (other, seen), answering(b"", 302, Location=other) as (url, _):
        assert why("alice", "--url", url)[0] == 2
    assert seen == []


def test_nothing_that_answers_is_an_error_of_the_user(
    why: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setattr("hep.cli.view_client.DEFAULT_URL", free)
    status, _, error = why("alice")
    assert status == 2
    assert "name a capture, --store DIR, or the address of one with --url" in error
    with pytest.raises(ViewerError, match="no hep view can be reached"):
        ViewClient(free).get("status")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alice", "none.pcap"], "none.pcap"),
        (["alice", __file__], "no packets in it"),
        (["alice", "--store", "/none"], "--store /none does not exist"),
        (["alice", "--store", __file__], "is a file"),
        (["alice", "--url", "ftp://x"], "'ftp://x' is no address"),
        (["alice", "--url", "http://x:99999"], "is no address"),
        (["alice", "--url", "http://a:b@x"], "HEP_VIEW_TOKEN"),
        (["alice", "x", "--store", "y"], "exclude each other"),
        ([" "], "name a call"),
        (["alice", "x", "--last", "0"], "--last 0"),
        (["alice", "x", "--width", "39"], "--width 39"),
    ],
)
def test_a_mistake_is_one_message(why: Run, arguments: list[str], said: str) -> None:
    status, out, error = why(*arguments)
    assert (status, out) == (2, "")
    assert said in error
    assert error.count("\n") == 1


def test_the_command_needs_no_library_of_the_viewer(write_hep: Callable[..., str]) -> None:
    script = (
        "import sys\n"
        "for name in ('starlette', 'uvicorn', 'httpx', 'rich', 'scapy', 'anyio'):\n"
        "    sys.modules[name] = None\n"
        "from hep.cli.main import main\n"
        f"sys.exit(main(['why', 'alice', {write_hep(busy())!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "486 Busy Here" in done.stdout


# Values


def test_values_are_checked() -> None:
    made = value_of(CallSummary, {"call_id": "1", "outcome": "brand-new", "what": 5})
    assert (made.call_id, made.outcome, made.messages) == ("1", "brand-new", 0)
    for wrong in ({}, [], {"call_id": 1}, {"call_id": "1", "addresses": [1]},
                  {"call_id": "1", "first": True}):  # fmt: skip
        with pytest.raises(ValueError, match=r"no \w|missing"):
            value_of(CallSummary, wrong)


def test_a_step_between_parties_that_are_not_there_is_refused() -> None:
    document = {
        "call": {"call_id": "1"},
        "verdict": {"text": "", "outcome": "ok"},
        "parties": [],
        "steps": [{"record": 1, "at": 1, "kind": "sip", "source": 0, "destination": 1,
                   "src": "", "dst": "", "label": ""}],
        "messages": [],
    }  # fmt: skip
    with pytest.raises(ValueError, match="parties"):
        shown_call(document)


def test_a_table_fits_and_colours_are_for_terminals() -> None:
    call = CallSummary("名前" * 30, kind="call", from_user="名" * 40, to_user="b", outcome="failed")
    for width in (40, 80):
        for line in why_text.table([call], TODAY, Style(width)):
            assert why_text.width_of(line) <= width
    painted = why_text.table([call], TODAY, Style(80, colour=True))[1]
    assert "\x1b[31mfailed\x1b[0m" in painted
    assert "名" * 40 in why_text.table([call], TODAY, Style(None))[1]
