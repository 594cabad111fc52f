"""``hep doctor --postgres`` against the stand-in and PostgreSQL."""

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from hep.cli import homer_tables_run
from hep.cli.homer_tables import partition_bounds, without_password
from hep.cli.main import main
from tests.homer.conftest import Database
from tests.homer.heplify import Heplify

Start = Callable[..., Awaitable[Heplify]]
FAST = {"timer": 0.1, "event_timer": 0.1}
FORCED = frozenset({89})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in is faster than heplify-server."""
    monkeypatch.setattr(homer_tables_run, "SETTLING", 0.5)
    monkeypatch.setattr(homer_tables_run, "POLL", 0.05)


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., Awaitable[tuple[int, str, str]]]:
    """Run it to its end: ``status, out, err = await doctor(port, dsn)``."""

    async def run(port: int, dsn: str, *more: str, transport: str = "tcp") -> tuple[int, str, str]:
        to = f"127.0.0.1:{port};transport={transport}"
        status = await asyncio.to_thread(main, ["doctor", to, "--postgres", dsn, *more])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def examined(doctor: Any) -> Callable[..., Awaitable[tuple[int, dict[str, Any], dict[str, Any]]]]:
    """The same with ``--json``: ``status, probes, end = await examined(port, dsn)``."""

    async def run(*args: Any, **more: Any) -> tuple[int, dict[str, Any], dict[str, Any]]:
        status, out, err = await doctor(*args, "--json", **more)
        assert not err
        *probes, end = map(json.loads, out.splitlines())
        return status, {each["probe"]: each for each in probes}, end

    return run


async def test_it_names_the_table_of_each_packet_and_what_was_altered(
    heplify: Start, database: Database, doctor: Any
) -> None:
    collector = await heplify(force_payload=FORCED, **FAST)
    status, out, err = await doctor(collector.tcp_port, database.dsn)
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]

    def after(start: str) -> list[str]:
        """The lines about a probe."""
        at = next(n for n, line in enumerate(lines) if line.startswith(start))
        rest = [n for n in range(at + 1, len(lines)) if not lines[n].startswith("altered")]
        return lines[at : rest[0]]

    assert after("SIP: INVITE")[0].startswith("SIP: INVITE hep_proto_1_call after")
    assert after("SIP: REGISTER")[0].startswith("SIP: REGISTER hep_proto_1_registration after")
    assert len(after("log line")) == 1
    assert "the payload is in data_header" in after("event with the keys of sipws")[1]
    assert after("NUL in an event")[2] == r"altered data_header.Event is ab, sent as a\x00b"
    assert "User-Agent: ab" in after("NUL in SIP")[1]
    assert r"sent as …" in after("invalid UTF-8 in a log line")[1]
    assert after("capture agent name hep")[1].endswith("captureId is hep-doctor, sent as 1")
    assert "capturePass has the key in clear" in after("authenticate key hep")[1]
    assert "create_date is -30 s" in after("chunk of a vendor, type 9")[1]
    assert "raw is of a vendor" in after("chunk of a vendor, type 15")[1]
    assert "sid is hep-doctor-" in after("chunk of a vendor, type 17")[1]
    assert after("event without a correlation id")[0].endswith("not stored")
    assert after("SIP whose lines end in LF")[0].endswith("not stored")
    assert after("compressed payload")[0].endswith("not stored")
    assert "ForceHEPPayload: with 89; fields of events can be searched" in lines
    assert "Dedup: off" in lines
    assert "partitions: yesterday: yes; now: yes; tomorrow: yes" in lines


@pytest.mark.parametrize("forced", [FORCED, frozenset()], ids=["jsonb", "text"])
async def test_it_takes_no_packets_of_others_along_unless_asked_to(
    forced: frozenset[int],
    new_database: Callable[..., Database],
    heplify: Start,
    examined: Any,
) -> None:
    database = new_database(days=(0, 1))
    collector = await heplify(database.dsn, force_payload=forced, **FAST)
    status, probes, end = await examined(collector.tcp_port, database.dsn)
    assert (status, collector.refusals) == (0, [])
    assert end["settings"]["ForceHEPPayload_89"] is bool(forced)
    left_out = {name for name, each in probes.items() if not each["sent"]}
    assert {"time -2 days", "time -1 day", "correlation id with NUL"} <= left_out
    assert "time +1 day" not in left_out
    as_text = "event as text (homer5_on)"
    assert (as_text in left_out) is bool(forced)
    if not forced:
        assert probes[as_text]["stored"]
        assert probes["NUL as an escape in an event"]["stored"]


async def test_destructive_probes_are_lost_one_by_one(
    heplify: Start, database: Database, examined: Any
) -> None:
    collector = await heplify(force_payload=FORCED, **FAST)
    more = ("--destructive", "--wait", "1.5")
    status, probes, _ = await examined(collector.udp_port, database.dsn, *more, transport="udp")
    assert status == 0
    lost = {
        "event as text (homer5_on)", "NUL as an escape in an event", "time -2 days",
        "time +2 days", "correlation id with NUL", "correlation id with invalid UTF-8",
        "capture agent name with a quote", "authenticate key with a quote", "HEP version 2",
        "Call-ID of 4,000 bytes",
    }  # fmt: skip
    assert {name for name in lost if not probes[name]["stored"]} == lost
    assert len(collector.refusals) == len(lost)
    assert all(len(each.rows) == 1 for each in collector.refusals)


async def test_it_finds_that_repeated_payloads_are_dropped(
    heplify: Start, database: Database, examined: Any
) -> None:
    collector = await heplify(dedup=True, **FAST)
    status, probes, end = await examined(collector.tcp_port, database.dsn, "--wait", "1.5")
    assert status == 1
    assert end["settings"]["Dedup"] is True
    assert ["Dedup" in fault for fault in end["faults"]] == [True]
    assert probes["log line"]["stored"]
    assert not probes["the same log line for another call"]["stored"]


@pytest.mark.parametrize(
    ("days", "missing", "stored"), [((-1, 0), "tomorrow", True), ((-1, 1), "now", False)]
)
async def test_a_missing_partition_is_a_fault(
    days: tuple[int, ...], missing: str, stored: bool,
    new_database: Callable[..., Database], heplify: Start, examined: Any,
) -> None:  # fmt: skip
    database = new_database(days=days)
    collector = await heplify(database.dsn, **FAST)
    status, probes, end = await examined(collector.tcp_port, database.dsn, "--wait", "1")
    assert status == 1
    assert any(f"no partition for {missing} in all tables" in each for each in end["faults"])
    assert len(end["settings"]["partitions_missing"][missing]) == 5
    assert probes["SIP: INVITE"]["stored"] is stored


async def test_a_missing_table_is_a_fault(
    database: Database, heplify: Start, examined: Any
) -> None:
    database.execute("DROP TABLE hep_proto_100_default")
    collector = await heplify(**FAST)
    status, probes, end = await examined(collector.tcp_port, database.dsn, "--wait", "1")
    assert status == 1
    assert end["settings"]["tables_missing"] == ["hep_proto_100_default"]
    assert "no table hep_proto_100_default" in " ".join(end["faults"])
    assert probes["SIP: INVITE"]["stored"]


async def test_rows_that_go_elsewhere_are_missed(
    database: Database, new_database: Callable[..., Database], heplify: Start, doctor: Any
) -> None:
    collector = await heplify(**FAST)
    status, out, _ = await doctor(collector.tcp_port, new_database().dsn, "--wait", "0.5")
    assert status == 1
    assert "nothing was stored here: check that heplify-server writes to this database" in out


async def test_a_user_who_may_only_read_is_enough(
    postgres: Any, database: Database, heplify: Start, doctor: Any
) -> None:
    name = f"reader_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'sec/re@t'")
    collector = await heplify(**FAST)
    status, _, err = await doctor(collector.tcp_port, database.dsn_of(name, "sec/re@t"))
    assert status == 2
    assert f"'{name}' must not read hep_proto_100_default" in err
    assert "GRANT SELECT ON hep_proto_100_default, " in err
    assert collector.taken == 0

    for [table] in database.execute(
        "SELECT relname FROM pg_class WHERE relname ~ '^hep_proto_[0-9]+_[a-z]+$' AND relkind = 'p'"
    ):
        database.execute(f"GRANT SELECT ON {table} TO {name}")
    status, _, err = await doctor(collector.tcp_port, database.dsn_of(name, "sec/re@t"))
    assert (status, err) == (0, "")

    status, out, err = await doctor(collector.tcp_port, database.dsn_of(name, "wr0ng-pass"))
    assert status == 2
    assert "password authentication failed" in err
    assert "wr0ng-pass" not in out + err
    assert err.count("\n") == 1


async def test_old_partitions_are_not_scanned(
    new_database: Callable[..., Database], heplify: Start, examined: Any, until: Any
) -> None:
    database = new_database(days=(-5, -1, 0, 1))

    def scans() -> list[int]:
        """Of the oldest and of today's partition of the calls."""
        found = database.execute(
            "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_all_tables"
            " WHERE relname LIKE 'hep_proto_1_call_%%' AND relname !~ 'seq$' ORDER BY relname"
        )
        counts = [count for [count] in found]
        return [counts[0], counts[2]]

    collector = await heplify(database.dsn, **FAST)
    oldest, today = scans()
    status, _, _ = await examined(collector.tcp_port, database.dsn)
    assert status == 0
    await until(lambda: scans()[1] > today)
    assert scans()[0] == oldest


