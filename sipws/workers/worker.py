"""One of several processes that serve; its parent runs ``python -m sipws.workers.worker FD``.

It is the program as it is alone, but for what one of them does for all: the control interface, the
sockets, systemd. A parent that is gone ends it.
"""

import asyncio
import logging
import os
import pickle
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Any, Final

import uvloop

from hep.cli.usage import WRONG_INPUT
from sipws import log
from sipws.config.resolved import ResolvedConfig
from sipws.control import mi
from sipws.errors import SipwsError, TraceError
from sipws.service.app import Application
from sipws.service.commands import methods_of
from sipws.service.console import on_hangup, reload, stop_on_signals, told, totals_of
from sipws.service.event_log import log_connections
from sipws.service.statistics import families
from sipws.service.systemd import Assigned
from sipws.transport import descriptors
from sipws.transport.registrations import Phone
from sipws.workers.trace_relay import remove_left, way_to_relay
from sipws.workers.worker_config import Start
from sipws.workers.worker_link import LENGTH, Link
from sipws.workers.worker_results import packed

logger = logging.getLogger("sipws.worker")

ENDED_AT_ONCE: Final = 1


def main() -> int:
    """Serve until the parent says stop; returns the exit status."""
    with socket.socket(fileno=int(sys.argv[1])) as link:
        # As the parent takes its end for ours, nobody else is to have it.
        link.set_inheritable(False)
        start = _start(link)
        descriptors.raise_limit()
        log.setup(start.config.log.level, start.config.log.format, worker=start.number)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_Worker(start).serve(link))
        except SipwsError as exc:
            if start.is_restart:
                logger.error("cannot start: %s", exc)
            else:
                print(f"sipws: {exc}", file=sys.stderr)
            return WRONG_INPUT
    return 0


def _start(link: socket.socket) -> Start:
    """The first message, which alone is no JSON: a configuration holds more than that can say."""
    length = int.from_bytes(link.recv(LENGTH, socket.MSG_WAITALL), "big")
    if not length:
        # The parent has ended meanwhile.
        sys.exit(ENDED_AT_ONCE)
    start: Start = pickle.loads(link.recv(length, socket.MSG_WAITALL))  # noqa: S301 - our parent's
    return start


class _Worker:
    def __init__(self, start: Start) -> None:
        listeners = start.config.transport.listeners
        sockets = [[socket.socket(fileno=fd) for fd in fds] for fds in start.sockets]
        for each in (each for those in sockets for each in those):
            # Whatever a filter's function may start does not get them.
            each.set_inheritable(False)
        self._start = start
        self._application = Application(
            ResolvedConfig.of(start.config, start.source),
            sockets=Assigned(dict(zip(listeners, sockets, strict=True))),
        )
        self._application.traces.way_to = partial(way_to_relay, start.relays)
        self._methods = methods_of(self._application)

    async def serve(self, link_socket: socket.socket) -> None:
        """Serve until the parent says stop, or is gone.

        Raises:
            TransportError: a listener cannot be opened.
            ConfigurationError: ``hep_spool`` cannot be used.
        """
        self._stop = stop_on_signals()
        application, start = self._application, self._start
        reader, writer = await asyncio.open_unix_connection(sock=link_socket)
        link = Link(reader, writer, hear=self._hear, answer=self._answer)
        reading = asyncio.get_running_loop().create_task(link.run())
        reading.add_done_callback(self._orphaned)

        def registered(phone: Phone, connection: int) -> None:
            link.tell("registered", [phone, connection])

        async def hangup() -> None:
            reload(application)

        # Whoever sends it to all of a service's processes means to end none.
        on_hangup(hangup)
        application.server.registrations.news = registered
        if start.is_service and start.config.log.connections:
            log_connections(application.bus, start.config.tracing.masking)
        async with application:
            link.tell("ready")
            await self._stop.wait()
            left = len(application.server.flows)
            if start.is_service:
                logger.info("stopping, %d connections open", left, extra={"event": "stopping"})
        totals = totals_of(application)
        if start.is_service:
            logger.info("stopped: %s", told(totals), extra={"event": "stopped"})
        link.tell("stopped", totals)
        await link.flush()
        reading.cancel()

    def _orphaned(self, reading: asyncio.Task[None]) -> None:
        if reading.cancelled():
            return
        remove_left(self._start.relays)
        if self._stop.is_set():
            # Somebody who does not want to wait for the end has ended the parent.
            os._exit(ENDED_AT_ONCE)
        logger.error("the parent process is gone: stopping")
        self._stop.set()

    def _hear(self, name: str, content: Any) -> None:
        if name == "stop":
            self._stop.set()
        elif name == "registered":
            (record, instance, registration), connection = content
            self._application.server.supersede((record, instance, registration), connection)
        elif name == "trace_stop":
            # Not all have started it, so none is to have it.
            with suppress(TraceError):
                self._application.traces.stop(content)

    def _answer(self, name: str, content: Any) -> Any:
        match name:
            case "mi":
                return mi.reply(content.encode(), self._methods).decode()
            case "metrics":
                return packed(families(self._application))
            case "reload":
                reload(self._application)
            case "ping":
                return list(self._application.traces.started)
        return None


if __name__ == "__main__":
    sys.exit(main())
