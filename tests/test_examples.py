"""The examples do what they say, against our own server."""

import asyncio
import hashlib
import importlib.util
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sipws
from sipws.events import Accepted
from sipws.service.responder import answer
from sipws.sip import Response
from sipws.testing import MemoryFlow

EXAMPLES = Path(__file__).parents[1] / "examples"
TYPED = ("busy", "echo", "events", "options", "register", "registrar", "server", "slow_answers")
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


def sent(method: str, *lines: str, cseq: int = 1, to: str = "<sip:alice@example.com>") -> bytes:
    head = [
        f"{method} sip:example.com SIP/2.0",
        f"Via: SIP/2.0/WS a.invalid;branch=z9hG4bK{cseq};rport",
        "From: <sip:alice@example.com>;tag=1",
        f"To: {to}",
        "Call-ID: c1",
        f"CSeq: {cseq} {method}",
        *lines,
    ]
    return "\r\n".join([*head, "Content-Length: 0", "", ""]).encode()


class Asked:
    """A client that sends a request and waits for its response."""

    def __init__(self, server: sipws.Server) -> None:
        self.url = f"ws://127.0.0.1:{server.listeners[0].port}/"
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.client = sipws.Client(lambda flow, message: self.answers.put_nowait(message))

    async def ask(self, message: bytes) -> Response:
        await self.client.send(self.url, message)
        answer = Response.parse(await self.answers.get())
        assert answer is not None
        assert ";received=127.0.0.1" in answer.headers["via"]
        assert answer.to.tag
        assert answer.headers["content-length"] == "0"
        return answer


async def test_the_busy_example_is_busy() -> None:
    async with (
        asyncio.timeout(5),
        sipws.Server(["ws:127.0.0.1:0"], example("busy").answer) as server,
    ):
        phone = Asked(server)
        async with phone.client:
            busy = await phone.ask(sent("INVITE"))
            assert (busy.status, busy.headers["retry-after"]) == (486, "60")
            # Neither gets a response, so the next one is that of the CANCEL.
            await phone.client.send(phone.url, sent("ACK"))
            await phone.client.send(phone.url, b"SIP/2.0 200 OK\r\n\r\n")
            assert (await phone.ask(sent("CANCEL"))).status == 481
            assert (await phone.ask(sent("OPTIONS"))).status == 200
            other = await phone.ask(sent("PUBLISH"))
            assert (other.status, "INVITE" in other.headers["allow"]) == (405, True)


