"""tshark reads the captures that calls are exported to."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hep.view.export import export
from hep.view.model.ladder import ladder
from hep.view.model.picture import Verdict
from hep.view.model.summary import CallSummary

from .talks import legs, relayed

FIELDS = ("frame.time_epoch", "ip.src", "udp.srcport", "ip.dst", "sip.Call-ID", "sip.CSeq.method")


@pytest.mark.parametrize("anonymous", [False, True])
def test_tshark_reads_each_message(find: Any, tmp_path: Path, anonymous: bool) -> None:
    tshark = str(find.program("tshark", remedy="install Debian's package tshark"))
    talk = relayed()
    picture = ladder(talk.records, legs())
    path = tmp_path / "call.pcap"
    path.write_bytes(
        export(
            CallSummary(talk.call_id),
            Verdict("", "ok"),
            picture,
            talk.records,
            "pcap",
            anonymous=anonymous,
        )
    )
    command = [tshark, "-r", str(path), "-Y", "sip", "-T", "fields"]
    command += [part for field in FIELDS for part in ("-e", field)]
    # Phones' ports say nothing; the messages do.
    command += ["--enable-heuristic", "sip_udp"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(talk.records)
    for row, record in zip(rows, talk.records, strict=True):
        assert round(float(row[0]) * 1_000_000) == record.at
        assert record.sip is not None
        assert row[5] == record.sip.method
        ip, _, port = record.src.rpartition(":")
        assert row[2] == port
        assert (row[1] == ip) is not anonymous
        assert (row[4] == talk.call_id) is not anonymous
    malformed = subprocess.run(
        [tshark, "-r", str(path), "-Y", "_ws.malformed"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert not malformed.stdout
