"""The ``hep_id`` of an ``opensips.cfg``, read as OpenSIPS reads it."""

import re
from typing import Final

from hep import HepId, HepIdError
from hep.hep_id import PORT
from sipws.config.opensips.modparams import Parameter
from sipws.config.opensips.report import Report

_NAME: Final = re.compile(r"\s*\[ *([^\]\s]+)[^\]]*\]")
_TRANSPORTS: Final = ("udp", "tcp", "tls")
_LONGEST_NUMBER: Final = 10
"""Digits of a number of 32 bits."""


class _RefusedError(Exception):
    """OpenSIPS refuses it."""


def read_hep_id(parameter: Parameter, known: dict[str, str], report: Report) -> None:
    """Read a ``hep_id``.

    Args:
        parameter: the parameter; its line gets the changes.
        known: the HEP ids by name; the new one is added.
        report: gets the error.
    """
    text = str(parameter.value)
    try:
        hep_id = _parse(text, parameter)
        if hep_id.name in known:
            raise _RefusedError(f"the name {hep_id.name!r} is there already; give it another one")
        # sipws has rules for hosts and ports of its own.
        HepId.parse(str(hep_id))
    except (_RefusedError, HepIdError) as exc:
        report.refuse(parameter.at, f"hep_id {text!r}: {exc}")
        return
    known[str(hep_id.name)] = str(hep_id)


def _parse(text: str, parameter: Parameter) -> HepId:
    """Parse ``[name]host[:port][; transport=udp|tcp|tls][; version=1|2|3]``.

    Raises:
        _RefusedError: it has not this form.
    """
    match = _NAME.match(text)
    if match is None:
        raise _RefusedError("it begins with a name in brackets, as in [homer]10.0.0.2:9060")
    where, *rest = (part.strip() for part in text[match.end() :].split(";"))
    if not where or "=" in where:
        raise _RefusedError("the host is missing; it comes first, as in [homer]10.0.0.2:9060")
    if "[" in where:
        raise _RefusedError("OpenSIPS reads no IPv6 address here; use a host name")
    host, colon, digits = (part.strip() for part in where.partition(":"))
    port = _number(digits, "port") if colon else PORT
    if port > 0xFFFF:
        parameter.line.change(f"of port {port} OpenSIPS uses 16 bits, {port & 0xFFFF}")
        port &= 0xFFFF
    values: dict[str, str] = {}
    for each in filter(None, rest):
        name, equals, value = (part.strip() for part in each.partition("="))
        if name not in ("transport", "version") or not equals or not value:
            raise _RefusedError(f"{each!r} is neither transport=… nor version=…")
        values[name] = value.lower()
    version = _number(values.get("version", "3"), "version")
    if version not in (1, 2, 3):
        raise _RefusedError(f"version {version} is not 1, 2 or 3")
    transport = values.get("transport", "tcp")
    if transport not in _TRANSPORTS:
        raise _RefusedError(f"transport {transport!r} is not one of {', '.join(_TRANSPORTS)}")
    if version < 3 and transport != "udp":
        if "transport" in values:
            parameter.line.change(f"version {version} goes over UDP only, as in OpenSIPS")
        transport = "udp"
    return HepId(host, port, transport, version, match[1])  # type: ignore[arg-type]


def _number(digits: str, what: str) -> int:
    if not re.fullmatch(r"[0-9]+", digits) or len(digits.lstrip("0")) > _LONGEST_NUMBER:
        raise _RefusedError(f"{what} {digits!r} is not a number")
    return int(digits)
