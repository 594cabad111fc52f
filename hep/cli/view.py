"""``hep view``: receive, store and show calls in a browser."""

import argparse
import asyncio
import gc
import json
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hep.cli.usage import DONE, WrongInputError, auth_key, on_signals, server_tls
from hep.cli.usage import secret as _secret
from hep.errors import HepError

if TYPE_CHECKING:
    from hep.view.service import Viewer, ViewerSettings

DEFAULT_ADDRESS: Final = "127.0.0.1:9060"
"""Address that HEP is received on by default."""

DEFAULT_HTTP: Final = "127.0.0.1:9080"
"""Address of the page by default."""

TOKEN_VARIABLE: Final = "HEP_VIEW_TOKEN"  # noqa: S105 - a name
"""Environment variable with the token of the page."""

SWITCH_INTERVAL: Final = 0.0005
"""Seconds for which a thread may compute while another one waits for the interpreter. With Python's
5 ms, answers wait long for the thread that stores."""

COLLECT_AFTER: Final = (50_000, 20, 50)
"""Thresholds of the garbage collector. It looks through the state of thousands of calls each time,
which has no cycles; with Python's own thresholds that takes a fifth of the time of storing."""

CONTROL_TOKEN_VARIABLE: Final = "SIPWS_CONTROL_TOKEN"  # noqa: S105 - a name
"""Environment variable with the token of the control interface."""


def add_parser(commands: Any, version: str) -> None:
    """Add the subcommand ``view`` to the parser of ``hep``.

    Args:
        commands: the subcommands.
        version: of the program, for the page.
    """
    parser = commands.add_parser(
        "view",
        help="show calls and connections in a browser",
        description="Receive HEP, or read captures, and show calls and connections in a browser"
        " until Ctrl-C. Without an address and without a file: HEP over UDP and TCP on"
        f" {DEFAULT_ADDRESS}. All is kept in memory unless there is --store.",
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="pcap, pcapng or HEP; - for standard input"
    )
    parser.add_argument("--udp", metavar="[HOST:]PORT", help="receive HEP on UDP")
    parser.add_argument("--tcp", metavar="[HOST:]PORT", help="receive HEP on TCP")
    parser.add_argument("--tls", metavar="[HOST:]PORT", help="receive HEP on TLS")
    parser.add_argument("--tls-certificate", metavar="FILE", help="certificate to show, PEM")
    parser.add_argument(
        "--tls-key", metavar="FILE", help="its private key, unless that file holds it"
    )
    parser.add_argument(
        "--auth", metavar="KEY", help="accept only packets with this authenticate key"
    )
    parser.add_argument(
        "--http",
        metavar="[HOST:]PORT",
        help=f"address of the page (default: {DEFAULT_HTTP}, or a free port where that is taken)."
        " Any but loopback needs a token",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="NAME",
        help="host name under which browsers reach the page, such as of a proxy; may be repeated",
    )
    parser.add_argument(
        "--https", action="store_true", help="browsers reach the page over HTTPS, through a proxy"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"file with the token that browsers must know (or ${TOKEN_VARIABLE})",
    )
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="keep packets in this folder (default: memory)"
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="AGE|SIZE",
        help="how long to keep packets, such as 24h or 2GB; may be given twice (default: 256MB in"
        " memory, 10GB on disk)",
    )
    parser.add_argument(
        "--control",
        metavar="URL",
        help="control interface of a sipws, http://HOST:PORT or unix:PATH: the page can switch"
        " tracing and close connections there",
    )
    parser.add_argument(
        "--control-token-file",
        metavar="FILE",
        help=f"file with its token (or ${CONTROL_TOKEN_VARIABLE})",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    # For a program that starts it: an object with the addresses, and the end with its own end.
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run, version_of_program=version)


def run(args: argparse.Namespace) -> int:
    """Run ``hep view`` with parsed arguments.

    Returns:
        the exit status.

    Raises:
        WrongInputError: an argument is wrong, an address cannot be used, or a library is missing.
    """
    try:
        settings = settings_of(args)
        sys.setswitchinterval(SWITCH_INTERVAL)
        gc.set_threshold(*COLLECT_AFTER)
        return asyncio.run(_view(settings, args))
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("starlette", "uvicorn", "httpx", "anyio"):
            raise
        raise WrongInputError(
            f"hep view needs {exc.name}, which is not installed: pip install 'sipws[view]'"
        ) from exc
    except HepError as exc:
        raise WrongInputError(str(exc)) from exc