async def test_a_database_of_another_purpose_is_a_mistake(
    new_database: Callable[..., Database], heplify: Start, doctor: Any
) -> None:
    other = new_database(tables=False)
    collector = await heplify(**FAST)
    status, _, err = await doctor(collector.tcp_port, other.dsn)
    assert status == 2
    assert f"database '{other.name}' has no tables hep_proto_*" in err
    assert collector.taken == 0


async def test_a_collector_that_is_down_is_reported(
    database: Database, doctor: Any, examined: Any
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    status, out, _ = await doctor(port, database.dsn)
    assert status == 1
    assert "not reached: " in out
    assert "Connection refused" in out
    status, out, _ = await doctor(port, database.dsn, "--json")
    assert json.loads(out)["reached"] is False


SECRET = "pa:ss@w/o?rd"


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://homer:{SECRET}@127.0.0.1:1/homer_data",
        f"postgresql://homer:{SECRET}@127.0.0.1:port/homer_data",
        f"host=127.0.0.1 port=1 dbname=homer_data user=homer password={SECRET}",
        f"host=127.0.0.1 port=1 password='{SECRET}' unknown=1",
        f"host=127.0.0.1 port=1 dbname=a {SECRET}",
        f"host=/nowhere password = {SECRET}",
        "postgresql://homer:pa%3Ass%40w%2Fo%3Frd@127.0.0.1:1/homer_data",
        "postgresql://homer:pa:ss@w%2Fo%3Frd@127.0.0.1:1/homer_data",
        "nonsense",
    ],
)
def test_a_wrong_dsn_exits_with_2_and_one_line_without_the_password(
    dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "127.0.0.1:1", "--postgres", dsn]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hep: --postgres: ")
    assert err.count("\n") == 1
    assert SECRET not in err
    assert "w/o?rd" not in err
    assert "w%2Fo%3Frd" not in err
    assert "pa:ss" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["127.0.0.1;transport=udp;version=2"], "--postgres sends version 3"),
        (["127.0.0.1", "--wait", "0"], "--wait 0 is not between 0 and 600"),
        (["127.0.0.1", "--wait", "nan"], "--wait nan is not between 0 and 600"),
        (["--capture", "calls.pcap"], "--postgres needs the HEP_ID"),
        (["127.0.0.1", "--profile", "homer7"], "--profile has no effect with --postgres"),
    ],
)
def test_a_wrong_argument_exits_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *arguments, "--postgres", "host=/nowhere"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wait", "5"], "--wait needs --postgres DSN"),
        (["--destructive"], "--destructive needs --postgres DSN"),
    ],
)
def test_its_options_are_refused_without_it(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "127.0.0.1:1", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_psycopg_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hep.cli.homer_tables", None)
    assert main(["doctor", "127.0.0.1", "--postgres", "host=/nowhere"]) == 2
    assert "run pip install 'sipws[postgres]'" in capsys.readouterr().err


def test_a_host_that_is_a_part_of_the_password_is_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "h", "--postgres", "postgresql://homer:x@ssw0rd@127.0.0.1/d"]) == 2
    err = capsys.readouterr().err
    assert "no connection to PostgreSQL on ***@127.0.0.1: " in err
    assert err.endswith("; an @ in a password of a URI is written %40\n")


