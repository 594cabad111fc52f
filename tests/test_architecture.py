"""The layout as one table: what each package may import. Arrows run downwards only.

hep knows nothing of sipws; tracing knows events, the bus and hep, never the transport; the
transport knows the bus and never tracing; the service puts them together.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("hep", "sipws")
    for path in (ROOT / package).rglob("*.py")
}

LONGEST_FILE = 600
"""Lines. A longer file is two files."""

ROOTS: Final = "address errors events limits liveness printable request sip sip_counts sip_values"
"""Modules of `sipws` that are values and pure functions; every package may import them."""

LAYERS: Final[dict[str, str]] = {
    # Package or root module: the packages and modules of its own tree that it may import.
    "hep.errors": "",
    "hep.sip": "",
    "hep.hep_id": "errors",
    "hep.codec": "errors sip",
    "hep.captures": "errors sip hep_id codec",
    "hep.sending": "errors hep_id codec",
    "hep.receiving": "errors hep_id codec",
    "hep.homer": "codec",
    "hep.view.model": "errors sip codec",
    "hep.view.export": "errors sip codec captures view.model",
    "hep.view.store": "errors codec view.model",
    "hep.view.parts": "errors sip codec view.model view.store",
    "hep.view.web": "errors sip codec view.model view.export view.store view.parts",
    "hep.view": "errors sip hep_id codec captures receiving view.model view.export view.store"
    " view.parts view.web",
    "hep.cli": "errors sip hep_id codec captures sending receiving homer view view.model"
    " view.export view.store view.parts view.web",
    "hep": "errors hep_id codec sending receiving",
    "sipws.errors": "",
    "sipws.own_hep": "",
    "sipws.liveness": "",
    "sipws.printable": "",
    "sipws.flow_token": "",
    "sipws.sip_counts": "",
    "sipws.request": "",
    "sipws.limits": "liveness",
    "sipws.address": "errors",
    "sipws.events": "address errors request",
    "sipws.sip_values": "",
    "sipws.sip": "address sip_values",
    "sipws.log": "errors printable",
    "sipws.bus": "events",
    "sipws.deferred_bus": "bus",
    "sipws.registry": "events flow_token",
    "sipws.masking": ROOTS,
    "sipws.ws": f"{ROOTS} masking",
    "sipws.admission": f"{ROOTS} ws",
    "sipws.metrics": f"{ROOTS} bus",
    "sipws.transport": f"{ROOTS} bus registry flow_token ws admission",
    "sipws.relay": f"{ROOTS} bus masking ws admission transport",
    "sipws.control": f"{ROOTS} metrics transport",
    "sipws.tracing.filter.bounds": "",
    "sipws.tracing.filter.syntax": "errors tracing.filter.bounds",
    "sipws.tracing.filter.evaluation": "address errors tracing.filter.bounds tracing.filter.syntax",
    "sipws.tracing.filter": "address errors tracing.filter.bounds tracing.filter.syntax"
    " tracing.filter.evaluation",
    "sipws.tracing": f"{ROOTS} bus deferred_bus registry masking tracing.filter",
    "sipws.adapters": f"{ROOTS} ws tracing",
    "sipws.config.opensips": f"{ROOTS} masking transport tracing.filter tracing.filter.syntax",
    "sipws.config": f"{ROOTS} log masking ws admission transport control tracing tracing.filter"
    " config.opensips",
    "sipws": f"{ROOTS} own_hep bus ws admission transport relay",
    "sipws.service": f"{ROOTS} bus deferred_bus log masking metrics ws admission transport relay"
    " control config tracing tracing.filter",
    "sipws.workers": f"{ROOTS} log metrics transport control config tracing service",
    "sipws.testing": f"{ROOTS} bus registry ws transport",
    "sipws.homer": "errors",
    "sipws.cli": f"{ROOTS} log transport control config config.opensips tracing tracing.filter"
    " service workers homer",
}
"""Each row stands below those that import it."""

ENTRIES: Final = {
    "hep.pcap": "hep.captures",
    "hep.pcap_writer": "hep.captures",
    "hep.scapy_layers": "hep.captures",
    "sipws.tls": "sipws.transport",
    "sipws.responder": "sipws.service",
    "sipws.__main__": "sipws.cli",
}
"""Public import paths, and what each stands for. Nothing here imports them."""

HEP_USERS: Final = {
    "sipws.tracing": "codec sending captures homer hep_id",
    "sipws.config": "sending hep_id",
    "sipws.config.opensips": "hep_id",
    "sipws.service": "sending cli",
    "sipws.workers": "codec cli",
    "sipws.cli": "cli",
    "sipws.testing": "",
}
"""Packages of `sipws` that know `hep`, and what of it besides its public names."""


@functools.cache
def imports(module: str) -> frozenset[str]:
    """The modules that a module names in its import statements, wherever they stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write the module's whole name"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return frozenset(found)


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def layer(module: str) -> str:
    """The row of the table that a module belongs to."""
    while module not in LAYERS:
        module, dot, _ = module.rpartition(".")
        assert dot
    return module


def allowed(row: str) -> set[str]:
    tree = row.partition(".")[0]
    rows = {row, *(f"{tree}.{name}" for name in LAYERS[row].split())}
    if tree == "sipws":
        # The one reader of SIP.
        rows.add("hep.sip")
    if (users := HEP_USERS.get(row)) is not None:
        rows |= {"hep", *(f"hep.{name}" for name in users.split())}
    # The version is in the root of the package.
    return rows | {"sipws"} if row in ("sipws.service", "sipws.cli") else rows


