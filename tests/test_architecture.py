"""The directions between the rooms, kept by walking the imports.

hep knows nothing of sipws; tracing knows events, the bus and hep, never the transport's shells;
cores know neither shells nor the bus; adapters know tracing and no shells, and nobody imports
them; nothing imports the application.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("hep", "sipws")
    for path in (ROOT / package).rglob("*.py")
}

LONGEST_FILE = 600
"""Lines. A longer file is two files."""

CORES = ["address", "assembly", "errors", "events", "limits", "frames", "handshake", "session"]
CORES += ["admission", "patterns", "proxied", "request", "server_session", "sip"]
CORES += ["client_handshake", "client_session", "destination", "flow_token"]
CORES += ["farewell", "forwarding", "credentials", "masking", "sip_masking", "printable"]
CORES += ["upgrade", "wire", "intake", "engine", "instances", "liveness", "phase", "pieces"]
CORES += ["health", "http_head", "validity"]
SHELLS = ["sipws.flow", "sipws.gate", "sipws.server", "sipws.tls"]
SHELLS += [
    "sipws.closing",
    "sipws.descriptors",
    "sipws.client",
    "sipws.client_flow",
    "sipws.dialer",
    "sipws.dialling",
    "sipws.flow_control",
    "sipws.keepalive",
    "sipws.listening",
    "sipws.reconnect",
    "sipws.relay",
    "sipws.relay_legs",
]
APPLICATION = [
    "sipws.admission_config",
    "sipws.app",
    "sipws.cli",
    "sipws.commands",
    "sipws.config",
    "sipws.connection_commands",
    "sipws.console",
    "sipws.control",
    "sipws.control_socket",
    "sipws.ctl_cli",
    "sipws.ctl_client",
    "sipws.demo",
    "sipws.embedded",
    "sipws.event_log",
    "sipws.filter_cli",
    "sipws.lag_sampler",
    "sipws.log",
    "sipws.opensips_cfg",
    "sipws.pages",
    "sipws.parent",
    "sipws.plan",
    "sipws.process_commands",
    "sipws.readings",
    "sipws.responder",
    "sipws.shares",
    "sipws.supervisor",
    "sipws.systemd",
    "sipws.trace_commands",
    "sipws.trace_points",
    "sipws.trace_relay",
    "sipws.tracing_config",
    "sipws.upstream_config",
    "sipws.worker",
    "sipws.worker_link",
    "sipws.worker_process",
    "sipws.__main__",
]


def imports(module: str) -> set[str]:
    """The modules that a module names in its import statements, wherever they stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write the room's whole name"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(module: str, *rooms: str) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


def rooms(prefix: str) -> list[str]:
    return sorted(module for module in MODULES if within(module, prefix))


@pytest.mark.parametrize("module", rooms("hep"))
def test_hep_knows_nothing_of_sipws(module: str) -> None:
    assert not {name for name in imports(module) if within(name, "sipws")}


@pytest.mark.parametrize("module", [f"sipws.{name}" for name in CORES])
def test_cores_know_no_sockets_no_bus_and_no_shells(module: str) -> None:
    forbidden = ("asyncio", "socket", "sipws.bus", "sipws.tracing", "hep", *SHELLS, *APPLICATION)
    assert not {name for name in imports(module) if within(name, *forbidden)}


@pytest.mark.parametrize("module", [*SHELLS, "sipws.bus", "sipws.registry"])
def test_the_transport_knows_neither_tracing_nor_hep(module: str) -> None:
    forbidden = ("sipws.tracing", "hep", *APPLICATION)
    assert not {name for name in imports(module) if within(name, *forbidden)}


@pytest.mark.parametrize("module", rooms("sipws.tracing"))
def test_tracing_knows_events_and_hep_but_no_shells(module: str) -> None:
    forbidden = ("asyncio", "websockets", "sipws.session", "sipws.handshake", *SHELLS, *APPLICATION)
    assert not {name for name in imports(module) if within(name, *forbidden)}


@pytest.mark.parametrize("module", rooms("sipws.adapters"))
def test_adapters_know_events_and_tracing_but_no_shells(module: str) -> None:
    forbidden = ("sipws.session", "sipws.server_session", *SHELLS, *APPLICATION)
    assert not {name for name in imports(module) if within(name, *forbidden)}


FRAMEWORKS = {"aiohttp", "uvicorn", "starlette"}
"""What only whoever has it needs to have."""


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_framework_is_imported_by_its_adapter_alone(module: str) -> None:
    used = {name.partition(".")[0] for name in imports(module)} & FRAMEWORKS
    assert used <= {module.removeprefix("sipws.adapters.")}


@pytest.mark.parametrize("module", sorted(module for module in MODULES if module != "sipws"))
def test_nobody_but_adapters_imports_adapters(module: str) -> None:
    others = {name for name in imports(module) if within(name, "sipws.adapters")}
    assert within(module, "sipws.adapters") or not others


@pytest.mark.parametrize("module", rooms("sipws.tracing.filter"))
def test_the_filter_language_stands_alone(module: str) -> None:
    allowed = ("sipws.tracing.filter", "sipws.errors", "sipws.address")
    ours = {name for name in imports(module) if within(name, "sipws", "hep")}
    assert not {name for name in ours if not within(name, *allowed)}


