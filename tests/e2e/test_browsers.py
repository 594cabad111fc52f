"""Phones in pages of Chromium and Firefox: what the page is told, and what is traced of it."""

import json

import pytest

import hep
from sipws.events import MessageReceived

pytestmark = pytest.mark.e2e

REGISTERED = {"event": "registered", "status": 200}


@pytest.fixture(params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> str:
    """Every browser in turn."""
    return str(request.param)


@pytest.mark.parametrize("proto", ["ws", "wss"])
@pytest.mark.parametrize(("library", "close_code"), [("jssip", "1005"), ("sipjs", "1000")])
async def test_a_day_of_a_phone_in_a_browser(
    open_page, browser, serve, collected, day, assert_day_was_traced, library, close_code, proto
) -> None:
    received: list[MessageReceived] = []
    url = await serve(proto, received.append, f"{browser}-{library}")
    assert await open_page(url, library, "day") == day
    await assert_day_was_traced(received, proto, close_code)
    accepted = await collected.wait_for(lambda packet: packet.protocol_type == hep.ProtocolType.NET)
    request = json.loads(accepted.payload)["Ws-Request"]
    assert {"chromium": "Chrome/", "firefox": "Firefox/"}[browser] in request
    # Offered by every browser, and not needed.
    assert "permessage-deflate" in request


@pytest.mark.parametrize("proto", ["ws", "wss"])
@pytest.mark.parametrize("library", ["jssip", "sipjs"])
async def test_a_page_that_is_left_closes_with_1001(
    open_page, serve, collected, closed, library, proto
) -> None:
    assert await open_page(await serve(proto), library, "leave") == [REGISTERED]
    end = await collected.wait_for(closed)
    # RFC 6455 section 7.4.1, "browser having navigated away from a page".
    assert json.loads(end.payload)["Close_Code"] == "1001"


async def test_a_page_that_is_reloaded_comes_back_on_another_connection(
    open_page, serve, collected, methods, closed
) -> None:
    assert await open_page(await serve("ws"), "jssip", "reload") == [REGISTERED] * 2
    await collected.wait_for(
        lambda packet: sum(map(closed, collected.packets)) == 2 and closed(packet)
    )
    codes = [json.loads(each.payload)["Close_Code"] for each in filter(closed, collected.packets)]
    assert codes == ["1001", "1001"]
    assert methods(collected.packets) == ["REGISTER", "REGISTER"]


@pytest.mark.parametrize("proto", ["ws", "wss"])
async def test_a_browser_that_dies_is_told_inside_of_the_registration(
    open_page, serve, collected, closed, proto
) -> None:
    await open_page(await serve(proto), "jssip", "kill")
    end = await collected.wait_for(closed)
    assert json.loads(end.payload)["Close_Code"] == "1006"
    [register] = [packet for packet in collected.packets
                  if packet.payload.startswith(b"REGISTER ")]  # fmt: skip
    told = await collected.wait_for(
        lambda packet: (
            packet.protocol_type == hep.ProtocolType.LOG
            and b" closed 1006 by the peer " in packet.payload
        )
    )
    assert told.correlation_id == register.correlation_id
