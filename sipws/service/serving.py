"""The skeleton of a serving program: signals, systemd, first and last lines, exit status.

Two programs use it: `sipws.service.console` is one process, `sipws.workers.parent` has workers.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from hep.cli.usage import DONE
from sipws import __version__
from sipws.address import PROTOCOLS, Listener, Proto
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control.server import ControlServer
from sipws.service import systemd
from sipws.service.app import room_for_connections
from sipws.service.embedded import EmbeddedCollector
from sipws.service.viewer import EXTRA, Viewer
from sipws.transport import descriptors

logger = logging.getLogger(__name__)


class Totals(NamedTuple):
    """Numbers of a whole run, for the last line."""

    connections: int
    """Connections that were traced."""
    packets: int
    """HEP packets that tracing made for the first destination."""
    sent: int
    """HEP packets sent, to all destinations."""
    bounced: int
    """Those of `sent` that came back as unreachable."""
    dropped: int
    """HEP packets dropped, of all destinations."""


class Program(Protocol):
    """A program that serves while it is entered, and closes its connections when it is left."""

    @property
    def workers(self) -> int:
        """Processes that serve."""

    @property
    def listeners(self) -> Sequence[Listener]:
        """The listeners; once entered, with their real ports."""

    @property
    def control(self) -> ControlServer | None:
        """The control interface; None without one."""

    @property
    def leaving(self) -> str:
        """What is done at the end, such as ``closing 3 connections``."""

    @property
    def totals(self) -> Totals | None:
        """The numbers of the run, once left; None if nothing is traced."""

    async def reload(self) -> None:
        """Read the configuration again; an error keeps the old one, and is logged."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc: object) -> None: ...


async def serve(resolved: ResolvedConfig, make: Callable[[systemd.Notifier], Program]) -> int:
    """Run a program as a service, which writes a log and prints nothing.

    Args:
        resolved: a checked configuration.
        make: makes the program; its argument is the connection to systemd.

    Returns:
        the exit status.

    Raises:
        TransportError: a listener cannot be opened.
    """
    stop = stop_on_signals()
    notifier = systemd.Notifier.of()
    program = make(notifier)
    async with program:
        status = status_of(program)

        async def reload() -> None:
            notifier.reloading()
            await program.reload()
            notifier.ready(status)

        on_hangup(reload)
        log_start(resolved, program)
        notifier.ready(status)
        await stop.wait()
        leaving = program.leaving
        notifier.stopping(leaving)
        logger.info("%s", leaving, extra={"event": "stopping"})
    notifier.close()
    logger.info("stopped: %s", summary(program.totals), extra={"event": "stopped"})
    return DONE


class Shown(NamedTuple):
    """How a program at a terminal shows its traces."""

    trace_on: bool = True
    """Whether tracing is on at the start."""
    trace_sip: bool = True
    """Whether SIP messages are traced too."""
    lines: bool = True
    """Whether each packet is printed as a line."""
    view: bool = False
    """Whether the viewer shows them in a browser."""


async def serve_at_terminal(
    config: Config,
    make: Callable[[ResolvedConfig], Program],
    shown: Shown,
    play: Callable[[EmbeddedCollector], Coroutine[Any, Any, None]] | None = None,
) -> int:
    """Run a program that shows its own traces: prints them, or has a viewer for them.

    Args:
        config: the configuration, without a trace destination.
        make: makes the program from the checked configuration.
        shown: how the traces are shown.
        play: called between the first lines and the wait for a signal.

    Returns:
        the exit status.

    Raises:
        TransportError: a listener cannot be opened.
    """
    stop = stop_on_signals()
    async with EmbeddedCollector() as collector, Viewer() as viewer:
        if shown.view:
            config = viewer.controlling(config)
            await viewer.start(config)
        has_lines = shown.lines or not viewer.url
        switches = {"trace_on": shown.trace_on, "trace_sip": shown.trace_sip}
        if has_lines:
            config = viewer.traced_too(collector.traced_by(config, **switches))
        else:
            config = viewer.traced_by(config, **switches)
            # The terminal shows that somebody connects; the messages are in the browser.
            config = config.changed("the terminal", log={"connections": True})
        resolved = ResolvedConfig.of(config)
        program = make(resolved)
        async with program:
            on_hangup(program.reload)
            log_warnings(resolved.warnings)
            say(_banner(resolved, program, collector if has_lines else None, viewer))
            if play is not None:
                await play(collector)
            say(_how_to_see(shown, viewer))
            await stop.wait()
        totals = program.totals
        if has_lines:
            await collector.show(totals.packets if totals is not None else 0)
    say(f"\nStopped: {summary(totals)}.")
    return DONE