def hashed(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()


async def test_the_registrar_example_asks_for_the_password() -> None:
    module = example("registrar")
    async with asyncio.timeout(5), sipws.Server(["ws:127.0.0.1:0"], module.answer) as server:
        phone = Asked(server)
        async with phone.client:

            async def register(
                *lines: str,
                password: str = "wonderland",
                to: str = "<sip:alice@example.com>",
                nonce: str = "",
                qop: bool = True,
            ) -> Response:
                challenge = (await phone.ask(sent("REGISTER"))).headers["www-authenticate"]
                match = re.fullmatch(
                    r'Digest realm="example.com", nonce="([^"]+)", qop="auth"', challenge
                )
                assert match is not None
                nonce = nonce or match[1]
                # RFC 2617 section 3.2.2, written out.
                a1, a2 = (
                    hashed("alice", "example.com", password),
                    hashed("REGISTER", "sip:example.com"),
                )
                middle = ("00000001", "abc", "auth") if qop else ()
                more = ', qop=auth, nc=00000001, cnonce="abc"' if qop else ""
                return await phone.ask(
                    sent(
                        "REGISTER",
                        f'Authorization: Digest username="alice", realm="example.com", '
                        f'nonce="{nonce}", uri="sip:example.com", '
                        f'response="{hashed(a1, nonce, *middle, a2)}"{more}',
                        *lines,
                        to=to,
                    )
                )

            contact = "Contact: <sip:a@a.invalid;transport=ws>"
            registered = await register(contact)
            assert registered.status == 200
            assert [(each.uri, each.parameters) for each in registered.contacts] == [
                ("sip:a@a.invalid;transport=ws", {"expires": "600"})
            ]
            second = await register("m: <sip:b@b.invalid>;expires=60", qop=False)
            assert [each.parameters["expires"] for each in second.contacts] == ["600", "60"]
            for refused in (
                await register(contact, password="looking glass"),
                await register(contact, nonce="1.abc"),
                await register(contact, nonce=module.nonce("1000")),
                await phone.ask(sent("REGISTER", "Authorization: Basic YTpi")),
                await phone.ask(sent("REGISTER", 'Authorization: Digest username="alice"')),
            ):
                assert refused.status == 401
            assert (await register(contact, to="<sip:bob@example.com>")).status == 403
            assert (await register(*(f"m: <sip:{n}@b>" for n in range(11)))).status == 403
            gone = await register(f"{contact};expires=0")
            assert [each.uri for each in gone.contacts] == ["sip:b@b.invalid"]
            assert (await register("Contact: *", "Expires: 0")).contacts == []
            assert module.contacts == {"alice": {}}
            assert (await phone.ask(sent("INVITE"))).status == 405


@pytest.mark.slow
def test_the_examples_are_typed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *(EXAMPLES / f"{n}.py" for n in TYPED)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for name in ("busy", "registrar"):
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 80


async def test_the_example_of_slow_answers_keeps_order_and_bounds() -> None:
    module = example("slow_answers")
    may_answer = asyncio.Event()
    started: list[bytes] = []
    cancelled = asyncio.Event()

    async def slow(flow: sipws.Flow, message: bytes) -> None:
        started.append(message[-1:])
        try:
            await may_answer.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        if message.endswith(b"2"):
            raise LookupError("odd")
        flow.send(message)

    tasks = module.Tasks(slow)
    printed: list[str] = []
    module.print = printed.append  # type: ignore[attr-defined]
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    server = sipws.Server(["ws:127.0.0.1:0"], tasks.handle)
    server.bus.closed.subscribe(tasks.ended)
    async with asyncio.timeout(10), server:
        url = f"ws://127.0.0.1:{server.listeners[0].port}/"
        async with sipws.Client(lambda flow, message: answers.put_nowait(message)) as client:
            flow = await client.connect(url)
            for number in b"123":
                flow.send(OPTIONS + bytes([number]))
            may_answer.set()
            assert [(await answers.get())[-1:] for _ in range(2)] == [b"1", b"3"]
            assert [line.partition(": ")[2] for line in printed] == ["LookupError: odd"]
            may_answer.clear()
            for _ in range(module.MOST_WAITING + 2):
                flow.send(OPTIONS)
            await flow.wait_closed()
        await server.flows.wait_empty()
        await cancelled.wait()
    assert tasks._flows == {}


async def test_the_first_example_answers_as_rfc_3261_requires() -> None:
    flow = MemoryFlow(example("options").answer)
    flow.receive(OPTIONS.replace(b"\r\n\r\n", b"\r\nm: <sip:a@a.invalid>\r\nl: 4\r\n\r\nbody"))
    flow.receive(sent("INVITE"))
    [answered] = flow.responses
    assert answered.status == 200
    assert answered.to.tag
    assert answered.body == b""
    assert list(answered.headers) == ["via", "from", "to", "call-id", "cseq", "content-length"]
    assert answered.headers["content-length"] == "0"


async def test_the_first_example_serves_until_it_is_interrupted() -> None:
    code = (EXAMPLES / "options.py").read_text().replace("ws:127.0.0.1:8080", "ws:127.0.0.1:0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import logging; logging.basicConfig(level=10)\n" + code),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            # asyncio logs the selector of its event loop; the program serves then, or is about to.
            await process.stderr.readuntil(b"selector")
            process.send_signal(signal.SIGINT)
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == -signal.SIGINT
