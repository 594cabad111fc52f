"""A HEP collector inside the program, which prints each packet."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

import hep
from hep.cli import display
from sipws.address import Address
from sipws.config.settings import Config
from sipws.service.app import Application

NAME: Final = "embedded"
"""The name of its hep_id."""


class EmbeddedCollector:
    """Receives HEP over UDP on a free loopback port and shows each packet as a line.

    Args:
        show: called with each line; None prints it.
        colour: whether lines are coloured; None: if standard output is a terminal.
    """

    def __init__(
        self, show: Callable[[str], object] | None = None, *, colour: bool | None = None
    ) -> None:
        self.received = 0
        """Packets received so far."""
        self._show = show or (lambda line: print(line, flush=True))
        self._colour = sys.stdout.isatty() if colour is None else colour
        self._arrived = asyncio.Event()
        self._collector = hep.Collector(self._receive, udp="127.0.0.1:0")

    async def __aenter__(self) -> Self:
        await self._collector.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._collector.__aexit__(*exc)

    @property
    def address(self) -> Address:
        """The address that it listens on."""
        ip, port = self._collector.udp_address[:2]
        return Address(ip, port)

    def traced_by(self, config: Config, *, trace_on: bool = True, trace_sip: bool = True) -> Config:
        """Return a configuration that traces to this collector.

        Args:
            config: the configuration.
            trace_on: whether tracing is on at the start.
            trace_sip: whether SIP messages are traced too.
        """
        return config.changed(
            "the embedded collector",
            hep={"hep_id": (f"[{NAME}]{self.address};transport=udp",)},
            tracing={"trace_destination": NAME, "trace_on": trace_on, "trace_sip": trace_sip},
        )

    async def show_all(self, application: Application, timeout: float = 1.0) -> None:
        """Wait until all packets of an application have been printed.

        Args:
            application: its traces are flushed first.
            timeout: seconds to wait at most.
        """
        application.traces.read()
        if application.tracer is not None:
            await self.show(application.tracer.offered, timeout)

    async def show(self, packets: int, timeout: float = 1.0) -> None:
        """Wait until a number of packets has been printed.

        Args:
            packets: packets since the start.
            timeout: seconds to wait at most.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.received < packets:
                    self._arrived.clear()
                    await self._arrived.wait()

    def _receive(self, packet: hep.Packet, source: object) -> None:
        self.received += 1
        self._arrived.set()
        try:
            self._show(display.line(packet, colour=self._colour))
        except BrokenPipeError:
            # The reader of the output has closed it; the server goes on.
            self._show = len