def inherited(resolved: ResolvedConfig) -> systemd.Assigned:
    """Take over the sockets that the service manager has opened, by listener.

    This comes before there is an event loop, whose own descriptors would take the place of sockets
    that are not there.

    Raises:
        ConfigurationError: one of them is not open, cannot be listened on, or has no listener.
    """
    config = resolved.config
    found = systemd.inherited_sockets()
    return systemd.assign(found, config.transport.listeners, config.control.address)


def log_start(resolved: ResolvedConfig, program: Program) -> None:
    """Log warnings, limits, addresses and destinations.

    Args:
        resolved: the configuration.
        program: the program, which serves.
    """
    log_warnings(resolved.warnings)
    _log_capacity(resolved)
    config = resolved.config
    if skipped := resolved.filter.passed_over:
        what = ", ".join(skipped)
        logger.info("the filter of %s does without %s", config.tracing.script, what)
    for listener in program.listeners:
        logger.info(
            "listening on %s",
            listener,
            extra={"event": "listening", "listener": str(listener)},
        )
    if (upstream := config.upstream.destination) is not None:
        logger.info("relaying to %s", upstream.shown)
    if (control := program.control) is not None:
        logger.info("control is on %s", control.url)
    if resolved.destinations:
        state = _state(config.tracing.protocols_on)
        logger.info("tracing is %s, to %s", state, ", ".join(map(str, resolved.destinations)))
    if (count := program.workers) > 1:
        logger.info("%d workers serve", count, extra={"event": "workers", "workers": count})


def _state(on: Collection[Proto]) -> str:
    if on == PROTOCOLS:
        return "on"
    return f"on for {', '.join(on)}" if on else "off"


def log_warnings(warnings: Iterable[str]) -> None:
    """Log warnings, one entry each."""
    for warning in warnings:
        logger.warning("%s", warning)


def _log_capacity(resolved: ResolvedConfig) -> None:
    """Log the maximum of connections, and warn if there are too few file descriptors for it."""
    transport, room = resolved.config.transport, room_for_connections(resolved)
    each = " per worker" if transport.workers > 1 else ""
    most = -(-(transport.max_connections or room * transport.workers) // transport.workers)
    files = descriptors.limit()
    logger.info("at most %d connections%s, %d file descriptors", most, each, files)
    if most > room:
        logger.warning(
            "max_connections is %d%s, and %d file descriptors are enough for %d: raise the limit"
            " (LimitNOFILE= in systemd), or lower max_connections",
            most,
            each,
            files,
            room,
        )


def status_of(program: Program) -> str:
    """The status that ``systemctl status`` shows."""
    addresses = ", ".join(map(str, program.listeners))
    workers = f", {program.workers} workers" if program.workers > 1 else ""
    return f"listening on {addresses}{workers}"


def summary(totals: Totals | None) -> str:
    """Totals in a few words."""
    if totals is None:
        return "nothing was traced"
    noun = "connection" if totals.connections == 1 else "connections"
    sent = f"{totals.sent} HEP packets sent"
    if totals.bounced:
        sent += f" ({totals.bounced} bounced)"
    return f"{totals.connections} {noun} traced, {sent}, {totals.dropped} dropped"


def _how_to_see(shown: Shown, viewer: Viewer) -> str:
    """The last line before the program serves."""
    if viewer.url:
        return f"See it in a browser: {viewer.url}    Ctrl-C ends it.\n"
    if shown.view or Viewer.is_installed():
        return "Ctrl-C ends it.\n"
    return f"To see it in a browser: {EXTRA}    Ctrl-C ends it.\n"


def _banner(
    resolved: ResolvedConfig,
    program: Program,
    collector: EmbeddedCollector | None,
    viewer: Viewer,
) -> str:
    upstream = resolved.config.upstream.destination
    does = "answers REGISTER and OPTIONS" if upstream is None else f"relays to {upstream.shown}"
    rows = [(str(listener), f"SIP over WebSocket; {does}") for listener in program.listeners]
    if collector is not None:
        rows.append((f"udp:{collector.address}", "HEP collector; prints every packet that it gets"))
    if viewer.url:
        rows.append((viewer.url, "the viewer: calls and connections in a browser"))
    width = max(len(where) for where, _ in rows)
    lines = (f"  {where:<{width}}  {what}" for where, what in rows)
    return f"sipws {__version__}: SIP over WebSocket, traced\n\n" + "\n".join(lines) + "\n"


def on_hangup(reload: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Call a function at each SIGHUP; needs a running event loop."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    def hangup() -> None:
        task = loop.create_task(reload())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, hangup)


def stop_on_signals() -> asyncio.Event:
    """Make an event that the first SIGINT or SIGTERM sets; a second one ends the program at once.

    SIGUSR1, which would end the program, is ignored: other servers write their log anew at it.
    Needs a running event loop.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, first, number)
    return stop


def say(text: str) -> None:
    """Print a text for the user, and flush it."""
    print(text, file=sys.stdout, flush=True)
