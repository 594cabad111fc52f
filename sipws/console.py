"""The serving commands as a person at a terminal sees them: from the first line to Ctrl-C."""

import asyncio
import logging
import signal
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import which
from typing import Final

from sipws import __version__, systemd
from sipws.app import Application
from sipws.config import DEFAULT_LISTENER, Config
from sipws.embedded import EmbeddedCollector
from sipws.errors import ConfigurationError, TransportError
from sipws.event_log import log_connections
from sipws.plan import Plan
from sipws.readings import ledger_over
from sipws.server import address_of

logger = logging.getLogger(__name__)

PHONE: Final = Path("examples/phone.html")
"""The page that comes with a clone."""


async def serve(plan: Plan) -> None:
    """``sipws run`` with a configuration: a service, which logs and prints nothing.

    Raises:
        TransportError: a listener cannot be opened.
    """
    stop = _stop_on_signals()
    notifier = systemd.Notifier.of()
    application = Application(plan, inherited=systemd.inherited_sockets())
    if plan.config.log.connections:
        log_connections(application.bus, plan.config.tracing.masking)
    async with application:
        _warn(plan.warnings)
        _reload_on_hangup(application, notifier)
        if plan.filter.passed_over:
            logger.info("%s: passed over %s", plan.config.tracing.script, _listed(plan))
        for listener in application.server.listeners:
            logger.info(
                "listening on %s",
                listener,
                extra={"event": "listening", "listener": str(listener)},
            )
        if application.relay is not None:
            logger.info("relaying to %s", application.relay.upstream.shown)
        if application.control is not None:
            logger.info("control is on http://%s/mi", application.control.address)
        if plan.destinations:
            state = "on" if plan.config.tracing.trace_on else "off"
            logger.info("tracing is %s, to %s", state, ", ".join(map(str, plan.destinations)))
        notifier.ready(_status(application))
        await stop.wait()
        left = len(application.server.flows)
        notifier.stopping(f"closing {left} connections")
        logger.info("stopping, %d connections open", left, extra={"event": "stopping"})
    notifier.close()
    logger.info("stopped: %s", _totals(application), extra={"event": "stopped"})


def _status(application: Application) -> str:
    return "listening on " + ", ".join(map(str, application.server.listeners))


async def serve_embedded(config: Config, *, trace_on: bool = True, trace_sip: bool = True) -> None:
    """``sipws run`` without a configuration: traces go to a collector that prints them.

    Raises:
        TransportError: a listener cannot be opened.
    """
    stop = _stop_on_signals()
    async with EmbeddedCollector() as collector:
        plan = Plan.of(collector.traced_by(config, trace_on=trace_on, trace_sip=trace_sip))
        async with Application(plan) as application:
            _warn(plan.warnings)
            _reload_on_hangup(application)
            _say(_banner(application, collector))
            _say("Ctrl-C ends it.\n")
            await stop.wait()
        await collector.show_all(application)
    _say(f"\nStopped: {_totals(application)}.")


async def serve_demo(config: Config, *, may_move: bool) -> None:
    """``sipws demo``: play the scenes, say what to try, and go on serving.

    Args:
        config: where to listen.
        may_move: whether a free port will do where that one is taken.

    Raises:
        TransportError: a listener cannot be opened.
    """
    # The scripted client is of use here alone, and its library takes a while to import.
    from sipws import demo

    stop = _stop_on_signals()
    async with EmbeddedCollector() as collector:
        config = collector.traced_by(config)
        async with AsyncExitStack() as stack:
            try:
                application = await stack.enter_async_context(Application(Plan.of(config)))
            except TransportError:
                if not may_move:
                    raise
                _say(f"{DEFAULT_LISTENER} is taken, so this demo listens on a free port.\n")
                config = config.changed("demo", transport={"listen": ("ws:127.0.0.1:0",)})
                application = await stack.enter_async_context(Application(Plan.of(config)))
            _say(_banner(application, collector))
            await demo.play(application, collector, _say)
            _say(_what_to_try(application))
            await stop.wait()
        await collector.show_all(application)
    _say(f"\nStopped: {_totals(application)}.")


def _banner(application: Application, collector: EmbeddedCollector) -> str:
    relay = application.relay
    does = "answers REGISTER and OPTIONS" if relay is None else f"relays to {relay.upstream.shown}"
    rows = [
        (str(listener), f"SIP over WebSocket; {does}") for listener in application.server.listeners
    ]
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


def _totals(application: Application) -> str:
    """What was traced, and what was lost, in a few words."""
    points = application.trace_points.configured
    if not points:
        return "nothing was traced"
    connections = points[0].tracer.counters["traced"]
    ledger = ledger_over(sender for point in points for sender in point.senders)
    noun = "connection" if connections == 1 else "connections"
    sent, bounced, dropped = ledger["sent"], ledger["bounced"], ledger["dropped"]
    of_them = f" ({bounced} bounced)" if bounced else ""
    return f"{connections} {noun} traced, {sent} HEP packets sent{of_them}, {dropped} dropped"


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        logger.warning("%s", warning)


def _listed(plan: Plan) -> str:
    return ", ".join(plan.filter.passed_over)


def _reload_on_hangup(application: Application, notifier: systemd.Notifier | None = None) -> None:
    """Let SIGHUP read filter and certificates anew; what is wrong keeps its old state."""

    def reload() -> None:
        if notifier is not None:
            notifier.reloading()
        try:
            _warn(application.reload())
        except ConfigurationError as exc:
            logger.error("%s", exc)
        if notifier is not None:
            notifier.ready(_status(application))

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


def _stop_on_signals() -> asyncio.Event:
    """An event that the first SIGINT or SIGTERM sets; a second one ends the program at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, first, number)
    return stop


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)
