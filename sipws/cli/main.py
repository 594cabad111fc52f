"""The command ``sipws``.

Exit status: 0 done, 1 the thing asked about failed, 2 the user's input was wrong.
"""

import argparse
import asyncio
import sys
import tomllib
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, get_args

import uvloop

from hep.cli.usage import DONE, CommandParser, print_error, run_command
from sipws import __version__, log
from sipws.cli import ctl as ctl_cli
from sipws.cli import filter as filter_cli
from sipws.cli import homer as homer_cli
from sipws.config.changes import Source
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import DEFAULT_LISTENER, Config
from sipws.errors import ConfigurationError, SipwsError
from sipws.printable import lines
from sipws.service import console, serving
from sipws.service.viewer import EXTRA, Viewer
from sipws.transport import descriptors
from sipws.workers import parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``sipws``.

    Args:
        argv: the arguments without the program's name; None for those of the process.

    Returns:
        the exit status.
    """
    return run_command(_parser(), argv, SipwsError)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="sipws",
        description="SIP over WebSocket (RFC 7118) with every connection traced to Homer.",
    )
    parser.add_argument("--version", action="version", version=f"sipws {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="serve, as configured",
        description="Serve, as configured. Without -c and without a trace destination, a person at"
        " a terminal sees the traces in a browser; otherwise they are printed.",
    )
    run.add_argument("-c", "--config", type=Path, metavar="FILE.toml", help="configuration file")
    run.add_argument(
        "--opensips-cfg",
        type=Path,
        metavar="FILE",
        help="opensips.cfg whose sockets for ws and wss, certificates, tracing and filter route are"
        " taken over",
    )
    _add_serving(run)
    run.set_defaults(run=_run)

    demo = commands.add_parser(
        "demo",
        help="listener, responder, collector and a scripted client in one process",
        description="Serve on loopback, let a scripted client show what is traced, and go on"
        " serving until Ctrl-C.",
    )
    demo.add_argument(
        "--listen",
        metavar="DEF",
        help=f"listener (default: {DEFAULT_LISTENER}, or a free port where that is taken)",
    )
    _add_view(demo, "on")
    demo.set_defaults(run=_demo)

    ctl_cli.add_parser(commands)

    config = commands.add_parser("config", help="check or show a configuration")
    actions = config.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="report errors and warnings of a configuration file")
    check.add_argument("config", type=Path, metavar="FILE", help="configuration file, TOML")
    check.set_defaults(run=_config_check)
    importer = actions.add_parser(
        "import",
        help="print the configuration that an opensips.cfg makes, as TOML",
        description="Print the settings that an opensips.cfg makes as TOML. What becomes of each"
        " of its lines about sockets, proto_ws, proto_wss, proto_hep, tracer and tls_mgm goes to"
        " standard error.",
    )
    importer.add_argument("cfg", type=Path, metavar="FILE", help="configuration file of OpenSIPS")
    importer.set_defaults(run=_config_import)
    show = actions.add_parser("show", help="print every setting and its value as JSON")
    show.add_argument(
        "-c", "--config", type=Path, metavar="FILE",
        help="configuration file, TOML (default: none; every setting has its default)",
    )  # fmt: skip
    show.set_defaults(run=_config_show)

    filter_cli.add_parser(commands)
    homer_cli.add_parser(commands)

    return parser


def _add_serving(parser: argparse.ArgumentParser) -> None:
    flag = argparse.BooleanOptionalAction
    parser.add_argument(
        "--listen",
        action="append",
        metavar="DEF",
        help="listener, PROTO:HOST[:PORT] [tag NAME] [as ADVERTISED_IP[:PORT]]; may be repeated"
        f" (default: {DEFAULT_LISTENER})",
    )
    parser.add_argument(
        "--trace-destination",
        metavar="HEP_ID",
        help="name of a configured hep_id, or HOST[:PORT][;transport=udp|tcp|tls]; the latter"
        " turns tracing on",
    )
    parser.add_argument("--trace-on", action=flag, help="trace from the start (default: off)")
    parser.add_argument("--script", type=Path, metavar="FILE", help="file with the filter route")
    parser.add_argument(
        "--trace-filter-route", metavar="NAME", help="route that decides what is traced"
    )
    parser.add_argument(
        "--trace-filter",
        metavar="MODULE:FUNCTION",
        help="Python function that decides what is traced, instead of a route",
    )
    parser.add_argument(
        "--upstream",
        metavar="URI",
        help="SIP server that everything is relayed to, a ws: or wss: URL or sip:HOST;transport=ws"
        " (default: none; the built-in responder answers)",
    )
    parser.add_argument(
        "--require-origin",
        action=flag,
        help="refuse requests without Origin, which native clients do not send (default: on)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that serve (default: 1)"
    )
    parser.add_argument(
        "--control",
        metavar="ADDRESS",
        help="HOST:PORT or unix:PATH of the control interface (default: none)",
    )
    parser.add_argument(
        "--log-format",
        choices=get_args(log.Format),
        help="how log entries are written (default: text)",
    )
    parser.add_argument(
        "--log-level", choices=get_args(log.Level), help="the least that is logged (default: info)"
    )
    parser.add_argument("--trace-sip", action=flag, help="trace SIP messages too (default: off)")
    _add_view(parser, "on at a terminal, unless there is a configuration file or a destination")


def _add_view(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--view",
        action=argparse.BooleanOptionalAction,
        help=f"show calls and connections in a browser (default: {default})",
    )


def _run(args: argparse.Namespace) -> int:
    flags = {"level": args.log_level, "format": args.log_format}
    # Reading a configuration logs too, before its own settings of the log are known.
    log.setup(**{name: chosen for name, chosen in flags.items() if chosen is not None})
    source = _source(args)
    config = source.read()
    log.setup(config.log.level, config.log.format)
    # One worker is this process; several have it as their parent.
    is_alone = config.transport.workers == 1
    if _is_embedded(args):
        # A service opens no port unasked; a person at a terminal sees the viewer.
        view = _view(args, default=sys.stdout.isatty())
        shown = serving.Shown(
            # All is shown by default.
            trace_on=args.trace_on is not False,
            trace_sip=args.trace_sip is not False,
            lines=not view,
            view=view,
        )
        return _loop((console if is_alone else parent).serve_embedded(config, shown))
    if args.view:
        raise ConfigurationError(
            "--view shows what has no trace destination of its own, and no configuration file:"
            " run 'hep view', and send the traces to the address that it prints"
        )
    resolved = ResolvedConfig.of(config, source.name)
    sockets = serving.inherited(resolved)
    return _loop((console if is_alone else parent).serve(resolved, sockets, source))


def _source(args: argparse.Namespace) -> Source:
    """The files and the options that the configuration comes from."""
    files = [str(file) for file in (args.config, args.opensips_cfg) if file is not None]
    name = " and ".join([*files, "command line"])

    def read() -> Config:
        config = Config() if args.config is None else Config.load(args.config)
        if args.opensips_cfg is not None:
            config = config.with_opensips_cfg(args.opensips_cfg)
        return overridden(config, args, name)

    return Source(name, read)


def _view(args: argparse.Namespace, *, default: bool) -> bool:
    """Whether the viewer is started.

    Raises:
        ConfigurationError: it was asked for, and is not installed.
    """
    if args.view and not Viewer.is_installed():
        raise ConfigurationError(f"--view needs what is not installed: {EXTRA}")
    return Viewer.is_installed() and (default if args.view is None else bool(args.view))


def _is_embedded(args: argparse.Namespace) -> bool:
    """Whether traces go to a collector in this process."""
    brought = args.config is not None or args.opensips_cfg is not None
    return not brought and args.trace_destination is None


def overridden(config: Config, args: argparse.Namespace, source: str) -> Config:
    """The configuration with the options of ``sipws run``, which are for ws and for wss.

    Args:
        config: the settings of the files.
        args: the options.
        source: where the settings come from, for messages.

    Raises:
        ConfigurationError: a value is wrong.
    """
    trace_on = args.trace_on
    if trace_on is None and args.trace_destination is not None:
        # A destination on the command line turns tracing on.
        trace_on = True
    tracing: dict[str, Any] = {
        "script": args.script,
        "trace_filter_route": args.trace_filter_route,
        "trace_filter": args.trace_filter,
    }
    is_filter_given = any(value is not None for value in tracing.values())
    if not _is_embedded(args):
        tracing |= {
            "trace_destination": args.trace_destination,
            "trace_on": trace_on,
            "trace_sip": args.trace_sip,
        }
    given = [name for name in ("trace_destination", "trace_on") if tracing.get(name) is not None]
    config = config.without_wss(
        transport=["require_origin"] if args.require_origin is not None else [],
        tracing=[*given, *(["trace_filter_route"] if is_filter_given else [])],
    )
    return config.changed(
        source,
        transport={
            "listen": args.listen,
            "require_origin": args.require_origin,
            "workers": args.workers,
        },
        tracing=tracing,
        upstream={"upstream_uri": args.upstream},
        control={"listen": args.control},
        log={"level": args.log_level, "format": args.log_format},
    )


def _demo(args: argparse.Namespace) -> int:
    log.setup("warning")
    # The demo accepts native clients too.
    transport = {"listen": args.listen, "require_origin": False}
    config = Config().changed("--listen", transport=transport)
    view = _view(args, default=True)
    return _loop(console.serve_demo(config, may_move=args.listen is None, view=view))


def _config_check(args: argparse.Namespace) -> int:
    resolved = ResolvedConfig.of(Config.load(args.config), str(args.config))
    for warning in resolved.warnings:
        print_error(str(args.config), f"warning: {warning}")
    print(f"{args.config}: ok")
    return DONE


def _config_import(args: argparse.Namespace) -> int:
    # The parser takes long to import, and is needed only here.
    from sipws.config.opensips.reader import read
    from sipws.config.opensips_toml import NO_SOCKET, as_toml

    cfg, source = read(args.cfg), str(args.cfg)
    text = as_toml(cfg, source)
    for line in cfg.lines:
        print(lines(str(line)), file=sys.stderr)
    if not cfg.sockets:
        print_error(source, f"warning: {NO_SOCKET}")
    try:
        resolved = ResolvedConfig.of(Config.of(tomllib.loads(text), source), source)
    except ConfigurationError as exc:
        print_error(source, f"warning: sipws config check will refuse this: {exc}")
    else:
        for warning in resolved.warnings:
            print_error(source, f"warning: {warning}")
    print(text, end="")
    return DONE


def _config_show(args: argparse.Namespace) -> int:
    config = Config() if args.config is None else Config.load(args.config)
    print(config.model_dump_json(indent=2))
    return DONE


def _loop(serve: Coroutine[Any, Any, int]) -> int:
    descriptors.raise_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve)