@pytest.mark.parametrize("module", sorted(set(MODULES) - set(APPLICATION)))
def test_nobody_but_the_application_imports_the_application(module: str) -> None:
    assert not {name for name in imports(module) if within(name, *APPLICATION)}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_is_short_enough_to_read(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("module", sorted(MODULES))
def test_scapy_is_kept_to_the_rooms_that_need_it(module: str) -> None:
    rooms = ["hep.capture_file", "hep.scapy_layers"]
    assert module in rooms or not {name for name in imports(module) if within(name, "scapy")}


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("hep", {"scapy"}),
        ("hep.cli", {"scapy"}),
        ("hep.pcap", {"scapy"}),
        ("sipws", {"lark", "scapy", "pydantic", "hep"}),
        ("sipws.cli", {"lark", "scapy"}),
    ],
)
def test_what_is_slow_to_import_is_imported_when_it_is_used(module: str, slow: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not slow & set(loaded)


WAITING_METHODS = {"recv", "recv_into", "recvfrom", "recvmsg", "recvmsg_into", "sendall", "accept"}
"""Methods of sockets that wait for a peer. Sockets alone have most of these names; an ``accept``
with arguments is another's."""

WAITING_FUNCTIONS = {"create_connection", "urlopen", "getresponse"}
"""Functions that do."""

MAY_WAIT = {
    # Bounded by a timeout, and what it shows is that nobody needs to accept meanwhile.
    "test_gate.py": {"test_all_phones_may_come_at_once"},
}
"""Tests that wait on their event loop on purpose."""


class _Waiting(ast.NodeVisitor):
    """Finds calls on an event loop that wait for a peer, which may be on the same one.

    Such a test hangs when its peer, in another turn of the loop, was not quick enough.
    """

    def __init__(self, tree: ast.Module, allowed: set[str]) -> None:
        self.found: list[int] = []
        self._allowed = allowed
        self._functions: list[ast.AST] = []
        # What an asynchronous function calls by name waits there too.
        self._waiting = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            and any(isinstance(call, ast.Call) and _waits(call) for call in ast.walk(node))
        }
        self.visit(tree)

    def _visit_function(self, node: ast.AST) -> None:
        self._functions.append(node)
        self.generic_visit(node)
        self._functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef = visit_Lambda = _visit_function  # noqa: N815

    def visit_Await(self, node: ast.Await) -> None:
        # Of what is awaited only the arguments are looked at.
        if isinstance(node.value, ast.Call):
            for child in ast.iter_child_nodes(node.value):
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        around = self._functions[-1] if self._functions else None
        by_name = isinstance(node.func, ast.Name) and node.func.id in self._waiting
        if (
            isinstance(around, ast.AsyncFunctionDef)
            and around.name not in self._allowed
            and (by_name or _waits(node))
        ):
            self.found.append(node.lineno)
        self.generic_visit(node)


def _waits(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(attr="accept"):
            return not call.args and not call.keywords
        case ast.Attribute(attr="connect"):
            # To the address of a socket: clients and WebSockets are told a URL.
            return len(call.args) == 1 and isinstance(call.args[0], ast.Tuple)
        case ast.Attribute(attr=name):
            return name in WAITING_METHODS | WAITING_FUNCTIONS
        case ast.Name(id=name):
            return name in WAITING_FUNCTIONS
    return False


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "tests").rglob("*.py")) if "node_modules" not in path.parts],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_test_waits_for_a_socket_on_its_event_loop(path: Path) -> None:
    tree = ast.parse(path.read_text())
    found = _Waiting(tree, MAY_WAIT.get(path.name, set())).found
    assert not found, f"{path.name}: lines {found}: await loop.sock_recv(), or use to_thread()"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("async def f(s): s.recv(1)", True),
        ("async def f(s): s.accept()", True),
        ("async def f(s): s.sendall(b'')", True),
        ("async def f(s): s.connect(('127.0.0.1', 1))", True),
        ("async def f(): socket.create_connection(a)", True),
        ("async def f(): urlopen(a)", True),
        ("async def f(s): assert s.recv(1) == b''", True),
        ("async def f(s): await g(s.recv(1))", True),
        ("def g(s): return s.recv(1)\nasync def f(s): g(s)", True),
        ("async def f(s): await loop.sock_recv(s, 1)", False),
        ("async def f(s): await s.recv()", False),
        ("async def f(s): await to_thread(s.recv, 1)", False),
        ("async def f(s): await to_thread(lambda: s.recv(1))", False),
        ("def g(s): return s.recv(1)\nasync def f(s): await to_thread(g, s)", False),
        ("async def f(s):\n    def g(): s.recv(1)\n    await to_thread(g)", False),
        ("async def f(e): e.accept(request)", False),
        ("async def f(c): asyncio.create_task(c.connect('ws://a'))", False),
        ("def f(s): s.recv(1)", False),
    ],
)
def test_what_waits_on_an_event_loop_is_found(code: str, found: bool) -> None:
    assert bool(_Waiting(ast.parse(code), set()).found) is found
