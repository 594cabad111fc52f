"""What workers bring for a trace goes on to its destination, as fast as that takes it."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import hep
from hep.codec.framing import Splitter
from hep.sending.outbox import FULL
from sipws.workers.trace_relay import TraceRelay, TraceRelays, relay_destination

PATIENCE = 20.0


async def test_what_a_slow_destination_does_not_take_waits_in_the_worker_and_is_counted_there(
    tmp_path: Path,
) -> None:
    reads = asyncio.Event()
    packets: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = Splitter()
        await reads.wait()
        while data := await reader.read(65536):
            packets.extend(splitter.feed(data))
        writer.close()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            await asyncio.start_server(receive, "127.0.0.1", 0)
        )
        stack.callback(reads.set)
        destination = hep.HepId("127.0.0.1", server.sockets[0].getsockname()[1])
        path = tmp_path / "relay" / "hep"
        relay = await TraceRelay.open(destination, path, lambda pid: True)
        stack.push_async_callback(relay.aclose)
        stack.callback(relay.shut)
        few = hep.SenderSettings(queue_limit=100)
        worker = hep.open_sender(hep.HepId(str(path), transport="unix"), few)
        stack.push_async_callback(worker.aclose, 0)
        # More than the system holds.
        for _ in range(400):
            worker.send(hep.encode(hep.Packet(payload=bytes(60_000))))
            await asyncio.sleep(0)
            if worker.counters.dropped:
                break
        counted, held = worker.counters.dropped[FULL], relay.sender.counters.queued
        reads.set()
        async with asyncio.timeout(PATIENCE):
            await worker.drained()
            kept = worker.counters.offered - worker.counters.dropped.total()
            while len(packets) < kept:  # noqa: ASYNC110 - nobody tells that it has come
                await asyncio.sleep(0.01)
    assert counted
    assert held < 100
    assert len(packets) == kept
    assert not relay.sender.counters.dropped


async def test_what_waits_for_one_destination_goes_to_no_other_by_the_same_id() -> None:
    received: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            received.append(data)
        writer.close()

    async with AsyncExitStack() as stack:
        uris, ways = [], []
        relays = TraceRelays(lambda pid: True)
        stack.push_async_callback(relays.aclose)
        for answer in (refuse, receive):
            server = await stack.enter_async_context(
                await asyncio.start_server(answer, "127.0.0.1", 0)
            )
            destination = hep.HepId("127.0.0.1", server.sockets[0].getsockname()[1])
            uris.append(f"hep:{destination}")
            ways.append(relay_destination(relays.paths, "live", destination))
        await relays.open("live", uris[0], ())
        worker = hep.open_sender(ways[0], hep.SenderSettings(retry_first=0.01))
        stack.push_async_callback(worker.aclose, 0)
        async with asyncio.timeout(PATIENCE):
            while not (relays.gone and worker.connected):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            relays.close("live")
            await relays.open("live", uris[1], ())
            while worker.connects < 2 and worker.failures < 3:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.01)
        worker.send(hep.encode(hep.Packet(payload=b"for the first")))
        another = hep.open_sender(ways[1])
        another.send(hep.encode(hep.Packet(payload=b"for the second")))
        await another.aclose()
        relays.close("live")
        await relays.aclose()
    assert b"for the second" in b"".join(received)
    assert b"for the first" not in b"".join(received)