def test_passwords_are_removed_from_messages() -> None:
    assert without_password("host ss@h", "postgresql://u:pa@ss@h/d") == "host ***@h"
    assert without_password("near 'a b'", "password='a b' host=h") == "near ***"
    assert without_password("user u failed", "postgresql://u@h/d") == "user u failed"


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        (
            "FOR VALUES FROM ('1970-01-02 00:00:00+00') TO ('1970-01-03 00:00:00+00')",
            (86400, 172800),
        ),
        ("FOR VALUES FROM ('1970-01-02 00:00:00') TO ('1970-01-02 02:00:00')", (86400, 93600)),
        ("FOR VALUES FROM (MINVALUE) TO ('1970-01-02 00:00:00+00')", (float("-inf"), 86400)),
        ("FOR VALUES FROM ('-infinity') TO ('infinity')", (float("-inf"), float("inf"))),
        ("DEFAULT", (float("-inf"), float("inf"))),
    ],
)
def test_bounds_of_partitions_are_read(text: str, bounds: tuple[float, float]) -> None:
    assert partition_bounds(text) == bounds


def test_queries_have_a_time_limit_and_write_nothing(database: Database) -> None:
    from hep.cli.homer_tables import Tables, TablesError

    async def work() -> None:
        tables = await Tables.connect(database.dsn)
        try:
            with pytest.raises(TablesError, match="read-only"):
                async with tables.transaction() as connection:
                    await connection.execute("CREATE TABLE mine ()")
            async with tables.transaction() as connection:
                rows = await connection.execute("SHOW statement_timeout")
                assert await rows.fetchall() == [("5s",)]
        finally:
            await tables.aclose()

    asyncio.run(work())
    assert database.execute("SELECT to_regclass('mine')") == [(None,)]


async def test_a_query_that_takes_too_long_is_a_clear_message(
    database: Database, heplify: Start, doctor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hep.cli import homer_tables

    monkeypatch.setattr(homer_tables, "STATEMENT_TIMEOUT", 0.1)
    collector = await heplify(**FAST)
    with psycopg.connect(database.dsn) as locking:
        locking.execute("LOCK TABLE hep_proto_1_call IN SHARE ROW EXCLUSIVE MODE")
        locking.execute("LOCK TABLE pg_catalog.pg_inherits IN ACCESS EXCLUSIVE MODE")
        status, _, err = await doctor(collector.tcp_port, database.dsn)
    assert status == 1
    assert "a query took longer than 0.1 s" in err
