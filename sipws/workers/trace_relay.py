"""Relays that put the traces of several workers on one connection.

A collector that starts a trace by ``trace_start``, such as opensips-cli, may accept only one
connection. Workers therefore send what goes over TCP or TLS to the parent, which has that
connection. They connect to a Unix socket in a directory that no other user can enter. The relay
refuses processes that are not workers: they could forge packets of a trace.
"""

import asyncio
import hashlib
import logging
import os
import secrets
import socket
import struct
from collections.abc import Callable, Container
from contextlib import suppress
from glob import escape, glob
from pathlib import Path
from shutil import rmtree
from typing import Final, Self

import hep
from hep.codec.framing import Splitter
from sipws.tracing.trace import FLUSH_TIMEOUT

log = logging.getLogger(__name__)

_READ: Final = 65536
"""Bytes of one read."""

_CREDENTIALS: Final = struct.Struct("iII")
"""Process, user and group of a peer (struct ucred, unix(7))."""


def relay_destination(relays: str, trace_id: str, destination: hep.HepId) -> hep.HepId:
    """The destination to which a worker sends a trace that ``trace_start`` started.

    Args:
        relays: the prefix of the paths of the parent's relays.
        trace_id: the id of the trace.
        destination: the collector.

    Returns:
        the parent's relay; the collector itself over UDP.
    """
    if not _is_relayed(destination):
        return destination
    return hep.HepId(str(_socket_of(relays, trace_id, destination)), transport="unix")


def remove_sockets(relays: str) -> None:
    """Remove the sockets of a parent that was killed; its workers call this.

    Args:
        relays: the prefix of the paths of the parent's relays, which no other parent has.
    """
    for left in glob(f"{escape(relays)}-*"):
        # The other workers remove them at the same time.
        rmtree(left, ignore_errors=True)


def _is_relayed(destination: hep.HepId) -> bool:
    return destination.transport != "udp"


def _socket_of(relays: str, trace_id: str, destination: hep.HepId) -> Path:
    # The destination is part of the digest: packets that wait for one destination must not go to
    # the next one with the same id. A digest, because an id may hold any character and be long.
    digest = hashlib.sha256(f"{destination} {trace_id}".encode()).hexdigest()
    return Path(f"{relays}-{digest[:16]}") / "hep"


class TraceRelay:
    """Takes the packets of a trace from workers to its destination. Made by `open`."""

    _server: asyncio.Server
    sender: hep.Sender
    """Sends to the destination."""

    def __init__(
        self, destination: hep.HepId, path: Path, is_worker: Callable[[int], bool]
    ) -> None:
        self.destination = destination
        self._path = path
        self._is_worker = is_worker
        self._taking: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls, destination: hep.HepId, path: Path, is_worker: Callable[[int], bool]
    ) -> Self:
        """Open a relay.

        Args:
            destination: the collector.
            path: of the socket for workers; its directory must not exist, and is made.
            is_worker: whether the process with this id is a worker.

        Raises:
            OSError: the socket or its directory cannot be made.
        """
        relay = cls(destination, path, is_worker)
        path.parent.mkdir(mode=0o700)
        try:
            relay._server = await asyncio.start_unix_server(relay._accept, path)
        except OSError:
            path.parent.rmdir()
            raise
        relay.sender = hep.open_sender(destination)
        return relay

    @property
    def has_gone(self) -> bool:
        """Whether a connection to the destination has failed or was lost."""
        return self.sender.failures > 0

    def shut(self) -> None:
        """Accept no more connections, and remove the socket."""
        self._server.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()

    async def aclose(self) -> None:
        """Send what workers still deliver, for at most `FLUSH_TIMEOUT`; call `shut` before."""
        now = asyncio.get_running_loop().time
        end = now() + (0 if self.has_gone else FLUSH_TIMEOUT)
        if self._taking:
            await asyncio.wait(self._taking, timeout=end - now())
        for task in self._taking:
            task.cancel()
        await self.sender.aclose(max(0, end - now()))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (pid := _peer_of(writer)) is not None and not self._is_worker(pid):
            log.warning("process %d is refused by a trace relay: it is not a worker", pid)
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._take(reader, writer))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = Splitter()
        try:
            with suppress(ConnectionError):
                while data := await reader.read(_READ):
                    for packet in splitter.feed(data):
                        self.sender.send(packet)
                    # Packets for a slow destination wait in the workers, which count and report
                    # those that they drop.
                    await self.sender.drained()
        finally:
            writer.close()


def _peer_of(writer: asyncio.StreamWriter) -> int | None:
    """The process id of the peer of a Unix socket; None on systems without SO_PEERCRED."""
    # Without it, only the permissions of the directory keep other processes out.
    if (option := getattr(socket, "SO_PEERCRED", None)) is None:
        return None
    found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(found)[0]
    return pid


class TraceRelays:
    """The relays of the traces that ``trace_start`` started.

    Args:
        is_worker: whether the process with this id is a worker.
    """

    def __init__(self, is_worker: Callable[[int], bool]) -> None:
        self.paths = f"{os.environ.get('TMPDIR') or '/tmp'}/sipws-{secrets.token_hex(8)}"  # noqa: S108
        """The prefix of the paths of their sockets. It is random: no path can exist before."""
        self._is_worker = is_worker
        self._by_id: dict[str, TraceRelay] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def gone(self) -> list[str]:
        """The ids of the traces whose destination is gone."""
        return [name for name, relay in self._by_id.items() if relay.has_gone]

    async def open(self, trace_id: object, uri: object, taken: Container[str]) -> None:
        """Open a relay for a trace that the workers will start, if it needs one.

        Workers refuse invalid parameters and ids that are in use; this method ignores them.

        Args:
            trace_id: the id of the trace, a parameter of ``trace_start``.
            uri: its destination, a parameter of ``trace_start``.
            taken: the ids of the traces that were started.

        Raises:
            OSError: the socket cannot be made.
        """
        if not isinstance(trace_id, str) or not isinstance(uri, str) or trace_id in taken:
            return
        try:
            destination = hep.HepId.parse(uri.removeprefix("hep:"))
        except hep.HepIdError:
            return
        if _is_relayed(destination):
            path = _socket_of(self.paths, trace_id, destination)
            self._by_id[trace_id] = await TraceRelay.open(destination, path, self._is_worker)

    def close(self, name: str) -> None:
        """Close the relay of a trace, if it has one."""
        if (relay := self._by_id.pop(name, None)) is not None:
            # Now, since another relay may be opened at the same path.
            relay.shut()
            closing = asyncio.get_running_loop().create_task(relay.aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all relays, and wait until their packets are sent."""
        for name in list(self._by_id):
            self.close(name)
        await asyncio.gather(*self._closing)
