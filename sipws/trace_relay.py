"""Traces of several workers on one connection.

Who asks for a trace by ``trace_start``, as opensips-cli does, may accept one connection and no
more. Workers therefore send what goes over TCP or TLS to the parent, which has that connection.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final, Self

import hep
from hep.framing import Splitter
from sipws.merging import Content, by_name
from sipws.tracing.pipeline import FLUSH_TIMEOUT

HERE: Final = "127.0.0.1"
"""Where workers reach a relay, and nobody from outside does."""

_READ: Final = 65536


class TraceRelay:
    """Takes packets from workers to a destination."""

    def __init__(self, destination: hep.HepId) -> None:
        self.destination = destination
        self.uri = ""
        """Where workers send to, as ``trace_start`` has it."""
        self._sender = hep.open_sender(destination)
        self._taking: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, destination: hep.HepId) -> Self:
        """Listen.

        Raises:
            OSError: there is no room for it.
        """
        relay = cls(destination)
        try:
            relay._server = await asyncio.start_server(relay._accept, HERE, 0)
        except OSError:
            await relay._sender.aclose(0)
            raise
        port = relay._server.sockets[0].getsockname()[1]
        relay.uri = f"hep:{HERE}:{port};transport=tcp;version=3"
        return relay

    _server: asyncio.Server

    @property
    def has_gone(self) -> bool:
        """Whether the destination was there and is not any more, or never was."""
        return self._sender.failures > 0

    async def aclose(self) -> None:
        """Send what workers still bring, within `FLUSH_TIMEOUT`."""
        self._server.close()
        if self._taking:
            await asyncio.wait(self._taking, timeout=0 if self.has_gone else FLUSH_TIMEOUT)
        for task in self._taking:
            task.cancel()
        await self._sender.aclose(0 if self.has_gone else FLUSH_TIMEOUT)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._take(reader, writer))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = Splitter()
        try:
            with suppress(ConnectionError):
                while data := await reader.read(_READ):
                    for packet in splitter.feed(data):
                        self._sender.send(packet)
        finally:
            writer.close()


class TraceRelays:
    """The relays of the traces that were started."""

    def __init__(self) -> None:
        self._by_id: dict[str, TraceRelay] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def gone(self) -> list[str]:
        """The traces whose destination has gone."""
        return [name for name, relay in self._by_id.items() if relay.has_gone]

    async def before(self, method: str, params: Any) -> Any:
        """What to ask of the workers where this is asked for: ``trace_start`` gets a relay."""
        named = by_name(method, params)
        name, uri = named.get("id"), named.get("uri")
        if method != "trace_start" or not isinstance(name, str) or not isinstance(uri, str):
            return params
        with suppress(hep.HepIdError, OSError):
            destination = hep.HepId.parse(uri.removeprefix("hep:"))
            # What is wrong, or taken, is for the workers to refuse.
            is_stream = destination.transport != "udp" and destination.version == 3
            if is_stream and name not in self._by_id:
                self._by_id[name] = await TraceRelay.open(destination)
                return {**named, "uri": self._by_id[name].uri}
        return params

    def after(self, method: str, params: Any, content: Content) -> Content:
        """What to answer for the workers.

        Args:
            method: what was asked.
            params: what of the workers.
            content: what they answered together.
        """
        named = by_name(method, params)
        name = str(named.get("id"))
        if (relay := self._by_id.get(name)) is not None:
            is_refused = method == "trace_start" and "error" in content
            if is_refused and named.get("uri") == relay.uri:
                self._close(name)
            if method == "trace_stop" and "result" in content:
                self._close(name)
        if method == "trace_list" and "result" in content:
            for trace in content["result"]["Traces"]:
                if (relay := self._by_id.get(trace["ID"])) is not None:
                    trace["URI"] = str(relay.destination)
        return content

    async def aclose(self) -> None:
        """End all of them."""
        for name in list(self._by_id):
            self._close(name)
        await asyncio.gather(*self._closing)

    def _close(self, name: str) -> None:
        closing = asyncio.get_running_loop().create_task(self._by_id.pop(name).aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