OURS = sorted(set(MODULES) - set(ENTRIES))


def test_a_module_imports_what_its_package_may_import() -> None:
    wrong = {}
    for module in OURS:
        used = {name for name in imports(module) if within(name, "hep", "sipws")}
        assert not used & set(ENTRIES), f"{module}: import the module itself"
        if beyond := {layer(name) for name in used} - allowed(layer(module)):
            wrong[module] = beyond
    assert wrong == {}


@pytest.mark.parametrize(("entry", "package"), ENTRIES.items())
def test_a_public_path_is_an_entry_to_its_package(entry: str, package: str) -> None:
    assert all(within(name, package, "sys") for name in imports(entry))


def test_the_table_runs_downwards() -> None:
    rows = list(LAYERS)
    for row in rows:
        below = rows[: rows.index(row)]
        others = {name for name in allowed(row) - {row, "sipws"} if not within(name, "hep")}
        if row.startswith("hep"):
            others = allowed(row) - {row}
        assert others <= set(below), row


def test_every_package_is_in_the_table() -> None:
    folders = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert folders - set(LAYERS) == set()
    assert set(LAYERS) - set(MODULES) == set()


def test_every_package_says_what_it_is_for() -> None:
    for name in LAYERS:
        text = ast.get_docstring(ast.parse(MODULES[name].read_text()))
        assert text, name


def circles() -> Iterator[set[str]]:
    """Modules that import each other, over whatever way (Tarjan's components)."""
    graph = {module: imports(module) & set(MODULES) - {module} for module in MODULES}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> Iterator[set[str]]:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in graph[module]:
            if other not in index:
                yield from visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            circle = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(circle) > 1:
                yield circle

    for module in MODULES:
        if module not in index:
            yield from visit(module)


def test_no_modules_import_each_other() -> None:
    assert list(circles()) == []


WAITING: Final = ("asyncio", "socket", "ssl", "selectors")

PURE: Final = [
    "hep.sip",
    "hep.codec",
    "hep.homer",
    "sipws.ws",
    "sipws.masking",
    "sipws.admission",
    "sipws.tracing.filter",
]
PURE += [f"sipws.homer.{name}" for name in ["files", "lookups", "dashboards", "plan", "difference"]]
PURE += [f"sipws.{name}" for name in ROOTS.split()]


def importers(users: Iterable[str], *names: str) -> dict[str, set[str]]:
    """Which of these modules import one of those names, and which."""
    found = {user: {name for name in imports(user) if within(name, *names)} for user in users}
    return {user: used for user, used in found.items() if used}


def test_cores_know_no_sockets_and_no_event_loop() -> None:
    pure = [module for module in OURS if within(module, *PURE)]
    # hep.codec turns addresses into bytes with functions of the module socket.
    codec = [module for module in pure if within(module, "hep.codec")]
    assert importers(set(pure) - set(codec), *WAITING) == {}
    assert importers(codec, "asyncio", "ssl", "selectors") == {}


TRACING_SHELLS: Final = ("sipws.tracing.trace", "sipws.tracing.pipeline")
"""They open and close senders, and look for losses once a second."""


def test_tracing_never_waits() -> None:
    tracing = {module for module in OURS if within(module, "sipws.tracing")}
    assert importers(tracing - set(TRACING_SHELLS), "asyncio", "websockets") == {}


FRAMEWORKS = {"aiohttp", "uvicorn", "starlette"}
"""What only those need who have it."""


VIEWER = ("hep.view.web", "hep.view.service")
"""The viewer's service is a Starlette application, run by uvicorn (extra ``view``)."""


def test_a_framework_is_imported_by_its_adapter_alone() -> None:
    used = importers([name for name in OURS if not within(name, *VIEWER)], *FRAMEWORKS)
    assert set(used) <= {f"sipws.adapters.{name}" for name in FRAMEWORKS}


MOST_LEVELS = 2
"""Levels of inheritance among our own classes."""


def test_no_class_inherits_over_more_than_two_levels() -> None:
    bases: dict[str, set[str]] = {}
    for module in sorted(set(MODULES) - {"hep.captures.scapy_layers"}):
        for node in ast.walk(ast.parse(MODULES[module].read_text())):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {
                    name.id
                    for base in node.bases
                    for name in ast.walk(base)
                    if isinstance(name, ast.Name)
                }

    def levels(name: str) -> int:
        return 1 + max(map(levels, bases[name] & set(bases) - {name}), default=-1)

    deep = {name: levels(name) for name in bases if levels(name) > MOST_LEVELS}
    assert deep == {}


def test_files_are_short_enough_to_read() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_scapy_is_kept_to_the_modules_that_need_it() -> None:
    users = {"hep.captures.capture_file", "hep.captures.scapy_layers"}
    assert set(importers(MODULES, "scapy")) <= users


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("hep", {"scapy"}),
        ("hep.cli.main", {"scapy", "psycopg"}),
        ("hep.pcap", {"scapy"}),
        ("sipws", {"lark", "scapy", "pydantic", "hep.codec", "hep.sending", "hep.receiving"}),
        ("sipws.cli.main", {"lark", "scapy"}),
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
    "test_pre_handshake.py": {"test_all_phones_may_come_at_once"},
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


@pytest.mark.slow
def test_no_test_waits_for_a_socket_on_its_event_loop() -> None:
    found = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if "node_modules" not in path.parts:
            tree = ast.parse(path.read_text())
            if lines := _Waiting(tree, MAY_WAIT.get(path.name, set())).found:
                found[path.name] = lines
    assert found == {}, "await loop.sock_recv(), or use to_thread()"


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
