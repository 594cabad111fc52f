"""Runs the viewer: receives HEP, reads captures, stores, and serves the page."""

import asyncio
import errno
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, Self

import uvicorn

from hep.codec.packet import Packet
from hep.errors import HepError
from hep.receiving.collector import BAD, UNAUTHENTICATED, Collector, Source
from hep.view.files import CaptureReading
from hep.view.intake import Intake
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.reader_process import read
from hep.view.store.keep import Keep
from hep.view.store.store import Store
from hep.view.web.app import make_app
from hep.view.web.backend import Facts
from hep.view.web.control import ControlClient
from hep.view.web.live import LiveFeed
from hep.view.web.models import FileStatus, Listening
from hep.view.web.settings import WebSettings

BACKLOG: Final = 128
"""Browsers that may wait to be accepted."""

FRESH: Final = 0.5
"""Seconds for which an answer waits until what has come is stored."""

GRACE: Final = 2
"""Seconds that answers have to end when the viewer stops."""

FOLLOWING: Final = 0.25
"""Seconds between two looks at what has changed."""

POLL: Final = 0.01
"""Seconds between two looks at whether the server has started."""

MOST_CHANGES: Final = 64
"""Batches of changes that wait to be published. A browser reads its list again in time."""

Transport = Literal["udp", "tcp", "tls"]


class ViewerError(HepError):
    """The viewer cannot start; the message names the address or the file and the remedy."""


@dataclass(frozen=True, slots=True)
class ViewerSettings:
    """What a viewer receives, keeps and serves."""

    udp: str | None = None
    """``HOST:PORT`` to receive HEP on over UDP; None does not."""
    tcp: str | None = None
    """As ``udp``, over TCP."""
    tls: str | None = None
    """As ``udp``, over TLS; needs ``tls_context``."""
    tls_context: ssl.SSLContext | None = None
    """Certificate of the TLS listener."""
    auth_key: bytes | None = None
    """Authenticate key that packets must have."""
    web: WebSettings = field(default_factory=WebSettings)
    """Where the page is, and who may see it."""
    may_move: bool = False
    """Whether the page moves to a free port if its own is taken."""
    store: Path | None = None
    """Folder of the store; None keeps all in memory."""
    keep: Keep = field(default_factory=Keep)
    """What is kept."""
    files: Sequence[str] = ()
    """Captures and files of HEP packets that are read."""
    control: str | None = None
    """Control interface of a sipws, ``http://HOST:PORT`` or ``unix:PATH``."""
    control_token: str | None = field(default=None, repr=False)
    """Its token."""
    version: str = ""
    """Version that the page shows."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers."""
        yield


