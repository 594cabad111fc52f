"""One of several processes that serve; its parent runs ``python -m sipws.workers.worker FD``.

A worker is an `Application`. Its parent has the control interface, opens the sockets and speaks to
systemd. A worker ends when its parent does.
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

from hep.cli.usage import DONE, WRONG_INPUT, print_error
from sipws import log
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control import mi
from sipws.errors import SipwsError, TraceError
from sipws.service.app import Application
from sipws.service.commands import methods_of
from sipws.service.console import OneProcess, reload, set_log
from sipws.service.serving import on_hangup, stop_on_signals, summary
from sipws.service.statistics import families
from sipws.service.systemd import Assigned
from sipws.transport import descriptors
from sipws.transport.registrations import Phone
from sipws.workers.trace_relay import relay_destination, remove_sockets
from sipws.workers.worker_config import Start, from_text
from sipws.workers.worker_link import LENGTH, Link
from sipws.workers.worker_results import families_as_json

logger = logging.getLogger("sipws.worker")

ORPHANED: Final = 1
"""The exit status of a worker whose parent ended first."""


def main() -> int:
    """Serve until the parent says stop; returns the exit status."""
    with socket.socket(fileno=int(sys.argv[1])) as link:
        # The parent sees the end of this worker by this socket, so that no child may keep it.
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
                print_error("sipws", str(exc))
            return WRONG_INPUT
    return DONE


def _start(link: socket.socket) -> Start:
    """Read the first message, which is pickled: JSON cannot hold a configuration."""
    length = int.from_bytes(link.recv(LENGTH, socket.MSG_WAITALL), "big")
    if not length:
        # The parent has ended meanwhile.
        sys.exit(ORPHANED)
    start: Start = pickle.loads(link.recv(length, socket.MSG_WAITALL))  # noqa: S301 - our parent's
    return start


class _Worker:
    """A worker's process.

    Args:
        start: the first message of the parent.
    """

    def __init__(self, start: Start) -> None:
        listeners = start.config.transport.listeners
        sockets = [[socket.socket(fileno=fd) for fd in fds] for fds in start.sockets]
        for each in (each for those in sockets for each in those):
            # A child process that a filter function starts must not keep them open.
            each.set_inheritable(False)
        self._start = start
        self._application = Application(
            ResolvedConfig.of(start.config, start.source),
            sockets=Assigned(dict(zip(listeners, sockets, strict=True))),
            counts_sip=start.counts_sip,
            set_log=partial(set_log, worker=start.number),
        )
        if start.is_service:
            self._application.log_connections()
        self._prepared: ResolvedConfig | None = None
        self._application.traces.way_to = partial(relay_destination, start.relays)
        self._methods = methods_of(self._application)

    async def serve(self, link_socket: socket.socket) -> None:
        """Serve until the parent says stop, or ends.

        Raises:
            TransportError: a listener cannot be opened.
            ConfigurationError: ``hep_spool`` cannot be used.
        """
        self._stop = stop_on_signals()
        program, start = OneProcess(self._application), self._start
        reader, writer = await asyncio.open_unix_connection(sock=link_socket)
        link = Link(reader, writer, on_notice=self._on_notice, answer=self._answer)
        reading = asyncio.get_running_loop().create_task(link.run())
        reading.add_done_callback(self._orphaned)

        def registered(phone: Phone, connection: int) -> None:
            link.notify("registered", [phone, connection])

        # A SIGHUP to all processes of a service reloads; without a handler it would end workers.
        on_hangup(program.reload)
        self._application.server.registrations.news = registered
        async with program:
            link.notify("ready")
            await self._stop.wait()
            if start.is_service:
                logger.info("%s", program.leaving, extra={"event": "stopping"})
        totals = program.totals
        if start.is_service:
            logger.info("stopped: %s", summary(totals), extra={"event": "stopped"})
        link.notify("stopped", totals)
        await link.flush()
        reading.cancel()

    def _orphaned(self, reading: asyncio.Task[None]) -> None:
        if reading.cancelled():
            return
        remove_sockets(self._start.relays)
        if self._stop.is_set():
            # The parent was killed during the shutdown: a second signal ends the program at once.
            os._exit(ORPHANED)
        logger.error("the parent process is gone: stopping")
        self._stop.set()

    def _on_notice(self, name: str, content: Any) -> None:
        if name == "stop":
            self._stop.set()
        elif name == "abandon":
            self._prepared = None
        elif name == "registered":
            (record, instance, registration), connection = content
            self._application.server.supersede((record, instance, registration), connection)
        elif name == "trace_stop":
            # A worker could not start this trace, so that all others end it.
            with suppress(TraceError):
                self._application.traces.stop(content)

    def _prepare(self, config: Config) -> str | None:
        """Check a configuration, which `apply` then uses; returns why it is refused."""
        self._prepared = None
        try:
            self._prepared = ResolvedConfig.of(config, self._start.source)
        except SipwsError as exc:
            return str(exc)
        except Exception as exc:
            # The module of a filter function is code of the operator.
            logger.exception("the new configuration cannot be checked")
            return f"{type(exc).__name__}: {exc}"
        return None

    def _answer(self, name: str, content: Any) -> Any:
        match name:
            case "mi":
                return mi.reply(mi.parse(content.encode()), self._methods).decode()
            case "metrics":
                return families_as_json(families(self._application))
            case "reload":
                reload(self._application)
            case "prepare":
                return self._prepare(from_text(content))
            case "apply" if self._prepared is not None:
                self._application.apply(self._prepared)
                self._prepared = None
            case "ping":
                return list(self._application.traces.started)
        return None


if __name__ == "__main__":
    sys.exit(main())
