"""Traces of several workers on one connection.

Who asks for a trace by ``trace_start``, as opensips-cli does, may accept one connection and no
more. Workers therefore send what goes over TCP or TLS to the parent, which has that connection.
They reach it by a Unix socket in a directory that no other user can enter, and whoever is no worker
is refused there: nobody else has a say in what a trace shows.
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
from sipws.tracing.pipeline import FLUSH_TIMEOUT

log = logging.getLogger(__name__)

_READ: Final = 65536

_CREDENTIALS: Final = struct.Struct("iII")
"""Process, user and group (struct ucred)."""


def way_to_relay(relays: str, trace_id: str, destination: hep.HepId) -> hep.HepId:
    """Where a worker sends a trace that is started.

    Args:
        relays: how the paths of the parent's relays begin.
        trace_id: what the trace is called.
        destination: where it is to arrive.
    """
    if not _is_relayed(destination):
        return destination
    return hep.HepId(str(_socket_of(relays, trace_id, destination)), transport="unix")


def remove_left(relays: str) -> None:
    """Remove the sockets that a parent has left that was killed; for its workers to call.

    Args:
        relays: how the paths of the parent's relays began, which is nobody else's.
    """
    for left in glob(f"{escape(relays)}-*"):
        # The other workers do it as well.
        rmtree(left, ignore_errors=True)


def _is_relayed(destination: hep.HepId) -> bool:
    return destination.transport != "udp"


def _socket_of(relays: str, trace_id: str, destination: hep.HepId) -> Path:
    # What still waits for one destination is not for the next one that has the same id. An id may
    # be anything, and a path may not be long.
    digest = hashlib.sha256(f"{destination} {trace_id}".encode()).hexdigest()
    return Path(f"{relays}-{digest[:16]}") / "hep"


class TraceRelay:
    """Takes packets from workers to a destination. Made by `open`."""

    _server: asyncio.Server
    _sender: hep.Sender

    def __init__(self, destination: hep.HepId, path: Path, is_ours: Callable[[int], bool]) -> None:
        self.destination = destination
        self._path = path
        self._is_ours = is_ours
        self._taking: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, destination: hep.HepId, path: Path, is_ours: Callable[[int], bool]) -> Self:
        """Let workers come.

        Args:
            destination: where their packets go.
            path: of the socket where they come; its directory is made, and is not there yet.
            is_ours: tells of a process by its id whether it is a worker.

        Raises:
            OSError: there is no room for the socket.
        """
        relay = cls(destination, path, is_ours)
        path.parent.mkdir(mode=0o700)
        try:
            relay._server = await asyncio.start_unix_server(relay._accept, path)
        except OSError:
            path.parent.rmdir()
            raise
        relay._sender = hep.open_sender(destination)
        return relay

    @property
    def has_gone(self) -> bool:
        """Whether the destination was there and is not any more, or never was."""
        return self._sender.failures > 0

    def shut(self) -> None:
        """Let nobody new in."""
        self._server.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()

    async def aclose(self) -> None:
        """Send what workers still bring, within `FLUSH_TIMEOUT`, once `shut`."""
        now = asyncio.get_running_loop().time
        end = now() + (0 if self.has_gone else FLUSH_TIMEOUT)
        if self._taking:
            await asyncio.wait(self._taking, timeout=end - now())
        for task in self._taking:
            task.cancel()
        await self._sender.aclose(max(0, end - now()))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (pid := _peer_of(writer)) is not None and not self._is_ours(pid):
            log.warning("process %d is no worker, and may not add to a trace", pid)
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
                        self._sender.send(packet)
                    # What a slow destination has no room for waits in the workers: they count what
                    # they drop, and tell it there.
                    await self._sender.drained()
        finally:
            writer.close()


def _peer_of(writer: asyncio.StreamWriter) -> int | None:
    """The process at the other end of a Unix socket; None where the system does not say."""
    # Where it does not, the directory is what keeps others out.
    if (option := getattr(socket, "SO_PEERCRED", None)) is None:
        return None
    said = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(said)[0]
    return pid


class TraceRelays:
    """The relays of the traces that were started.

    Args:
        is_ours: tells of a process by its id whether it is a worker.
    """

    def __init__(self, is_ours: Callable[[int], bool]) -> None:
        self.paths = f"{os.environ.get('TMPDIR') or '/tmp'}/sipws-{secrets.token_hex(8)}"  # noqa: S108
        """How the paths of their sockets begin; nobody can have made one of them before us."""
        self._is_ours = is_ours
        self._by_id: dict[str, TraceRelay] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def gone(self) -> list[str]:
        """The traces whose destination has gone."""
        return [name for name, relay in self._by_id.items() if relay.has_gone]

    async def open(self, trace_id: object, uri: object, taken: Container[str]) -> None:
        """Open a relay for a trace that the workers are about to be asked for, if it needs one.

        What is wrong, or taken, is for the workers to refuse.

        Args:
            trace_id: what it is to be called.
            uri: where it is to go, as ``trace_start`` has it.
            taken: what those that were started are called, whether they need one or not.

        Raises:
            OSError: there is no room for its socket.
        """
        if not isinstance(trace_id, str) or not isinstance(uri, str) or trace_id in taken:
            return
        try:
            destination = hep.HepId.parse(uri.removeprefix("hep:"))
        except hep.HepIdError:
            return
        if _is_relayed(destination):
            path = _socket_of(self.paths, trace_id, destination)
            self._by_id[trace_id] = await TraceRelay.open(destination, path, self._is_ours)

    def close(self, name: str) -> None:
        """End the relay of a trace, where it has one."""
        if (relay := self._by_id.pop(name, None)) is not None:
            # At once: another one may be opened there.
            relay.shut()
            closing = asyncio.get_running_loop().create_task(relay.aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """End all of them."""
        for name in list(self._by_id):
            self.close(name)
        await asyncio.gather(*self._closing)
