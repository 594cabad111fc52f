"""The serving commands as a person at a terminal sees them: from the first line to Ctrl-C."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import which
from typing import Any, Final, NamedTuple

from sipws import __version__
from sipws.address import Listener
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import DEFAULT_LISTENER, Config
from sipws.control.server import ControlServer
from sipws.errors import ConfigurationError, TransportError
from sipws.service import systemd
from sipws.service.app import Application, room_for_connections
from sipws.service.embedded import EmbeddedCollector
from sipws.service.event_log import log_connections
from sipws.service.statistics import ledger_over
from sipws.transport import descriptors
from sipws.transport.server import address_of

logger = logging.getLogger(__name__)

PHONE: Final = Path("examples/phone.html")
"""The page that comes with a clone."""


async def serve(resolved: ResolvedConfig) -> None:
    """``sipws run`` with a configuration: a service, which logs and prints nothing.

    Raises:
        TransportError: a listener cannot be opened.
    """
    stop = stop_on_signals()
    notifier = systemd.Notifier.of()
    application = Application(resolved, sockets=inherited(resolved))
    if resolved.config.log.connections:
        log_connections(application.bus, resolved.config.tracing.masking)
    async with application:
        _reload_on_hangup(application, notifier)
        tell_what_is_served(resolved, application.server.listeners, application.control)
        notifier.ready(status_of(application.server.listeners))
        await stop.wait()
        left = len(application.server.flows)
        notifier.stopping(f"closing {left} connections")
        logger.info("stopping, %d connections open", left, extra={"event": "stopping"})
    notifier.close()
    logger.info("stopped: %s", told(totals_of(application)), extra={"event": "stopped"})


def inherited(resolved: ResolvedConfig) -> systemd.Assigned:
    """The sockets that the service manager has opened, by whose they are.

    Raises:
        ConfigurationError: one of them belongs to nobody.
    """
    config = resolved.config
    found = systemd.inherited_sockets()
    return systemd.assign(found, config.transport.listeners, config.control.address)


def tell_what_is_served(
    resolved: ResolvedConfig, listeners: Sequence[Listener], control: ControlServer | None
) -> None:
    """Log where it listens, and what becomes of what comes in."""
    _warn(resolved.warnings)
    _tell_room(resolved)
    if resolved.filter.passed_over:
        logger.info("%s: passed over %s", resolved.config.tracing.script, _listed(resolved))
    for listener in listeners:
        logger.info(
            "listening on %s",
            listener,
            extra={"event": "listening", "listener": str(listener)},
        )
    if (upstream := resolved.config.upstream.destination) is not None:
        logger.info("relaying to %s", upstream.shown)
    if control is not None:
        logger.info("control is on %s", control.url)
    if resolved.destinations:
        state = "on" if resolved.config.tracing.trace_on else "off"
        logger.info("tracing is %s, to %s", state, ", ".join(map(str, resolved.destinations)))


def _tell_room(resolved: ResolvedConfig) -> None:
    """Log how many connections are taken, and warn where there are no descriptors for them."""
    transport, room = resolved.config.transport, room_for_connections(resolved)
    of_each = " a worker" if transport.workers > 1 else ""
    most = -(-(transport.max_connections or room * transport.workers) // transport.workers)
    files = descriptors.limit()
    logger.info("at most %d connections%s, %d file descriptors", most, of_each, files)
    if most > room:
        logger.warning(
            "max_connections is %d%s, and %d file descriptors are enough for %d: raise the limit"
            " (LimitNOFILE= in systemd), or lower max_connections",
            most,
            of_each,
            files,
            room,
        )


def status_of(listeners: Sequence[Listener]) -> str:
    """What ``systemctl status`` shows."""
    return "listening on " + ", ".join(map(str, listeners))


async def serve_embedded(config: Config, *, trace_on: bool = True, trace_sip: bool = True) -> None:
    """``sipws run`` without a configuration: traces go to a collector that prints them.

    Raises:
        TransportError: a listener cannot be opened.
    """
    stop = stop_on_signals()
    async with EmbeddedCollector() as collector:
        resolved = ResolvedConfig.of(
            collector.traced_by(config, trace_on=trace_on, trace_sip=trace_sip)
        )
        async with Application(resolved) as application:
            _reload_on_hangup(application)
            begin(resolved, application.server.listeners, collector)
            await stop.wait()
        await collector.show_all(application)
    say(f"\nStopped: {told(totals_of(application))}.")


async def serve_demo(config: Config, *, may_move: bool) -> None:
    """``sipws demo``: play the scenes, say what to try, and go on serving.

    Args:
        config: where to listen.
        may_move: whether a free port will do where that one is taken.

    Raises:
        TransportError: a listener cannot be opened.
    """
    # The scripted client is of use here alone, and its library takes a while to import.
    from sipws.service import demo

    stop = stop_on_signals()
    async with EmbeddedCollector() as collector:
        config = collector.traced_by(config)
        async with AsyncExitStack() as stack:
            try:
                application = await stack.enter_async_context(
                    Application(ResolvedConfig.of(config))
                )
            except TransportError:
                if not may_move:
                    raise
                say(f"{DEFAULT_LISTENER} is taken, so this demo listens on a free port.\n")
                config = config.changed("demo", transport={"listen": ("ws:127.0.0.1:0",)})
                application = await stack.enter_async_context(
                    Application(ResolvedConfig.of(config))
                )
            say(_banner(application.resolved, application.server.listeners, collector))
            await demo.play(application, collector, say)
            say(_what_to_try(application))
            await stop.wait()
        await collector.show_all(application)
    say(f"\nStopped: {told(totals_of(application))}.")


def begin(
    resolved: ResolvedConfig, listeners: Sequence[Listener], collector: EmbeddedCollector
) -> None:
    """Say what there is, and how it ends."""
    _warn(resolved.warnings)
    say(_banner(resolved, listeners, collector))
    say("Ctrl-C ends it.\n")


def _banner(
    resolved: ResolvedConfig, listeners: Sequence[Listener], collector: EmbeddedCollector
) -> str:
    upstream = resolved.config.upstream.destination
    does = "answers REGISTER and OPTIONS" if upstream is None else f"relays to {upstream.shown}"
    rows = [(str(listener), f"SIP over WebSocket; {does}") for listener in listeners]
    rows.append((f"udp:{collector.address}", "HEP collector; prints every packet that it gets"))
    width = max(len(where) for where, _ in rows)
    lines = (f"  {where:<{width}}  {what}" for where, what in rows)
    return f"sipws {__version__}: SIP over WebSocket, traced\n\n" + "\n".join(lines) + "\n"


def _what_to_try(application: Application) -> str:
    server = f"ws://{address_of(application.server.listeners[0])}/"
    lines = [
        f"a phone: any SIP over WebSocket client (JsSIP, SIP.js, baresip) with server {server}",
        f"a mistake: curl -i {server.replace('ws:', 'http:')}",
    ]
    if PHONE.exists():
        lines.insert(0, f"a browser: open {PHONE}, connect it to {server} and register")
    return "\n".join(
        [
            "\nServing until Ctrl-C. What you do now is traced here too:\n",
            *(f"  - {line}" for line in lines),
            "\nTo send it all to your Homer:\n",
            f"  {_program()} run --trace-destination 'HOST:9060;transport=udp'\n",
        ]
    )


def _program() -> str:
    """How this program was called, for examples that can be copied."""
    called = sys.argv[0]
    return called if Path(called).name == "sipws" and called != which("sipws") else "sipws"


class Totals(NamedTuple):
    """What was traced, and what became of it."""

    connections: int
    packets: int
    """That tracing handed over first of all: to the first destination."""
    sent: int
    bounced: int
    """Of those sent."""
    dropped: int


def totals_of(application: Application) -> Totals | None:
    """The totals of a program that has ended; None where it does not trace."""
    points = application.traces.configured
    if not points:
        return None
    tracer = points[0].tracer
    ledger = ledger_over(sender for point in points for sender in point.senders)
    became = (ledger[name] for name in ("sent", "bounced", "dropped"))
    return Totals(tracer.counters["traced"], tracer.offered, *became)


def told(totals: Totals | None) -> str:
    """Totals in a few words."""
    if totals is None:
        return "nothing was traced"
    noun = "connection" if totals.connections == 1 else "connections"
    sent = f"{totals.sent} HEP packets sent"
    if totals.bounced:
        sent += f" ({totals.bounced} bounced)"
    return f"{totals.connections} {noun} traced, {sent}, {totals.dropped} dropped"


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        logger.warning("%s", warning)


def _listed(resolved: ResolvedConfig) -> str:
    return ", ".join(resolved.filter.passed_over)


def reload(application: Application) -> None:
    """Read filter and certificates anew; what is wrong keeps its old state, and that is logged."""
    try:
        _warn(application.reload())
    except ConfigurationError as exc:
        logger.error("%s", exc)


def _reload_on_hangup(application: Application, notifier: systemd.Notifier | None = None) -> None:
    """Let SIGHUP read filter and certificates anew."""

    async def hangup() -> None:
        if notifier is not None:
            notifier.reloading()
        reload(application)
        if notifier is not None:
            notifier.ready(status_of(application.server.listeners))

    on_hangup(hangup)


def on_hangup(reload: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let SIGHUP read anew what can be read anew."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    def hangup() -> None:
        task = loop.create_task(reload())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, hangup)


def stop_on_signals() -> asyncio.Event:
    """An event that the first SIGINT or SIGTERM sets; a second one ends the program at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, first, number)
    return stop


def say(text: str) -> None:
    """Print for a person."""
    print(text, file=sys.stdout, flush=True)
