"""The viewer ``hep view`` as a process beside the server, which sends it HEP over loopback.

It has an interpreter of its own: what it decodes and stores never holds up the SIP path.
"""

import asyncio
import json
import logging
import os
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from sipws.address import Address
from sipws.config.settings import Config
from sipws.control.unix_socket import ControlAddress

logger = logging.getLogger(__name__)

NAME: Final = "viewer"
"""The name of its hep_id."""

EXTRA: Final = "pip install 'sipws[view]'"
"""What installs it."""

_NEEDED: Final = ("starlette", "uvicorn", "httpx")

START: Final = 20.0
"""Seconds that it may take to start; a machine under load takes several."""

END: Final = 5.0
"""Seconds that it may take to end before it is killed."""

_SOCKET: Final = "control"


class Viewer:
    """The process. Use it with ``async with``.

    On entering, it is started and its addresses are known. If it does not start, ``url`` is empty,
    a warning is logged, and the server goes without.
    """

    def __init__(self) -> None:
        self.url = ""
        """Address of the page; empty if there is none."""
        self.address = ""
        """``IP:PORT`` that it receives HEP on over TCP; empty if there is none."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._is_ending = False

    @staticmethod
    def is_installed() -> bool:
        """Whether the packages are there that it needs."""
        return all(find_spec(name) is not None for name in _NEEDED)

    def controlling(self, config: Config) -> Config:
        """Return a configuration with a control interface, which the page uses.

        Without one in the configuration it is a socket in a folder of this user alone.

        Args:
            config: the configuration.
        """
        if config.control.address is not None:
            return config
        self._folder = tempfile.TemporaryDirectory(prefix="sipws-")
        where = f"unix:{Path(self._folder.name) / _SOCKET}"
        return config.changed("the viewer", control={"listen": where})

    def traced_by(self, config: Config, *, trace_on: bool = True, trace_sip: bool = True) -> Config:
        """Return a configuration that traces to it, and to nothing else.

        Args:
            config: the configuration.
            trace_on: whether tracing is on at the start.
            trace_sip: whether SIP messages are traced too.
        """
        return config.changed(
            "the viewer",
            hep={"hep_id": (self._hep_id,)},
            tracing={"trace_destination": NAME, "trace_on": trace_on, "trace_sip": trace_sip},
        )

    def traced_too(self, config: Config) -> Config:
        """Return a configuration that traces to it as well.

        Args:
            config: the configuration, with another destination.
        """
        if not self.address:
            return config
        return config.changed(
            "the viewer",
            hep={"hep_id": (*config.hep.hep_id, self._hep_id)},
            tracing={"also": ({"trace_destination": NAME, "trace_sip": config.tracing.trace_sip},)},
        )

    @property
    def _hep_id(self) -> str:
        return f"[{NAME}]{self.address};transport=tcp"

    async def start(self, config: Config) -> None:
        """Start it.

        Args:
            config: its control interface is the one that the page uses.
        """
        arguments = ["--child", "--tcp", "127.0.0.1:0"]
        environment = None
        if (url := _control_url(config.control.address)) is not None:
            arguments += ["--control", url]
            if (secret := config.control.secret) is not None:
                environment = {**os.environ, "SIPWS_CONTROL_TOKEN": secret}
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hep.cli", "view", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
            # Ctrl-C at a terminal goes to all processes of the group. It ends with the server.
            start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(START):
                said = json.loads(await _first_line(process))
            self.url, self.address = str(said["http"]), str(said["tcp"])
        except (TimeoutError, ValueError, KeyError, TypeError):
            logger.warning("the viewer did not start; sipws serves without it")
            await self._end()
            return
        self._watching = asyncio.create_task(self._watch(process))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        if not self._is_ending:
            self.url = ""
            logger.error("the viewer has ended (status %d); sipws goes on without it", status)

    async def _end(self) -> None:
        self._is_ending = True
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                # It ends when its standard input does.
                process.stdin.close()
            try:
                async with asyncio.timeout(END):
                    await process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._watching is not None:
            await self._watching
        if self._folder is not None:
            self._folder.cleanup()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end()


async def _first_line(process: asyncio.subprocess.Process) -> bytes:
    return b"" if process.stdout is None else await process.stdout.readline()


def _control_url(address: ControlAddress | None) -> str | None:
    """The URL of a control interface; None if it has none before it listens."""
    if not isinstance(address, Address):
        return None if address is None else str(address)
    if not address.port:
        return None
    # A socket on all addresses is reached by that of this machine.
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.ip, address.ip)
    return f"http://{Address(here, address.port)}"
