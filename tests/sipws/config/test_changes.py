"""What differs between two configurations, and what of it a running program takes over."""

from typing import Any

import pytest

from sipws.config.changes import EFFECTS, Changes, Effect, changes, settings_in, with_live
from sipws.config.settings import Config
from sipws.errors import ConfigurationError


def config(**sections: Any) -> Config:
    return Config.of(sections, "test")


def test_every_setting_has_an_effect() -> None:
    assert {name for name, _ in settings_in(Config())} == set(EFFECTS)


def test_the_same_configuration_has_no_changes() -> None:
    found = changes(config(control={"token": "x"}), config(control={"token": "x"}))
    assert found == Changes()
    assert found.answer == "OK"


def test_changes_are_named_by_what_becomes_of_them() -> None:
    new = config(
        transport={"listen": "ws:127.0.0.1:1", "require_origin": False, "workers": 2},
        tracing={"wss": {"trace_on": True}},
    )
    found = changes(Config(), new)
    assert found.live == ("transport.require_origin", "tracing.wss.trace_on")
    assert found.restart == ("transport.listen", "transport.workers")
    assert found.answer == (
        "OK; applied: transport.require_origin, tracing.wss.trace_on;"
        " transport.listen, transport.workers need a restart"
    )


def test_a_secret_is_compared_and_not_shown() -> None:
    found = changes(config(hep={"hep_auth_key": "old"}), config(hep={"hep_auth_key": "new"}))
    assert found == Changes(live=("hep.hep_auth_key",))


def test_what_needs_a_restart_stays_as_it_is() -> None:
    old = config(control={"token": "old"}, transport={"workers": 3})
    new = config(
        control={"token": "new"},
        transport={"workers": 5, "wss": {"wss_resource": "/a"}, "max_message_size": 1000},
    )
    merged = with_live(old, new, changes(old, new), "test")
    assert changes(old, merged) == Changes(
        live=("transport.wss.wss_resource", "transport.max_message_size")
    )
    assert merged.control.secret == "old"
    assert merged.transport.workers == 3
    assert EFFECTS["transport.workers"] is Effect.RESTART


def test_changes_that_are_wrong_without_the_others_are_refused() -> None:
    old = config(transport={"workers": 4, "max_connections": 10})
    new = config(transport={"workers": 1, "max_connections": 2})
    with pytest.raises(ConfigurationError, match=r"(?s)transport.workers needs a restart.*wrong"):
        with_live(old, new, changes(old, new), "test")
