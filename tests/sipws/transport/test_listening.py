"""Sockets for several processes on the same address."""

import socket

import pytest

from sipws.address import Listener
from sipws.errors import TransportError
from sipws.transport.listening import open_sockets


async def test_each_copy_has_its_own_sockets_on_the_same_port() -> None:
    listener, copies = await open_sockets(Listener.parse("ws:127.0.0.1:0 tag edge"), 3)
    try:
        assert listener.port != 0
        assert listener.tag == "edge"
        names = [each.getsockname() for sockets in copies for each in sockets]
        assert names == [("127.0.0.1", listener.port)] * 3
    finally:
        for each in (each for sockets in copies for each in sockets):
            each.close()


async def test_another_program_that_shares_its_port_is_found_all_the_same() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        listener = Listener.parse(f"ws:127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(TransportError, match="Address already in use"):
            await open_sockets(listener, 2)
