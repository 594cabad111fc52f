"""Phones in a page that call each other: INVITE, SDP, ACK and BYE as browsers send them."""

import pytest

from sipws import Flow, Server
from sipws.service import responder

pytestmark = pytest.mark.e2e


class Exchange:
    """Registers phones, and carries every other message to the other phone unchanged."""

    def __init__(self) -> None:
        self.phones: list[Flow] = []
        self.carried: list[bytes] = []

    def take(self, flow: Flow, message: bytes) -> None:
        if message.startswith(b"REGISTER "):
            self.phones.append(flow)
            responder.answer(flow, message)
            return
        self.carried.append(message)
        for other in self.phones:
            if other is not flow:
                other.send(message)


@pytest.mark.parametrize("library", ["jssip", "sipjs"])
async def test_phones_in_a_page_call_each_other(open_page, browser, library, record) -> None:
    exchange = Exchange()
    async with Server(["ws:127.0.0.1:0"], exchange.take) as server:
        record(server.bus, f"{browser}-{library}")
        url = f"ws://127.0.0.1:{server.listeners[0].port}/"
        told = await open_page(url, library, "call")
    assert [line["event"] for line in told] == ["register", "register", "invite", "bye"]
    assert {line["status"] for line in told} == {200}
    invite, *answers = [message for message in exchange.carried if b" INVITE\r\n" in message]
    assert invite.startswith(b"INVITE sip:bob@example.com SIP/2.0\r\n")
    assert b"\r\nContent-Type: application/sdp\r\n" in invite
    assert b"\r\nm=audio " in invite
    assert answers[-1].startswith(b"SIP/2.0 200 ")
    assert b"\r\nm=audio " in answers[-1]
    methods = [message.split(b" ", 1)[0] for message in exchange.carried]
    assert [method for method in methods if method != b"SIP/2.0"] == [b"INVITE", b"ACK", b"BYE"]
