"""``sipws run`` and ``sipws demo`` with one process, around an `Application`."""

import logging
import sys
from pathlib import Path
from shutil import which
from typing import Final, Self

from sipws import log
from sipws.address import Listener
from sipws.config.changes import Source
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import DEFAULT_LISTENER, Config, Log
from sipws.control.server import ControlServer
from sipws.errors import ConfigurationError, TransportError
from sipws.service import serving
from sipws.service.app import Application
from sipws.service.embedded import EmbeddedCollector
from sipws.service.serving import Shown, Totals, say
from sipws.service.statistics import ledger_over
from sipws.service.systemd import Assigned, Notifier
from sipws.transport.server import reachable_address

logger = logging.getLogger(__name__)

PHONE: Final = Path("examples/phone.html")
"""The page of a phone that comes with a clone."""


class OneProcess:
    """An application as a program of one process; see `sipws.service.serving.Program`.

    Args:
        application: the application, which is not entered yet.
    """

    workers = 1

    def __init__(self, application: Application) -> None:
        self.application = application

    @property
    def listeners(self) -> list[Listener]:
        """The listeners; once entered, with their real ports."""
        return list(self.application.server.listeners)

    @property
    def control(self) -> ControlServer | None:
        """The control interface; None without one."""
        return self.application.control

    @property
    def leaving(self) -> str:
        """What is done at the end."""
        return f"closing {len(self.application.server.flows)} connections"

    @property
    def totals(self) -> Totals | None:
        """The numbers of the run; None if nothing is traced."""
        return totals_of(self.application)

    async def reload(self) -> None:
        """Read the configuration again."""
        reload(self.application)

    async def __aenter__(self) -> Self:
        await self.application.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.application.__aexit__(*exc)


class _Demo(OneProcess):
    """The program of ``sipws demo``, which moves to a free port if its own is taken.

    Args:
        resolved: a checked configuration.
        may_move: whether it may move.
    """

    def __init__(self, resolved: ResolvedConfig, *, may_move: bool) -> None:
        super().__init__(Application(resolved))
        self._may_move = may_move

    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except TransportError:
            if not self._may_move:
                raise
        say(f"{DEFAULT_LISTENER} is taken, so this demo listens on a free port.\n")
        config = self.application.resolved.config
        config = config.changed("demo", transport={"listen": ("ws:127.0.0.1:0",)})
        self.application = Application(ResolvedConfig.of(config))
        return await super().__aenter__()


async def serve(
    resolved: ResolvedConfig, sockets: Assigned | None = None, source: Source | None = None
) -> int:
    """Run as a service; see `sipws.service.serving.serve`.

    Args:
        resolved: a checked configuration.
        sockets: sockets that are bound already, by listener.
        source: reads the configuration again.
    """

    def make(notifier: Notifier) -> OneProcess:
        application = Application(resolved, sockets=sockets, source=source, set_log=set_log)
        application.log_connections()
        return OneProcess(application)

    return await serving.serve(resolved, make)


async def serve_embedded(config: Config, shown: Shown) -> int:
    """Run at a terminal; see `sipws.service.serving.serve_at_terminal`.

    Args:
        config: the configuration, without a trace destination.
        shown: how the traces are shown.

    Returns:
        the exit status.
    """

    def make(resolved: ResolvedConfig) -> OneProcess:
        application = Application(resolved)
        application.log_connections()
        return OneProcess(application)

    return await serving.serve_at_terminal(config, make, shown)


async def serve_demo(config: Config, *, may_move: bool, view: bool) -> int:
    """Run ``sipws demo``: play the scenes, say what to try, and serve.

    Args:
        config: the configuration, with one listener.
        may_move: whether to listen on a free port if that of the listener is taken.
        view: whether the viewer shows it in a browser too.

    Returns:
        the exit status.

    Raises:
        TransportError: the listener cannot be opened.
    """
    # Only the demo needs the scripted client, whose library takes long to import.
    from sipws.service import demo

    started: list[_Demo] = []

    def make(resolved: ResolvedConfig) -> _Demo:
        started.append(_Demo(resolved, may_move=may_move))
        return started[0]

    async def play(collector: EmbeddedCollector) -> None:
        application = started[0].application
        await demo.play(application, collector, say)
        say(_what_to_try(application))

    return await serving.serve_at_terminal(config, make, Shown(view=view), play)


def _what_to_try(application: Application) -> str:
    server = f"ws://{reachable_address(application.server.listeners[0])}/"
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
    """The path that this program was called by, for examples that can be copied."""
    called = sys.argv[0]
    return called if Path(called).name == "sipws" and called != which("sipws") else "sipws"


def totals_of(application: Application) -> Totals | None:
    """Read the totals of an application that has ended; None if nothing is traced."""
    application.traces.read()
    points = application.traces.configured
    if not points:
        return None
    tracer = points[0].tracer
    ledger = ledger_over(sender for point in points for sender in point.senders)
    sent, bounced, dropped = (ledger[name] for name in ("sent", "bounced", "dropped"))
    return Totals(tracer.counters["traced"], tracer.offered, sent, bounced, dropped)


def set_log(settings: Log, worker: int | None = None) -> None:
    """Set up the log of this process as it is configured.

    Args:
        settings: of the log.
        worker: the number of this process among several.
    """
    log.setup(settings.level, settings.format, worker)


def reload(application: Application) -> None:
    """Read the configuration again; an error keeps the old one, and is logged."""
    try:
        serving.log_warnings(application.reload().warnings)
    except ConfigurationError as exc:
        logger.error("%s", exc)
