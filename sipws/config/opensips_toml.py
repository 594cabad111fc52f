"""The settings of an ``opensips.cfg`` as TOML (``sipws config import``)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sipws.config.opensips.reader import OpensipsCfg
from sipws.config.opensips_table import as_table, without_repetitions
from sipws.config.settings import Config

_WIDTH: Final = 100
"""Characters up to which a list stays on one line."""

NO_CERTIFICATE: Final = (
    "no certificate for it, and OpenSIPS refuses each TLS handshake then; set tls_certificate and"
    " add it to transport.listen"
)
NO_SOCKET: Final = "no socket for ws or wss: set transport.listen"


def as_toml(cfg: OpensipsCfg, source: str) -> str:
    """Write the settings of a file as TOML, which `Config.load` reads.

    A ``wss`` socket without a certificate becomes a comment, and its line is changed accordingly.

    Args:
        cfg: the contents of the file.
        source: the file, for the first line and for messages.

    Raises:
        ConfigurationError: the settings do not go together.
    """
    table = as_table(cfg, Config().model_dump())
    transport = table["transport"]
    comments = []
    if "tls_certificate" not in transport and "tls" not in transport:
        dropped = [socket for socket in cfg.sockets if socket.proto == "wss"]
        for socket in dropped:
            if socket.line.outcome != "not taken":
                socket.line.drop(NO_CERTIFICATE)
            comments.append(f"# {json.dumps(socket.definition)} needs tls_certificate")
        kept = tuple(x.definition for x in cfg.sockets if x.proto != "wss")
        if dropped:
            transport["listen"] = kept
        if not kept:
            transport.pop("listen", None)
    if not transport.get("listen"):
        comments.append(f"# {NO_SOCKET}")
    if not cfg.uses_wss:
        transport.pop("wss", None)
        table["tracing"].pop("wss", None)
    without_repetitions(table, Config.of(table, source).model_dump())
    lines = [f"# From {json.dumps(source)[1:-1]}, by sipws config import."]
    for name, settings in table.items():
        if settings:
            lines += ["", *_section(name, settings, comments if name == "transport" else [])]
        elif name == "transport" and comments:
            lines += ["", *comments]
    return "\n".join(lines) + "\n"


def _section(name: str, settings: dict[str, Any], comments: list[str]) -> Iterator[str]:
    """The lines of a section, its tables last."""
    yield f"[{name}]"
    yield from comments
    tables = {}
    model = Config.model_fields[name].annotation
    order = ["listen", *getattr(model, "model_fields", ())]
    for key, value in sorted(settings.items(), key=lambda each: order.index(each[0])):
        if isinstance(value, dict) or (value and isinstance(value, tuple) and _is_tables(value)):
            tables[key] = value
        else:
            yield f"{key} = {_value(value)}"
    for key, value in tables.items():
        for entry in (value,) if isinstance(value, dict) else value:
            yield ""
            yield f"[{name}.{key}]" if isinstance(value, dict) else f"[[{name}.{key}]]"
            yield from (f"{name} = {_value(each)}" for name, each in entry.items())


def _is_tables(value: tuple[Any, ...]) -> bool:
    return all(isinstance(each, dict) for each in value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple | list):
        items = [_value(each) for each in value]
        line = f"[{', '.join(items)}]"
        return line if len(line) <= _WIDTH else "[\n" + "".join(f"    {x},\n" for x in items) + "]"
    # Strings of JSON are strings of TOML, but for one character.
    text = str(value) if isinstance(value, Path) else value
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
