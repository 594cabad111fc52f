"""The examples do what they say, against our own server."""

import asyncio
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sipws
from sipws.events import Accepted
from sipws.service.responder import answer

EXAMPLES = Path(__file__).parents[1] / "examples"
OPTIONS = (
    b"OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_register_example_registers_and_takes_itself_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    received: list[bytes] = []

    def handle(flow: sipws.Flow, message: bytes) -> None:
        received.append(message)
        answer(flow, message)

    async with asyncio.timeout(5), sipws.Server(["ws:127.0.0.1:0"], handle) as server:
        accepted: list[Accepted] = []
        server.bus.accepted.subscribe(accepted.append)
        port = server.listeners[0].port
        await example("register").main(f"ws://127.0.0.1:{port}", "sip:alice@example.com")
    assert re.fullmatch(
        r"REGISTER: SIP/2\.0 200 OK\n"
        r"  Contact: <sip:alice@[0-9a-f]+\.invalid;transport=ws>;expires=600\n"
        r"OPTIONS: SIP/2\.0 200 OK\n"
        r"  Allow: .*OPTIONS.*\n"
        r"REGISTER: SIP/2\.0 200 OK\n"
        r"  Contact: None\n",
        capsys.readouterr().out,
    )
    assert [message.partition(b" ")[0] for message in received] == [
        b"REGISTER",
        b"OPTIONS",
        b"REGISTER",
    ]
    assert b"\r\nVia: SIP/2.0/WS " in received[0]
    assert len(accepted) == 1, "one connection serves them all"


async def test_the_register_example_says_what_is_wrong_without_a_traceback() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "register.py"), "ws://127.0.0.1:1", "sip:a@b"),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        _, err = await process.communicate()
    assert err.decode().startswith("cannot connect to ws://127.0.0.1:1/: ")
    assert b"Traceback" not in err
    assert process.returncode == 1


async def test_the_events_example_counts_and_logs() -> None:
    module = example("events")
    lines: asyncio.Queue[str] = asyncio.Queue()
    module.print = lines.put_nowait  # type: ignore[attr-defined]
    bus = sipws.Bus()
    numbers = module.Numbers(bus)
    logging = asyncio.create_task(module.log(bus))
    async with asyncio.timeout(5), sipws.Server(["ws:127.0.0.1:0"], answer, bus=bus) as server:
        url = f"ws://127.0.0.1:{server.listeners[0].port}/"
        answered = asyncio.Event()
        async with sipws.Client(lambda flow, message: answered.set()) as client:
            await client.send(url, OPTIONS)
            await answered.wait()
        told = [await lines.get() for _ in range(2)]
        async with sipws.Client(subprotocols=["other"]) as client:
            with pytest.raises(sipws.ConnectError):
                await client.connect(url)
        told += [await lines.get() for _ in range(2)]
    logging.cancel()
    assert [re.sub(r"^127\.0\.0\.1:\d+ ", "", line) for line in told] == [
        "connected",
        "closed with 1000 by peer",
        "no-subprotocol: the WebSocket subprotocol 'sip' must be offered (RFC 7118 section 4)",
        "closed with 1006 by local",
    ]
    assert numbers.messages == {"in OPTIONS": 1, "out SIP/2.0": 1}
