"""The server domains of tls_mgm, as certificates of ``wss`` listeners."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sipws.config.opensips.modparams import Parameter
from sipws.config.opensips.report import Line, Report
from sipws.config.opensips.sockets import Socket
from sipws.errors import ConfigurationError
from sipws.transport.tls import VerifyClient, check_server_name

ANY: Final = "*"
"""Matches every server name, or every address."""

_TAKEN: Final = (
    "certificate",
    "private_key",
    "ca_list",
    "match_sip_domain",
    "match_ip_address",
    "verify_cert",
    "require_cert",
)
_OF_OPENSSL: Final = "sipws uses TLS 1.2 and later with the defaults of OpenSSL"

_NOT_TAKEN: Final = {
    "tls_method": _OF_OPENSSL,
    "ciphers_list": _OF_OPENSSL,
    "dh_params": _OF_OPENSSL,
    "ec_curve": _OF_OPENSSL,
    "ca_dir": "sipws reads a file of authorities; set transport.tls_client_ca",
    "crl_dir": "sipws reads no revocation lists",
    "crl_check_all": "sipws reads no revocation lists",
}
"""Other attributes of a domain, and why they are not taken."""

_OF_CLIENTS: Final = "it is about connections that OpenSIPS opens; see [upstream]"
_OF_DATABASES: Final = "sipws reads no domains from a database; write them into transport.tls"

_NO_NAME: Final = (
    "sipws has one certificate for clients that ask for no name of transport.tls, and it is that of"
    " another domain; add an entry with server_names to transport.tls"
)

_ONE_LIST: Final = (
    "sipws has one file of authorities for all domains, that of the first domain with the strictest"
    " rule; set transport.tls_client_ca to a file with all of them"
)

_STRICT: Final[tuple[VerifyClient, ...]] = ("off", "optional", "required")
"""From the least strict on."""


@dataclass(slots=True)
class Domain:
    """A ``server_domain`` or ``client_domain``."""

    is_server: bool
    line: Line
    values: dict[str, str] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)

    def names(self, attribute: str) -> list[str]:
        """The values of a list, such as ``match_sip_domain``; ``*`` if it is not set."""
        text = self.values.get(attribute, ANY)
        return [name for part in text.split(",") if (name := part.strip().strip('"'))] or [ANY]

    @property
    def verify(self) -> VerifyClient:
        """Whether clients need a certificate. OpenSIPS requires one by default."""
        if self.values.get("verify_cert", "1") == "0":
            return "off"
        return "optional" if self.values.get("require_cert", "1") == "0" else "required"


class Certificates:
    """Collects the parameters of tls_mgm.

    Args:
        folder: the folder of the file, which paths may be relative to.
        report: gets the errors.
    """

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder
        self._report = report
        self._domains: dict[str, Domain] = {}

    def take(self, parameter: Parameter) -> None:
        """Take a parameter."""
        name, value = parameter.name, str(parameter.value)
        if name in ("server_domain", "client_domain"):
            if value in self._domains:
                self._report.refuse(parameter.at, f"TLS domain {value!r} is there already")
            self._domains[value] = Domain(name == "server_domain", parameter.line)
            if name == "client_domain":
                parameter.line.drop(_OF_CLIENTS)
            return
        if name not in _TAKEN and name not in _NOT_TAKEN:
            of_database = name.endswith("_col") or name.startswith("db_")
            parameter.line.drop(
                _OF_DATABASES
                if of_database
                else "sipws uses OpenSSL"
                if name == "tls_library"
                else _OF_CLIENTS
            )
            return
        opening, bracket, text = value.strip().partition("]")
        domain = self._domains.get(opening.removeprefix("["))
        if not bracket or not opening.startswith("[") or not text.strip():
            self._report.refuse(parameter.at, f"{name} is written [DOMAIN]value, not {value!r}")
        elif domain is None:
            there = ", ".join(self._domains) or "none"
            problem = f"there is no TLS domain {opening[1:]!r} above this line; domains: {there}"
            self._report.refuse(parameter.at, problem)
        elif name in ("verify_cert", "require_cert") and not text.isdecimal():
            self._report.refuse(parameter.at, f"{name} is [DOMAIN]0 or [DOMAIN]1, not {value!r}")
        elif name in _NOT_TAKEN:
            parameter.line.drop(_NOT_TAKEN[name])
        else:
            if (before := domain.lines.get(name)) is not None:
                before.drop(f"{parameter.line.place} sets it again")
            domain.values[name] = text.strip()
            domain.lines[name] = parameter.line
            if not domain.is_server:
                parameter.line.drop(_OF_CLIENTS)

    def settings(self, sockets: Sequence[Socket], wss_port: int) -> dict[str, Any]:
        """Make the TLS settings of ``[transport]``.

        Args:
            sockets: the listeners; those for ``wss`` choose the domains.
            wss_port: the port of those without one.

        Returns:
            the settings; none if no domain has a certificate.
        """
        listeners = [f"{x.host}:{x.port or wss_port}" for x in sockets if x.proto == "wss"]
        chosen = self._chosen(listeners)
        servers = {name: domain for name, domain in self._domains.items() if domain.is_server}
        for name, domain in servers.items():
            if name not in chosen:
                why = "no wss socket uses this domain" if listeners else "there is no wss socket"
                if "certificate" not in domain.values:
                    why = "the domain has no certificate"
                for line in (domain.line, *domain.lines.values()):
                    line.drop(why)
        if not chosen:
            return {}
        settings: dict[str, Any] = {}
        entries = []
        for domain in chosen.values():
            names = self._server_names(domain)
            if ANY in domain.names("match_sip_domain") and "tls_certificate" not in settings:
                settings["tls_certificate"] = self._path(domain, "certificate")
                if "private_key" in domain.values:
                    settings["tls_key"] = self._path(domain, "private_key")
            elif not names:
                # Its rule about certificates of clients still counts.
                for each in ("certificate", "private_key"):
                    if each in domain.lines:
                        domain.lines[each].drop(_NO_NAME)
            if names:
                entry = {"server_names": names, "certificate": self._path(domain, "certificate")}
                if "private_key" in domain.values:
                    entry["key"] = self._path(domain, "private_key")
                entries.append(entry)
        if entries:
            settings["tls"] = tuple(entries)
        if "tls_certificate" not in settings and not entries:
            return {}
        return settings | self._verification(list(chosen.values()))

    def _chosen(self, listeners: Sequence[str]) -> dict[str, Domain]:
        """The domains that ``wss`` listeners use, by name."""
        usable = {
            name: domain
            for name, domain in self._domains.items()
            if domain.is_server and "certificate" in domain.values
        }
        chosen: dict[str, Domain] = {}
        differ = False
        for listener in listeners:
            # OpenSIPS asks for the domains of this address first, then for those of any.
            own = [name for name, x in usable.items() if listener in x.names("match_ip_address")]
            own = own or [name for name, x in usable.items() if ANY in x.names("match_ip_address")]
            differ = differ or (bool(chosen) and set(own) != set(chosen))
            chosen |= {name: usable[name] for name in own}
        if differ:
            for domain in chosen.values():
                if (line := domain.lines.get("match_ip_address")) is not None:
                    line.change("sipws chooses a certificate by server name, on all listeners")
        # In OpenSIPS the domains that match any name come last.
        return dict(sorted(chosen.items(), key=lambda x: ANY in x[1].names("match_sip_domain")))

    def _server_names(self, domain: Domain) -> tuple[str, ...]:
        names = []
        for name in domain.names("match_sip_domain"):
            if name == ANY:
                continue
            try:
                check_server_name(name)
            except ConfigurationError as exc:
                domain.lines["match_sip_domain"].change(f"without {name!r}: {exc}")
            else:
                names.append(name)
        return tuple(names)

    def _verification(self, domains: Sequence[Domain]) -> dict[str, Any]:
        """The settings about certificates of clients."""
        strictest = max((domain.verify for domain in domains), key=_STRICT.index)
        for domain in domains:
            if domain.verify != strictest:
                for name in ("verify_cert", "require_cert"):
                    if (line := domain.lines.get(name)) is not None:
                        line.change(f"sipws has one rule for all domains: {strictest!r}")
        lists = [domain for domain in domains if "ca_list" in domain.values]
        used = [] if strictest == "off" else [x for x in lists if x.verify == strictest][:1]
        for domain in lists:
            if strictest == "off":
                domain.lines["ca_list"].drop("clients need no certificate")
            elif domain not in used:
                domain.lines["ca_list"].drop(_ONE_LIST)
        if strictest == "off":
            return {"tls_verify_client": strictest}
        if used:
            path = self._path(used[0], "ca_list")
            return {"tls_verify_client": strictest, "tls_client_ca": path}
        remark = (
            "clients need a certificate, as in OpenSIPS where verify_cert and require_cert are not"
            " 0; without ca_list none is trusted there, and here those of the system"
        )
        authorities = ssl.get_default_verify_paths().cafile
        for domain in domains:
            domain.line.change(remark if authorities else f"{remark} would be, which has none")
        if authorities is None:
            return {}
        return {"tls_verify_client": strictest, "tls_client_ca": Path(authorities)}

    def _path(self, domain: Domain, attribute: str) -> Path:
        """A file, which OpenSIPS finds from its working directory."""
        path = Path(domain.values[attribute])
        if path.is_absolute() or path.exists():
            return path.absolute()
        return (self._folder / path).absolute()
