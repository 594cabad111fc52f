"""What tests of every room share."""

import asyncio
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest
import uvloop
from hypothesis import settings

from sipws.bus import Bus
from sipws.events import MessageReceived


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run asynchronous tests on both event loops: they differ in how they tell what happens.

    Tests with processes that are not ours watch them from outside: there one loop is enough. The
    program itself runs on uvloop.
    """
    factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if any(f"/{each}/" in item.nodeid for each in ("e2e", "interop", "homer")):
        del factories["uvloop"]
    if item.path.stem in (
        "test_supervisor", "test_worker_traces", "test_worker_settings", "test_process",
        "test_viewer",
    ):  # fmt: skip
        del factories["asyncio"]
    return factories


SLOW = [
    # Programs that are not ours, and conditions that take their time.
    "chaos/", "e2e/", "homer/", "interop/",
    # Processes of ours.
    "sipws/workers/test_supervisor", "sipws/workers/test_worker_settings",
    "sipws/workers/test_worker_traces", "sipws/workers/test_workers", "sipws/service/test_start",
    "sipws/service/test_start_up", "sipws/service/test_systemd", "sipws/cli/test_main",
    "sipws/service/test_viewer", "hep/view/test_process",
    "adapters/test_examples", "hep/cli/test_replay", "hep/cli/test_listen", "hep/cli/test_main",
    "hep/cli/test_why", "hep/cli/test_top",
    # Many random cases, or large ones.
    "property/", "sipws/ws/test_inflated", "sipws/transport/test_idle",
    "tracing/filter/test_bounds",
    "tracing/filter/test_properties", "tracing/filter/evaluation/test_compiling",
    "tracing/filter/test_fuzz", "hep/captures/test_pcap", "hep/cli/test_doctor",
    # Time limits that have to pass.
    "sipws/transport/test_time_slices", "sipws/transport/test_pre_handshake",
    "sipws/transport/test_half_open", "sipws/transport/test_lifecycle",
    "sipws/transport/test_hostile",
    "sipws/transport/test_write_timeout", "sipws/transport/test_server",
    "sipws/control/test_hostile", "hep/view/web/test_control",
    "sipws/transport/test_tls_handshakes", "sipws/transport/test_client_failures",
    "sipws/relay/test_relay_failures", "sipws/control/test_server", "hep/sending/test_tls",
    "hep/sending/test_sender_faults", "hep/sending/test_fair_queue", "hep/sending/test_outbox",
]  # fmt: skip
"""Folders and modules of tests that `make test-fast` leaves out: 5 minutes of 6."""


def _is_slow(path: Path) -> bool:
    within = str(path.relative_to(Path(__file__).parent).with_suffix(""))
    return any(within == name or f"{within}/".startswith(name) for name in SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what `make test-fast` does not run."""
    if config.option.markexpr == "not slow" and _is_slow(collection_path):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    for item in items:
        if _is_slow(item.path):
            item.add_marker("slow")


class Finder:
    """Finds what tests drive that is not ours."""

    npm_packages = Path(__file__).parent / "e2e" / "node_modules"
    """The packages of tests/e2e/package.json."""

    def missing(self, what: str, remedy: str) -> NoReturn:
        """Skip a test whose client is not there; where they are required, fail it."""
        reason = f"{what} is missing: {remedy}"
        if os.environ.get("SIPWS_E2E") == "required":
            pytest.fail(reason)
        pytest.skip(reason)

    def not_allowed(self, what: str, said: str) -> NoReturn:
        """Skip a test that nobody but root may run, also where all are required.

        Args:
            what: it needs.
            said: what the command that failed said. Root is refused in many a container; for root
                any other reason is a failure, or a broken test would go unseen.
        """
        if os.geteuid() == 0 and not re.search("not permitted|denied", said, re.IGNORECASE):
            pytest.fail(f"{what} cannot be had: {said.strip()}")
        pytest.skip(f"{what} is for root alone: {said.strip()}")

    def program(self, *names: str, remedy: str) -> str:
        """The first of these programs that is installed."""
        # Servers are where a user's own path does not lead.
        path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
        found = [where for name in names if (where := shutil.which(name, path=path))]
        return found[0] if found else self.missing(names[0], remedy)

    def node_with(self, package: str) -> str:
        """Node, with one of those packages."""
        node = self.program("node", remedy="install Node 18 or later")
        if not (self.npm_packages / package).exists():
            self.missing(f"npm's {package}", "run 'make e2e' once")
        return node


@pytest.fixture(autouse=True)
def put_back_logging() -> Iterator[None]:
    """Leave logging as it was: what a program's handler writes to is closed after its test."""
    names = ("", "sipws", "hep", "sipws.engine", "sipws.tracing.tracer")
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    handlers = list(logging.getLogger().handlers)
    yield
    for logger, level in before:
        logger.setLevel(level)
    logging.getLogger().handlers = handlers


@pytest.fixture(scope="session")
def find() -> Finder:
    """Clients and collectors that are not ours."""
    return Finder()


Record = Callable[[Bus, str], None]


@pytest.fixture
def record() -> Record:
    """Keep what a client that is not ours sends: ``record(server.bus, "chromium-jssip")``.

    With ``SIPWS_RECORD`` the first message of each kind is written to that folder, as
    ``CLIENT-METHOD.sip`` or, for a response, ``CLIENT-METHOD-STATUS.sip`` (`make record`); without
    it nothing is kept.
    """
    folder = os.environ.get("SIPWS_RECORD")
    kept: set[str] = set()

    def begin(bus: Bus, client: str) -> None:
        def keep(event: MessageReceived) -> None:
            if (kind := _kind_of(event.data)) is None or (name := f"{client}-{kind}") in kept:
                return
            kept.add(name)
            Path(folder or "", f"{name}.sip").write_bytes(event.data)

        if folder:
            bus.message_received.subscribe(keep)

    return begin


def _kind_of(message: bytes) -> str | None:
    """What a file with such a message is called; None for a keep-alive."""
    method = re.search(rb"^CSeq:\s*\d+\s+(\w+)", message, re.IGNORECASE | re.MULTILINE)
    if method is None:
        return None
    status = re.match(rb"SIP/2\.0 (\d{3})", message)
    return method[1].decode().lower() + (f"-{status[1].decode()}" if status else "")


# `make fuzz` looks much further than a test run has time for.
settings.register_profile("fuzz", max_examples=20_000, deadline=None)
# `make test-fast` tries a few.
settings.register_profile("fast", max_examples=25, deadline=None)
# In CI the same examples are tried each time: what fails there was not there before.
settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