class Viewer:
    """A running viewer; the backend of its HTTP interface.

    Use it with ``async with``.

    Args:
        settings: what it receives, keeps and serves.

    Raises:
        ViewerError: on entering, an address cannot be used or a file cannot be read.
        StoreError: on entering, the store cannot be opened.
        WebSettingsError: the URL of the control interface is none.
    """

    def __init__(self, settings: ViewerSettings) -> None:
        self.settings = settings
        self.live = LiveFeed()
        """Where changes are published."""
        self.control: ControlClient | None = None
        """The sipws that is controlled; None without one."""
        self.files: list[CaptureReading] = []
        """The captures that are read."""
        self.listening: list[tuple[Transport, str]] = []
        """Transports and addresses that HEP is received on, once entered."""
        self.url = ""
        """Address of the page, once entered."""
        self._received: Counter[str] = Counter()
        self._started = time.time_ns() // 1000
        self._stack = AsyncExitStack()
        self._is_stopped = threading.Event()
        self._changes: deque[tuple[list[CallSummary], list[ConnectionSummary]]] = deque(
            maxlen=MOST_CHANGES
        )
        self._collector: Collector | None = None
        self._store: Store
        self._intake: Intake

    @property
    def store(self) -> Store:
        """What has been received."""
        return self._store

    def status(self) -> Facts:
        """What the viewer knows of itself."""
        counters: Counter[str] = self._collector.counters if self._collector else Counter()
        return Facts(
            version=self.settings.version,
            started=self._started,
            rate=self._intake.rate,
            listening=[
                Listening(transport=name, address=where, received=self._received[name])
                for name, where in self.listening
            ],
            files=[
                FileStatus(name=each.name, packets=each.packets, done=each.done,
                           problem=each.problem)
                for each in self.files
            ],
            bad=counters[BAD] + counters[UNAUTHENTICATED],
            dropped={"queue full": self._store.overflowed, "not written": self._store.dropped},
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        self.files = [_opened(name) for name in settings.files]
        if settings.control is not None:
            self.control = ControlClient(settings.control, settings.control_token)
            stack.push_async_callback(self.control.aclose)
        store = self._store = await asyncio.to_thread(Store, settings.store, settings.keep)
        stack.callback(store.close)
        intake = self._intake = Intake(store)
        stack.push_async_callback(asyncio.to_thread, intake.close)
        store.before_reading = lambda: intake.flush(FRESH)
        store.on_change = lambda calls, connections: self._changes.append((calls, connections))
        await self._listen(stack)
        await self._serve(stack)
        following = asyncio.create_task(self._follow())
        stack.callback(following.cancel)
        stack.callback(self._is_stopped.set)
        for file in self.files:
            threading.Thread(
                target=intake.store_all, args=(read(file, self._is_stopped),), daemon=True
            ).start()

    async def _listen(self, stack: AsyncExitStack) -> None:
        """Open the addresses that HEP comes to."""
        settings = self.settings
        where: dict[Transport, str | None] = {
            "udp": settings.udp, "tcp": settings.tcp, "tls": settings.tls,
        }  # fmt: skip
        if not any(where.values()):
            return
        self._collector = collector = Collector(
            self._receive,
            udp=settings.udp,
            tcp=settings.tcp,
            tls=settings.tls,
            tls_context=settings.tls_context,
            auth_key=settings.auth_key,
        )
        try:
            await collector.start()
        except (OSError, ValueError) as exc:
            tried = " and ".join(f"{name} {at}" for name, at in where.items() if at)
            why = exc.strerror or exc if isinstance(exc, OSError) else exc
            raise ViewerError(f"cannot receive HEP on {tried}: {why}") from exc
        stack.push_async_callback(collector.aclose)
        for name, at in where.items():
            if at is not None:
                ip, port = getattr(collector, f"{name}_address")
                self.listening.append((name, _shown(ip, port)))

    async def _serve(self, stack: AsyncExitStack) -> None:
        """Serve the page."""
        settings = self.settings
        bound = _bound(settings.web.host, settings.web.port, may_move=settings.may_move)
        port = bound.getsockname()[1]
        web = replace(settings.web, port=port)
        self.url = f"http://{_shown(web.host, port)}/"
        server = _Server(
            uvicorn.Config(
                make_app(self, web), log_level="error", access_log=False, server_header=False,
                timeout_graceful_shutdown=GRACE, backlog=BACKLOG, ws="none",
            )
        )  # fmt: skip
        serving = asyncio.create_task(server.serve([bound]))

        async def stop() -> None:
            # Streams of changes would keep the server waiting.
            self.live.close()
            server.should_exit = True
            await serving

        stack.push_async_callback(stop)
        while not server.started:
            if serving.done():
                # Its own error comes out here.
                await serving
                raise ViewerError("the page is not served: the server ended at its start")
            await asyncio.sleep(POLL)

    def _receive(self, packet: Packet, source: Source) -> None:
        self._received[source.transport] += 1
        self._intake.receive(packet)

    async def _follow(self) -> None:
        """Publish what has changed."""
        while True:
            await asyncio.sleep(FOLLOWING)
            while self._changes:
                self.live.publish(*self._changes.popleft())


def _opened(name: str) -> CaptureReading:
    try:
        return CaptureReading(name)
    except HepError as exc:
        raise ViewerError(str(exc)) from exc


def _bound(host: str, port: int, *, may_move: bool) -> socket.socket:
    """Open the socket of the page.

    Raises:
        ViewerError: the address cannot be used.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or not may_move:
                bound.close()
                raise
            bound.bind((address[0], 0, *address[2:]))
    except OSError as exc:
        why = exc.strerror or exc
        raise ViewerError(
            f"the page cannot be served on {_shown(host, port)}: {why}; choose another address with"
            " --http HOST:PORT"
        ) from exc
    bound.listen(BACKLOG)
    bound.setblocking(False)
    return bound


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