def settings_of(args: argparse.Namespace) -> "ViewerSettings":
    """The settings that the arguments make.

    Args:
        args: of ``hep view``.

    Raises:
        WrongInputError: an argument is wrong.
        HepError: a limit, a token or an address is wrong.
    """
    from hep.view.service import ViewerSettings
    from hep.view.store.keep import IN_MEMORY, ON_DISK, parse_keep
    from hep.view.web.settings import WebSettings

    host, port = _host_port("--http", DEFAULT_HTTP if args.http is None else args.http)
    web = WebSettings(
        host=host,
        port=port,
        names=tuple(args.name),
        token=_secret("--token-file", args.token_file, TOKEN_VARIABLE),
        secure=args.https,
    )
    udp, tcp, tls = (
        None if given is None else _shown(*_host_port(option, given))
        for option, given in (("--udp", args.udp), ("--tcp", args.tcp), ("--tls", args.tls))
    )
    if not any((udp, tcp, tls, args.files)):
        udp = tcp = DEFAULT_ADDRESS
    context = None
    if tls is not None:
        context = server_tls(f"--tls {args.tls}", args.tls_certificate, args.tls_key)
    return ViewerSettings(
        udp=udp,
        tcp=tcp,
        tls=tls,
        tls_context=context,
        auth_key=auth_key(args.auth),
        web=web,
        may_move=args.http is None,
        store=args.store,
        keep=parse_keep(args.keep, IN_MEMORY if args.store is None else ON_DISK),
        files=args.files,
        control=args.control,
        control_token=_secret(
            "--control-token-file", args.control_token_file, CONTROL_TOKEN_VARIABLE
        ),
        version=args.version_of_program,
    )


async def _view(settings: "ViewerSettings", args: argparse.Namespace) -> int:
    from hep.view.service import Viewer

    stop = asyncio.Event()
    on_signals(stop.set)
    async with Viewer(settings) as viewer:
        if args.child:
            _announce(viewer)
            _stop_with_parent(stop)
        else:
            print(_banner(viewer), flush=True)
        if args.open:
            await asyncio.to_thread(webbrowser.open, viewer.url)
        await stop.wait()
    if not args.child:
        # What waited was stored at the end.
        store = viewer.store
        lost = store.dropped + store.overflowed
        dropped = f", {lost} dropped" if lost else ""
        print(f"\n{store.stored} packets{dropped}", flush=True)
    return DONE


def _banner(viewer: "Viewer") -> str:
    settings = viewer.settings
    login = "; asks for the token" if settings.web.token is not None else ""
    rows = [(viewer.url, f"calls and connections in a browser{login}")]
    rows += [(f"{name}:{where}", "HEP collector") for name, where in viewer.listening]
    rows += [(each.name, "is read") for each in viewer.files]
    kept = settings.keep
    limits = []
    if kept.seconds is not None:
        limits.append(f"{kept.seconds / 3600:g} hours")
    if kept.bytes is not None:
        limits.append(f"{kept.bytes / (1 << 20):g} MB")
    rows.append((str(settings.store or "memory"), f"keeps the last {' and '.join(limits)}"))
    width = max(len(where) for where, _ in rows)
    lines = "\n".join(f"  {where:<{width}}  {what}" for where, what in rows)
    return f"hep view {settings.version}\n\n{lines}\n\nCtrl-C ends it."


def _announce(viewer: "Viewer") -> None:
    """Print where it is, as an object on one line."""
    where: dict[str, str] = {"http": viewer.url}
    where.update(viewer.listening)
    print(json.dumps(where), flush=True)


def _stop_with_parent(stop: asyncio.Event) -> None:
    """End with the program that has started it: its end closes the standard input."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, read)


def _host_port(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdecimal() and int(port) <= 0xFFFF):
        raise WrongInputError(
            f"{option} {text!r} is no address: write PORT, HOST:PORT, or [::1]:PORT for IPv6"
        )
    return "0.0.0.0" if host == "*" else host, int(port)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
