"""A connection, and the bus that its events go over."""

import pytest

from sipws import Address, Bus, Listener
from sipws.events import Connection


@pytest.fixture
def connection() -> Connection:
    return Connection(
        id=9872991657742122745,
        listener=Listener.parse("ws:10.0.0.1:8080 tag edge as 203.0.113.1:80"),
        local=Address("10.0.0.1", 8080),
        peer=Address("192.0.2.5", 50123),
        started=1000.0,
    )


@pytest.fixture
def bus() -> Bus:
    return Bus()
