"""What is configured holds with workers as it does without; over real processes."""

import asyncio
import os
import signal
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from sipws.address import Listener
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.systemd import Assigned
from sipws.workers.supervisor import Supervisor

PAGE = Origin("https://phone.example.com")

PATIENCE = 20.0


class Running:
    """A program of several workers, and clients of it."""

    def __init__(self, supervisor: Supervisor, stack: AsyncExitStack) -> None:
        self.supervisor = supervisor
        self._stack = stack
        self.port = supervisor.listeners[0].port

    async def client(self, **options: Any) -> ClientConnection:
        url = f"ws://127.0.0.1:{self.port}/"
        opening = connect(
            url, subprotocols=[Subprotocol("sip")], origin=PAGE, open_timeout=PATIENCE, **options
        )
        return await self._stack.enter_async_context(opening)

    async def behind(self, header: bytes) -> ClientConnection:
        """A client behind a proxy that begins so."""
        sock, loop = socket.socket(), asyncio.get_running_loop()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", self.port))
        await loop.sock_sendall(sock, header)
        return await self.client(sock=sock)

    async def remotes(self) -> set[str]:
        content = await self.supervisor.call("list_tcp_conns", None)
        return {each["Remote"] for each in content["result"]["Connections"]}

    async def opened(self) -> Counter[int]:
        """Open connections of each worker."""
        contents = {
            number: await worker.call("get_statistics", [["ws:open_connections"]])
            for number, worker in self.supervisor.workers.items()
        }
        return Counter({n: x["result"]["ws:open_connections"] for n, x in contents.items()})


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def run(
            workers: int = 2,
            listen: str = "ws:127.0.0.1:0",
            upstream: str | None = None,
            sockets: Assigned | None = None,
            **transport: Any,
        ) -> Running:
            table: dict[str, Any] = {
                "transport": {"listen": listen, "workers": workers, "shutdown_grace": 0} | transport
            }
            if upstream is not None:
                table["upstream"] = {"upstream_uri": upstream}
            resolved = ResolvedConfig.of(Config.of(table, "test"))
            supervisor = Supervisor(resolved, "test", sockets=sockets)
            return Running(await stack.enter_async_context(supervisor), stack)

        yield run


OPTIONS = (
    "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
    "From: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: 1\r\n"
    "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


async def answered(client: ClientConnection) -> bool:
    await client.send(OPTIONS)
    async with asyncio.timeout(PATIENCE):
        return str(await client.recv()).startswith("SIP/2.0 200 ")


async def test_five_workers_share_what_comes_and_count_together(start: Start) -> None:
    running = await start(workers=5)
    clients = [await running.client() for _ in range(100)]
    opened = await running.opened()
    assert set(opened) == set(range(1, 6))
    # That one of five gets none of a hundred happens once in a billion times.
    assert min(opened.values()) > 0
    total = await running.supervisor.call("get_statistics", [["ws:open_connections"]])
    assert total == {"result": {"ws:open_connections": 100}}
    assert len(await running.remotes()) == 100
    assert await answered(clients[0])


async def test_peers_are_known_behind_proxies(start: Start) -> None:
    proxies = {"trusted_proxies": ["127.0.0.0/8"], "max_connections_per_address": 1}
    running = await start(**proxies)
    for number in range(10):
        await running.client(additional_headers={"X-Forwarded-For": f"127.1.0.{number}"})
    assert await running.remotes() == {f"127.1.0.{number}:0" for number in range(10)}

    running = await start(**proxies, proxy_protocol=True)
    for number in range(10):
        header = b"PROXY TCP4 127.1.0.%d 127.0.0.1 5060 80\r\n" % number
        assert await answered(await running.behind(header))
    assert await running.remotes() == {f"127.1.0.{number}:5060" for number in range(10)}


async def test_limits_of_an_address_hold_in_each_worker_and_those_of_all_in_total(
    start: Start,
) -> None:
    async def let_in(running: Running) -> int:
        count = 0
        for _ in range(60):
            with suppress(InvalidStatus):
                await running.client()
                count += 1
        return count

    assert await let_in(await start(max_connections_per_address=3)) == 6
    assert await let_in(await start(max_connections=5)) == 5


async def test_workers_relay_to_an_upstream(start: Start) -> None:
    behind = await start()
    running = await start(upstream=f"ws://127.0.0.1:{behind.port}/")
    clients = [await running.client() for _ in range(20)]
    assert all([await answered(client) for client in clients])
    assert (await behind.opened()).total() == 20
    assert min((await running.opened()).values()) > 0
    # One of the workers behind dies: its clients are told, and the others go on.
    os.kill(behind.supervisor.workers[1].process.pid, signal.SIGKILL)
    told = 0
    for client in clients:
        try:
            assert await answered(client)
        except ConnectionClosed:
            assert client.close_code == 1011
            told += 1
    assert 0 < told < 20


async def test_sockets_that_were_opened_for_us_are_shared_by_all_workers(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        listener = Listener.parse(f"ws:127.0.0.1:{given.getsockname()[1]}")
        shared = Assigned({listener: [given.dup()]})
        running = await start(listen=str(listener), sockets=shared)
        for worker in list(running.supervisor.workers.values()):
            os.kill(worker.process.pid, signal.SIGKILL)
            # Another one takes it, or the next one.
            assert await answered(await running.client())
        await running.supervisor.__aexit__()
        # It is not ours to close for good: what comes now waits for the next program.
        _, writer = await asyncio.open_connection(*given.getsockname())
        writer.close()


async def test_a_new_certificate_is_shown_by_all_workers_and_a_wrong_one_by_none(
    start: Start, tmp_path: Path
) -> None:
    authority, pem = trustme.CA(), tmp_path / "server.pem"
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def issue() -> None:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(pem)

    async def shown(running: Running) -> set[str]:
        serials = set()
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=trusting)
            serials.add(writer.get_extra_info("peercert")["serialNumber"])
            writer.close()
        return serials

    issue()
    running = await start(listen="wss:127.0.0.1:0", tls_certificate=str(pem))
    [first] = await shown(running)
    issue()
    await running.supervisor.reload()
    [second] = await shown(running)
    assert second != first
    pem.write_text("broken")
    await running.supervisor.reload()
    refused = await running.supervisor.call("tls_reload", None)
    assert f"TLS certificate {pem} cannot be used" in refused["error"]["message"]
    assert await shown(running) == {second}
