"""From ``trace_destination`` to a HEP destination."""

import pytest

from hep import HepId
from sipws import ConfigurationError
from sipws.tracing.destinations import resolve

HEP_IDS = [HepId.parse("[homer]10.0.0.2"), HepId.parse("[lab]127.0.0.1:9061;transport=udp")]


def test_a_name_finds_its_hep_id() -> None:
    assert resolve("lab", HEP_IDS) is HEP_IDS[1]


def test_an_unknown_name_is_an_error_that_names_those_that_exist() -> None:
    with pytest.raises(ConfigurationError) as refused:
        resolve("hommer", HEP_IDS)
    assert "trace_destination 'hommer' is not a hep_id" in str(refused.value)
    assert "configured: 'homer', 'lab'" in str(refused.value)


def test_with_nothing_configured_the_error_says_so() -> None:
    with pytest.raises(ConfigurationError, match="configured: none"):
        resolve("homer", [])


def test_a_whole_hep_id_will_do() -> None:
    assert resolve("10.0.0.9:9070;transport=udp", []) == HepId.parse("10.0.0.9:9070;transport=udp")


def test_what_is_neither_is_an_error_that_says_why() -> None:
    with pytest.raises(ConfigurationError, match=r"neither the name of a hep_id .* nor a HEP id"):
        resolve("10.0.0.9;transport=sctp", HEP_IDS)
