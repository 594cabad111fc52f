"""A worker's part of what is configured for all."""

import pickle
from pathlib import Path

import pytest

from sipws.config.settings import Config
from sipws.errors import ConfigurationError
from sipws.workers.worker_config import config_of_worker


def config(workers: int = 3, **sections: dict[str, object]) -> Config:
    transport = {"listen": "ws:127.0.0.1:0 tag edge", "workers": workers}
    table = {**sections, "transport": {**transport, **sections.get("transport", {})}}
    return Config.of(table, "test")


def shares(whole: Config) -> list[Config]:
    numbers = range(1, whole.transport.workers + 1)
    return [config_of_worker(whole, number, whole.transport.listeners) for number in numbers]


@pytest.mark.parametrize("most", [3, 4, 5, 1000])
def test_the_parts_of_a_total_are_no_more_than_the_total(most: int) -> None:
    parts = [
        x.transport.max_connections for x in shares(config(transport={"max_connections": most}))
    ]
    assert sum(x or 0 for x in parts) == most
    assert None not in parts
    assert max(x or 0 for x in parts) - min(x or 0 for x in parts) <= 1


def test_rates_are_shared_out_and_what_counts_for_an_address_is_not() -> None:
    limits = {
        "max_handshake_rate": 30,
        "max_handshake_rate_per_address": 5,
        "max_connections_per_address": 7,
    }
    for share in shares(config(transport=limits)):
        assert share.transport.max_handshake_rate == pytest.approx(10)
        assert share.transport.max_handshake_rate_per_address == 5
        assert share.transport.max_connections_per_address == 7
        assert share.transport.max_connections is None


def test_a_total_of_less_than_one_for_each_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"max_connections = 2 .* workers = 3"):
        config(transport={"max_connections": 2})


def test_no_two_workers_have_the_same_spool() -> None:
    spools = [x.hep.hep_spool for x in shares(config(hep={"hep_spool": "/var/spool/sipws"}))]
    # The first is that of a program of one process.
    assert spools == [
        Path("/var/spool/sipws"),
        *(Path(f"/var/spool/sipws/worker-{n}") for n in (2, 3)),
    ]


def test_the_control_interface_stays_with_the_parent_and_all_else_is_kept() -> None:
    whole = config(
        control={"listen": "127.0.0.1:1"},
        hep={"hep_id": "[homer]127.0.0.1:9060", "hep_auth_key": "secret"},
        tracing={"trace_destination": "homer", "trace_on": True},
    )
    # It goes to another process.
    share: Config = pickle.loads(
        pickle.dumps(config_of_worker(whole, 2, whole.transport.listeners, trace_on={"ws": False}))
    )
    assert share.control.address is None
    assert share.transport.listeners == whole.transport.listeners
    assert share.transport.workers == 1
    assert share.hep.auth_key == b"secret"
    # Tracing of wss was not switched, and stays as configured.
    assert share.tracing.protocols_on == {"wss"}
    assert config_of_worker(whole, 2, whole.transport.listeners).tracing.trace_on
