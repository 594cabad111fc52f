"""The domains of tls_mgm as certificates of wss listeners."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sipws import ConfigurationError
from sipws.config.opensips.reader import OpensipsCfg

Read = Callable[..., OpensipsCfg]

WSS = "socket=wss:10.0.0.1:443"


def domain(name: str, **values: str) -> list[str]:
    """The lines of a server domain; clients need no certificate unless they say so."""
    values = {"certificate": f"/{name}.pem", "verify_cert": "0"} | values
    lines = [f'modparam("tls_mgm", "{key}", "[{name}]{value}")' for key, value in values.items()]
    return [f'modparam("tls_mgm", "server_domain", "{name}")', *lines]


def tls(cfg: OpensipsCfg) -> dict[str, Any]:
    return {key: x for key, x in cfg.sections["transport"].items() if key.startswith("tls")}


def outcomes(cfg: OpensipsCfg, part: str) -> set[str]:
    return {line.outcome for line in cfg.lines if part in line.text}


def test_a_domain_for_any_name_is_the_default(opensips: Read) -> None:
    cfg = opensips(WSS, *domain("a", private_key="/a.key"))
    assert tls(cfg) == {
        "tls_certificate": Path("/a.pem"),
        "tls_key": Path("/a.key"),
        "tls_verify_client": "off",
    }


def test_domains_are_chosen_by_server_name(opensips: Read) -> None:
    first = domain("a", match_sip_domain="*")
    second = domain("b", match_sip_domain="sip.example.com, *.example.org", private_key="/b.key")
    settings = tls(opensips(WSS, *first, *second))
    assert settings["tls_certificate"] == Path("/a.pem")
    assert settings["tls"] == (
        {
            "server_names": ("sip.example.com", "*.example.org"),
            "certificate": Path("/b.pem"),
            "key": Path("/b.key"),
        },
    )


def test_domains_are_those_of_the_address(opensips: Read) -> None:
    own = domain("own", match_ip_address="10.0.0.1:443")
    cfg = opensips(WSS, *domain("any"), *own, *domain("other", match_ip_address="10.0.0.9:443"))
    assert tls(cfg)["tls_certificate"] == Path("/own.pem")
    assert outcomes(cfg, "any") == outcomes(cfg, "other") == {"not taken"}


def test_a_port_is_that_of_proto_wss(opensips: Read) -> None:
    own = domain("own", match_ip_address="10.0.0.1:8443")
    cfg = opensips("socket=wss:10.0.0.1", 'modparam("proto_wss", "wss_port", 8443)', *own)
    assert tls(cfg)["tls_certificate"] == Path("/own.pem")


def test_that_addresses_have_domains_of_their_own_is_told(opensips: Read) -> None:
    first = domain("a", match_ip_address="10.0.0.1:443", match_sip_domain="a.example.com")
    second = domain("b", match_ip_address="10.0.0.2:443", match_sip_domain="b.example.com")
    cfg = opensips(WSS, "socket=wss:10.0.0.2:443", *first, *second)
    assert [entry["certificate"] for entry in tls(cfg)["tls"]] == [Path("/a.pem"), Path("/b.pem")]
    assert outcomes(cfg, "match_ip_address") == {"changed"}


@pytest.mark.parametrize(
    ("verify", "require", "rule"),
    [("0", "1", "off"), ("0", "0", "off"), ("1", "0", "optional"), ("1", "1", "required")],
)
def test_certificates_of_clients(opensips: Read, verify: str, require: str, rule: str) -> None:
    cfg = opensips(WSS, *domain("a", verify_cert=verify, require_cert=require, ca_list="/ca.pem"))
    assert tls(cfg)["tls_verify_client"] == rule
    assert tls(cfg).get("tls_client_ca") == (None if rule == "off" else Path("/ca.pem"))


def test_by_default_clients_need_a_certificate_as_in_opensips(opensips: Read) -> None:
    lines = [
        'modparam("tls_mgm", "server_domain", "a")',
        'modparam("tls_mgm", "certificate", "[a]/a.pem")',
    ]
    cfg = opensips(WSS, *lines)
    authorities = ssl.get_default_verify_paths().cafile
    assert tls(cfg).get("tls_verify_client") == ("required" if authorities else None)
    assert cfg.lines[1].outcome == "changed"
    assert "clients need a certificate" in cfg.lines[1].remarks[0]


def test_the_strictest_rule_is_for_all(opensips: Read) -> None:
    strict = domain("b", verify_cert="1", ca_list="/ca.pem", match_sip_domain="b.example.com")
    cfg = opensips(WSS, *domain("a"), *strict)
    assert tls(cfg)["tls_verify_client"] == "required"
    assert outcomes(cfg, '"[a]0"') == {"changed"}


def test_without_wss_no_domain_is_taken(opensips: Read) -> None:
    cfg = opensips("socket=ws:10.0.0.1", *domain("a"))
    assert tls(cfg) == {}
    assert outcomes(cfg, "tls_mgm") == {"not taken"}


def test_a_name_that_sipws_cannot_match_is_told(opensips: Read) -> None:
    cfg = opensips(WSS, *domain("a", match_sip_domain="sip*.example.com,a.example.com"))
    assert tls(cfg)["tls"][0]["server_names"] == ("a.example.com",)
    assert outcomes(cfg, "match_sip_domain") == {"changed"}


def test_a_relative_path_is_that_of_the_working_directory_or_of_the_file(
    opensips: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "here.pem").touch()
    monkeypatch.chdir(work)
    cfg = opensips(WSS, *domain("a", certificate="here.pem", private_key="there.pem"))
    assert tls(cfg)["tls_certificate"] == work / "here.pem"
    assert tls(cfg)["tls_key"] == tmp_path / "there.pem"


@pytest.mark.parametrize(
    "name",
    ["tls_method", "ciphers_list", "dh_params", "ec_curve", "ca_dir", "crl_dir", "crl_check_all"],
)
def test_other_attributes_are_named(opensips: Read, name: str) -> None:
    cfg = opensips(WSS, *domain("a", **{name: "x"}))
    assert outcomes(cfg, name) == {"not taken"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("db_url", "mysql://u:p@h/d"), ("domain_col", "x"), ("client_tls_domain_avp", "x"),
     ("tls_library", "wolfssl"), ("client_domain", "out")],
)  # fmt: skip
def test_other_parameters_are_named(opensips: Read, name: str, value: str) -> None:
    [line] = opensips(f'modparam("tls_mgm", "{name}", "{value}")').lines
    assert line.outcome == "not taken"
    assert "u:p" not in line.text


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['"certificate", "/a.pem"'], "certificate is written [DOMAIN]value"),
        (['"certificate", "[a]/a.pem"'], "there is no TLS domain 'a' above this line"),
        (['"server_domain", "a"', '"certificate", "[b]x"'], "there is no TLS domain 'b'"),
        (['"server_domain", "a"', '"server_domain", "a"'], "TLS domain 'a' is there already"),
        (['"server_domain", "a"', '"certificate", "[a]"'], "is written [DOMAIN]value"),
        (['"server_domain", "a"', '"verify_cert", "[a]yes"'], "verify_cert is [DOMAIN]0 or"),
    ],
)
def test_what_opensips_refuses_is_refused(opensips: Read, lines: list[str], problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        opensips(*(f'modparam("tls_mgm", {line})' for line in lines))
    assert f"opensips.cfg:{1 + len(lines)}:" in str(refused.value)
    assert problem in str(refused.value)


def test_a_second_certificate_for_any_name_is_told(opensips: Read) -> None:
    first = domain("a", match_ip_address="10.0.0.1:443")
    second = domain("b", match_ip_address="10.0.0.2:443", private_key="/b.key")
    cfg = opensips(WSS, "socket=wss:10.0.0.2:443", *first, *second)
    assert tls(cfg)["tls_certificate"] == Path("/a.pem")
    assert outcomes(cfg, "/a.pem") == {"taken"}
    assert outcomes(cfg, "/b.pem") == outcomes(cfg, "/b.key") == {"not taken"}


def test_authorities_that_no_client_is_checked_with_are_told(opensips: Read) -> None:
    cfg = opensips(WSS, *domain("a", ca_list="/ca.pem"))
    assert "tls_client_ca" not in tls(cfg)
    assert outcomes(cfg, "/ca.pem") == {"not taken"}


def test_authorities_of_further_domains_are_told(opensips: Read) -> None:
    names = {"a": "a.example.com", "b": "b.example.com"}
    lines = [
        line
        for name, host in names.items()
        for line in domain(name, match_sip_domain=host, verify_cert="1", ca_list=f"/{name}.ca")
    ]
    cfg = opensips(WSS, *lines)
    assert tls(cfg)["tls_client_ca"] == Path("/a.ca")
    assert outcomes(cfg, "/a.ca") == {"taken"}
    assert outcomes(cfg, "/b.ca") == {"not taken"}
