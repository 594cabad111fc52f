"""The packets of ``hep doctor --postgres``, without a collector."""

import pytest

import hep
from hep.cli.homer_probes import DAY, TABLES, HomerProbe, in_rounds, risky_probes, safe_probes
from tests.homer.heplify import read_packet, row_of

NOON = 20_000 * DAY + DAY / 2


def risky(now: float = NOON, days: tuple[int, ...] = (-1, 0, 1)) -> list[HomerProbe]:
    return list(risky_probes("marker", now, forced=True, udp=True, days=days))


def test_each_probe_has_an_id_of_its_own_and_goes_to_its_table() -> None:
    probes = safe_probes("marker", NOON)
    sids = [sid for probe in probes for sid in probe.sids]
    assert len(set(sids)) == len(sids)
    for probe in probes:
        if probe.usual:
            table, row = row_of(read_packet(probe.data))
            assert (table, row[0].decode()) == (probe.table, probe.sids[0])
    assert {probe.table for probe in probes if probe.usual} == set(TABLES)


def test_payloads_differ_but_for_the_two_log_lines() -> None:
    packets = [hep.decode(probe.data) for probe in safe_probes("marker", NOON)]
    payloads = [packet.payload for packet in packets]
    [repeated] = {each for each in payloads if payloads.count(each) > 1}
    assert payloads.count(repeated) == 2


@pytest.mark.parametrize(
    ("now", "days", "sent"),
    [
        (NOON, (0, 1), True),
        (20_000 * DAY + 29, (0, 1), False),
        (20_000 * DAY + 29, (-1, 0), True),
        (20_000 * DAY + 31, (0, 1), True),
    ],
)
def test_a_time_of_yesterday_is_sent_only_where_there_is_a_partition(
    now: float, days: tuple[int, ...], sent: bool
) -> None:
    found = [probe for probe in risky(now, days) if probe.key == "vendor-9"]
    assert bool(found) is sent


@pytest.mark.parametrize("forced", [True, False, None])
def test_what_jsonb_refuses_is_a_risk_unless_events_are_text(forced: bool | None) -> None:
    probes = risky_probes("marker", NOON, forced=forced, udp=False, days=(0,))
    by_key = {probe.key: probe for probe in probes}
    for key in ("event-text", "event-escape"):
        assert bool(by_key[key].risk) is (forced is not False)


def test_no_two_probes_of_a_round_go_to_one_table() -> None:
    probes = [probe for probe in risky(days=()) if probe.risk]
    rounds = list(in_rounds(probes))
    assert sorted(probe.key for each in rounds for probe in each) == sorted(p.key for p in probes)
    for each in rounds:
        tables = [probe.table for probe in each]
        assert len(set(tables)) == len(tables)
