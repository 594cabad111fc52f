"""What shows in a stream of packets, with times that are given."""

from dataclasses import replace

import pytest

import hep
from hep.cli.doctor_report import STREAM
from hep.cli.doctor_stream import MOST_PAYLOADS, STARVED, StreamState
from hep.codec.chunks import ProtocolType
from hep.homer.fate import fate

NOW = 1_700_000_000.0


class Stream:
    """Packets that arrive at given times, with that time in them."""

    def __init__(self, packet: hep.Packet) -> None:
        self.state = StreamState()
        self.packet = packet
        self.sent = 0

    def rules(self, at: float, *, skew: float = 0.0, payload: bytes | None = None) -> list[str]:
        """The rules of the findings of a packet; by default its payload is a new one."""
        self.sent += 1
        if payload is None:
            payload = b'{"n":%d}' % self.sent
        time = NOW + at + skew
        packet = replace(
            self.packet,
            payload=payload,
            seconds=int(time),
            microseconds=int(time % 1 * 1_000_000),
        )
        found = fate(hep.encode(packet), now=NOW + at)
        return [each.rule for _, each in self.state.see(found, payload, NOW + at)]


@pytest.fixture
def events(packet: hep.Packet) -> Stream:
    return Stream(replace(packet, protocol_type=ProtocolType.NET))


@pytest.fixture
def log_lines(packet: hep.Packet) -> Stream:
    return Stream(replace(packet, protocol_type=ProtocolType.LOG))


def test_events_without_a_second_of_silence_starve_the_timer(events: Stream) -> None:
    steps = [step * 0.5 for step in range(21)]
    found = [at for at in steps if events.rules(at) == ["flush-timer"]]
    assert found == [at for at in steps if at >= STARVED]


def test_a_second_of_silence_lets_the_timer_expire(events: Stream) -> None:
    at = 0.0
    for step in range(40):
        assert events.rules(at) == []
        at += 1.0 if step % 4 == 3 else 0.5


def test_other_tables_do_not_restart_the_timer(log_lines: Stream) -> None:
    assert [log_lines.rules(step * 0.5) for step in range(30)] == [[]] * 30


def test_a_clock_that_goes_back_starts_again(events: Stream) -> None:
    for step in range(8):
        assert events.rules(step * 0.5) == []
    steps = [-100.0 + step * 0.5 for step in range(12)]
    assert [at for at in steps if events.rules(at) == ["flush-timer"]] == steps[10:]


def test_the_same_payload_at_once_is_one_with_dedup(log_lines: Stream) -> None:
    assert log_lines.rules(0.0, payload=b"closed") == []
    assert log_lines.rules(0.4, payload=b"closed") == ["dedup"]
    # The time of the first one counts.
    assert log_lines.rules(0.6, payload=b"closed") == []
    assert log_lines.rules(0.7, payload=b"another") == []


def test_a_finding_of_dedup_names_the_setting(log_lines: Stream) -> None:
    log_lines.rules(0.0, payload=b"closed")
    found = fate(
        hep.encode(replace(log_lines.packet, payload=b"closed", seconds=int(NOW))), now=NOW
    )
    [(label, finding)] = log_lines.state.see(found, b"closed", NOW)
    assert (label, finding.setting) == ("homer7", "Dedup = true")


def test_payloads_are_forgotten(log_lines: Stream) -> None:
    log_lines.rules(0.0, payload=b"first")
    for _ in range(MOST_PAYLOADS):
        log_lines.rules(0.1)
    assert log_lines.rules(0.2, payload=b"first") == []


@pytest.mark.parametrize(
    ("skew", "found"), [(-4.0, []), (4.0, []), (-37.0, ["clock"]), (3600.0, ["clock"])]
)
def test_a_clock_that_differs_is_reported(log_lines: Stream, skew, found) -> None:
    assert log_lines.rules(0.0, skew=skew) == found


LOST = b'{"Protocol":"HEP","Event":"LOST","Status":"FAILURE","Packets":"12"}'


def test_a_report_of_lost_packets_is_passed_on(events: Stream) -> None:
    found = fate(hep.encode(replace(events.packet, payload=LOST, seconds=int(NOW))), now=NOW)
    [(label, finding)] = events.state.see(found, LOST, NOW)
    assert (label, finding.rule) == (STREAM, "lost-report")
    assert "12 packets" in finding.what


@pytest.mark.parametrize("count", ["", "\x9b2J", "1e3", "-1"])
def test_a_count_that_is_no_number_is_not_shown(events: Stream, count: str) -> None:
    payload = LOST.replace(b"12", count.encode())
    found = fate(hep.encode(replace(events.packet, payload=payload, seconds=int(NOW))), now=NOW)
    [(_, finding)] = events.state.see(found, payload, NOW)
    assert "lost some packets" in finding.what


@pytest.mark.parametrize(
    "payload", [b'{"Event":"LOST"}', b'{"Protocol":"HEP","Event":"CLOSED LOST"}', b"LOST", b"[]"]
)
def test_other_events_are_no_reports(events: Stream, payload: bytes) -> None:
    assert events.rules(0.0, payload=payload) == []
