"""Configuration files: what they say, and how mistakes in them are told."""

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from hep import HepId
from sipws import ConfigurationError, FilterRouteError, Listener
from sipws.cli.main import main
from sipws.config.resolved import NOWHERE, ResolvedConfig
from sipws.config.settings import Config

EXAMPLE = """
[transport]
listen = ["ws:127.0.0.1:8080 tag edge", "ws:10.0.0.1"]
ws_port = 8081
ws_send_timeout = 250
ws_handshake_timeout = 2000

[hep]
hep_id = ["[homer]10.0.0.2:9060; transport=udp; version=3", "[old]10.0.0.3; version=2"]
hep_capture_id = 2001
hep_ip_protocol = "opensips"
homer5_on = true
homer5_delim = "#"
hep_auth_key = "s3cr3t"

[tracing]
trace_destination = "old"
trace_on = true
trace_filter_route = "ws_filter"
script = "filter.cfg"
trace_sip = true
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "filter.cfg").write_text("route[ws_filter] { drop; }")
    path = tmp_path / "sipws.toml"
    path.write_text(EXAMPLE)
    return path


def mistakes(path: Path, toml: str) -> list[str]:
    path.write_text(toml)
    with pytest.raises(ConfigurationError) as refused:
        ResolvedConfig.of(Config.load(path), str(path))
    return [line.removeprefix(f"{path}: ") for line in str(refused.value).splitlines()]


def test_a_file_is_read(file: Path) -> None:
    config = Config.load(file)
    assert config.transport.listeners == (
        Listener("ws", "127.0.0.1", 8080, tag="edge"),
        Listener("ws", "10.0.0.1", 8081),
    )
    assert config.transport.limits.send_timeout == 0.25
    assert config.transport.limits.handshake_timeout == 2.0
    assert config.tracing.script == file.parent / "filter.cfg"


def test_the_defaults_let_in_every_page() -> None:
    rules = Config().transport.rules
    assert rules.require_origin
    assert not replace(rules, require_origin=False).examines
    assert (rules.max_connections, rules.max_rate) == (None, None)


def test_who_is_let_in_is_configured(file: Path) -> None:
    file.write_text(
        """
        [transport]
        listen = "ws:127.0.0.1:8080 tag edge"
        ws_resource = "/ws"
        allowed_origins = "https://*.example.com"
        allowed_hosts = ["sip.example.com"]
        max_connections = 1000
        max_connections_per_address = 10
        max_handshake_rate = 100
        max_handshake_rate_per_address = 0.5
        trusted_proxies = ["10.0.0.0/8"]
        proxy_protocol = ["edge"]
        forwarding_header = "forwarded"
        """
    )
    transport = Config.load(file).transport
    rules = transport.rules
    assert (rules.resource, rules.forwarding_header) == ("/ws", "forwarded")
    assert (rules.max_connections, rules.max_connections_per_address) == (1000, 10)
    assert (rules.max_rate, rules.max_rate_per_address) == (100, 0.5)
    assert "https://www.example.com" in rules.allowed_origins
    assert "sip.example.com" in rules.allowed_hosts
    assert "10.1.2.3" in rules.trusted_proxies
    assert rules.expects_proxy_header(transport.listeners[0])
    assert not rules.expects_proxy_header(Listener.parse("ws:127.0.0.1"))


def test_what_an_upgrade_request_may_have_is_configured() -> None:
    limits = Config.of({"transport": {}}, "test").transport.limits
    assert (limits.longest_line, limits.most_headers) == (16_384, 256)
    limits = Config.of({"transport": {"max_request_size": 65_536}}, "test").transport.limits
    assert (limits.longest_line, limits.most_headers) == (65_536, 1024)
    limits = Config.of({"transport": {"max_request_size": 1024}}, "test").transport.limits
    assert (limits.longest_line, limits.most_headers) == (1024, 128)
    table = {"max_header_line": 4096, "max_headers": 50}
    limits = Config.of({"transport": table}, "test").transport.limits
    assert (limits.longest_line, limits.most_headers) == (4096, 50)


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("max_header_line", 20_000, "is more than max_request_size = 16384"),
        ("max_headers", 0, "greater than or equal to 8"),
        ("forwarding_header", "x real ip", "a header's name is wanted"),
        ("forwarding_header", "x-real-ip:", "a header's name is wanted"),
        ("forwarding_header", "", "a header's name is wanted"),
    ],
)
def test_a_wrong_setting_of_the_handshake_is_said(
    setting: str, value: object, problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Config.of({"transport": {setting: value}}, "test")


def test_the_name_of_the_forwarding_header_may_be_in_any_case() -> None:
    table = {"trusted_proxies": "10.0.0.0/8", "forwarding_header": "X-Real-IP"}
    rules = Config.of({"transport": table}, "test").transport.rules
    assert rules.forwarding_header == "x-real-ip"


@pytest.mark.parametrize(
    "written", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n"]
)
def test_wrong_client_authorities_are_one_message(
    file: Path, written: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    issued = trustme.CA().issue_cert("one.test")
    issued.private_key_and_cert_chain_pem.write_to_path(file.parent / "one.pem")
    authorities = file.parent / "ca.pem"
    if written is not None:
        authorities.write_text(written)
    file.write_text(
        """
        [transport]
        listen = "wss:127.0.0.1:8443"
        tls_certificate = "one.pem"
        tls_verify_client = "required"
        tls_client_ca = "ca.pem"
        """
    )
    assert main(["config", "check", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"sipws: {file}: transport: tls_client_ca {authorities} cannot be used: "
    )
    assert line.endswith(
        "; name a PEM file with the certificates of the authorities that issue clients'"
        " certificates"
    )


def test_certificates_are_files_beside_the_configuration(file: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(file.parent / "ca.pem")
    for name in ("one", "two"):
        issued = authority.issue_cert(f"{name}.test")
        issued.private_key_and_cert_chain_pem.write_to_path(file.parent / f"{name}.pem")
    file.write_text(
        """
        [transport]
        listen = "wss:127.0.0.1:8443"
        tls_certificate = "one.pem"
        tls_verify_client = "optional"
        tls_client_ca = "ca.pem"
        [[transport.tls]]
        server_names = ["two.test"]
        certificate = "two.pem"
        """
    )
    config = Config.load(file)
    assert config.transport.tls[0].certificate == file.parent / "two.pem"
    # What a command line changes is checked with the files where they are.
    resolved = ResolvedConfig.of(
        config.changed("test", transport={"listen": ("wss:127.0.0.1:8444",)})
    )
    assert resolved.certificates is not None
    assert resolved.certificates.context.verify_mode is ssl.CERT_OPTIONAL


def test_a_plan_knows_destination_filter_and_form(file: Path) -> None:
    resolved = ResolvedConfig.of(Config.load(file))
    assert resolved.destinations == [HepId("10.0.0.3", 9060, "udp", 2, "old")]
    assert resolved.filter.decide is not None
    settings = resolved.traces[0].settings
    assert (settings.homer5, settings.homer5_delimiter, settings.trace_sip) == (True, "#", True)
    packets = settings.packets
    assert (packets.version, packets.capture_id, packets.ip_protocol) == (2, 2001, 50)
    assert packets.auth_key == b"s3cr3t"


def test_the_defaults_serve_on_loopback_and_trace_nothing() -> None:
    resolved = ResolvedConfig.of(Config())
    assert resolved.config.transport.listeners == (Listener("ws", "127.0.0.1", 8080),)
    assert (resolved.traces, resolved.filter.decide) == ((), None)
    settings = Config().tracing.settings_of(Config().tracing, Config().hep, 3)
    assert (settings.packets.ip_protocol, settings.homer5) == (6, False)


def test_one_value_stands_for_a_list_of_one(file: Path) -> None:
    file.write_text('[transport]\nlisten = "ws:*"\n[hep]\nhep_id = "[a]10.0.0.2"')
    config = Config.load(file)
    assert config.transport.listen == ("ws:*",)
    assert config.hep.hep_ids == (HepId("10.0.0.2", name="a"),)


def test_secrets_are_not_shown(file: Path) -> None:
    config = Config.load(file)
    assert "s3cr3t" not in config.model_dump_json()
    assert "s3cr3t" not in repr(config)
    assert (
        ResolvedConfig.of(config.changed("test")).traces[0].settings.packets.auth_key == b"s3cr3t"
    )


def test_all_mistakes_are_told_at_once_with_place_and_value(file: Path) -> None:
    found = mistakes(
        file,
        """
        [transport]
        listen = ["ws:127.0.0.1:99999", "udp:10.0.0.1"]
        ws_send_timout = 100
        ws_handshake_timeout = 0
        [hep]
        hep_id = ["10.0.0.2;version=9"]
        [tracng]
        """,
    )
    assert [line.partition(" = ")[0].partition(": no")[0] for line in found] == [
        "transport.listen.0",
        "transport.listen.1",
        "transport.ws_handshake_timeout",
        "transport.ws_send_timout",
        "hep.hep_id.0",
        "tracng",
    ]
    assert "'ws:127.0.0.1:99999': '99999' is not a port" in found[0]
    assert found[3].endswith("no such setting; do you mean 'ws_send_timeout'?")
    assert "version '9' is not one of 1, 2, 3" in found[4]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[transport\n", "not TOML: "),
        (
            '[tracing]\ntrace_destination = "homer"',
            "tracing.trace_destination 'homer' is not a hep_id",
        ),
        ('[tracing]\ntrace_filter_route = "f"', "trace_filter_route 'f' needs script"),
        (
            '[tracing]\ntrace_filter_route = "f"\nscript = "none.cfg"',
            "none.cfg: cannot be read: No such file or directory",
        ),
        ('[transport]\nlisten = ["wss:*"]', "listener wss:*:443 needs tls_certificate"),
        ("[transport]\nlisten = []", "transport.listen = []: at least one is needed"),
        ('[transport]\nlisten = ["ws:a..b"]', "'a..b' is not a host name"),
        (
            '[transport]\nws_resource = "sip"',
            "transport.ws_resource = 'sip': a path starts with '/'",
        ),
        (
            "[transport]\nws_ping_interval = true",
            "transport.ws_ping_interval = True: a number is wanted",
        ),
        (
            "[transport]\nmax_handshake_rate = true",
            "transport.max_handshake_rate = True: a number is wanted",
        ),
        (
            '[transport]\nlisten = ["wss:*"]\ntls_certificate = "none.pem"',
            "none.pem cannot be used: [Errno 2] No such file or directory",
        ),
        (
            '[transport]\n[[transport.tls]]\nserver_names = "a.test"\ncertificate = "no.pem"',
            "no.pem cannot be used: ",
        ),
        (
            '[transport]\n[[transport.tls]]\nserver_names = "*"\ncertificate = "no.pem"',
            "transport.tls.0.server_names.0 = '*': TLS server name '*' is not a name",
        ),
        ('[transport]\ntls_verify_client = "required"', "'required' needs tls_client_ca"),
        (
            '[transport]\ntrusted_proxies = ["10.0.0.1/8"]',
            "transport.trusted_proxies.0 = '10.0.0.1/8': '10.0.0.1/8' is not a network",
        ),
        ("[transport]\nproxy_protocol = true", "proxy_protocol needs trusted_proxies"),
        (
            '[transport]\nproxy_protocol = "edge"\ntrusted_proxies = "10.0.0.1"',
            "proxy_protocol names 'edge', and no listener has that tag",
        ),
        (
            '[transport]\nallowed_origins = ["www.example.com"]',
            "transport.allowed_origins.0 = 'www.example.com': 'www.example.com' is not an origin",
        ),
        (
            '[transport]\nallowed_hosts = ["https://a.test"]',
            "transport.allowed_hosts.0 = 'https://a.test': 'https://a.test' is not a host",
        ),
        ('[transport]\nws_resource = "ws"', "transport.ws_resource = 'ws': "),
        ("[transport]\nmax_connections = 0", "transport.max_connections = 0: "),
        ('[hep]\nhep_id = ["[a]10.0.0.2", "[a]10.0.0.3"]', "hep_id 'a' is defined twice"),
        ('[hep]\nhep_ip_protocol = "udp"', "hep_ip_protocol = 'udp': "),
        ('[control]\nlisten = "0.0.0.0:8888"', "is not a loopback address: set token as well"),
        ('[control]\nlisten = "localhost"', "the port is missing; it is written HOST:PORT"),
        ('[tracing]\ntrace_filter = "os:path"', "'path' is nothing that can be called"),
        (
            '[tracing]\ntrace_filter = "os:getcwd"\nscript = "filter.cfg"',
            "trace_filter and script are both set",
        ),
        ("a = " + "[" * 50_000, "tables or lists are nested too deeply"),
        ("[transport]\nworkers = " + "9" * 5000, "a number has too many digits"),
        ("[transport]\nworkers = inf", "transport.workers = inf: "),
        ('[transport]\nlisten = "ws:127.0.0.1:' + "9" * 5000 + '"', "is not a port"),
        ('[hep]\nhep_spool = ""', "hep_spool = '': a path is wanted; leave the setting out"),
        ('[tracing]\nscript = ""', "script = '': a path is wanted"),
        ('[hep]\nhep_tls_ca = ""', "hep_tls_ca = '': a path is wanted"),
        ('[tracing]\nscript = "a\\u0000b"', "a NUL character is not allowed"),
        (
            '[transport]\nlisten = "wss:*"\ntls_certificate = "a\\u0000b"',
            "a NUL character is not allowed",
        ),
        ('[upstream]\nupstream_tls_ca = "a\\u0000b"', "a NUL character is not allowed"),
        ('[control]\nlisten = "unix:/' + "a" * 200 + '"', "a Unix socket's has 107 at most"),
        ('[control]\nlisten = "unix:@sipws"', "an abstract socket has no permissions"),
        ('[control]\nlisten = "unix:"', "the path is missing"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(file: Path, toml: str, message: str) -> None:
    assert message in "\n".join(mistakes(file, toml))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read: No such file"):
        Config.load(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\0" * 100, b"a = 1\r2"])
def test_a_file_that_is_no_text_is_no_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sipws.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"sipws\.toml: not TOML: "):
        Config.load(tmp_path / "sipws.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        Config.load(tmp_path)


def test_a_script_that_is_refused_is_told_with_its_place(file: Path) -> None:
    (file.parent / "filter.cfg").write_text("route[ws_filter] { t_relay(); }")
    with pytest.raises(FilterRouteError, match=r"filter\.cfg:1:20: error: "):
        ResolvedConfig.of(Config.load(file))


def test_what_is_allowed_but_hardly_meant_is_a_warning(file: Path) -> None:
    file.write_text(EXAMPLE.replace('"ws_filter"', '"filter"').replace("= true", "= false"))
    first, *_, second = ResolvedConfig.of(Config.load(file)).warnings
    assert first == "trace_destination 'old' is set but trace_on is false: nothing is traced"
    assert "warning: there is no route 'filter': every connection is traced" in second
    assert "ws_filter" in second


def test_an_opensips_cfg_says_itself_which_route_is_the_filter(file: Path) -> None:
    (file.parent / "opensips.cfg").write_text(
        'socket=ws:127.0.0.1:8080\nloadmodule "proto_ws.so"\n'
        'modparam("proto_ws", "trace_filter_route", "mine")\n'
        "route { t_relay(); }\nroute[mine] { drop; }\n"
    )
    file.write_text('[tracing]\nscript = "opensips.cfg"\n')
    resolved = ResolvedConfig.of(Config.load(file))
    assert resolved.filter.decide is not None
    assert resolved.filter.warnings == ()
    assert resolved.filter.passed_over


def test_a_script_without_a_route_to_ask_is_a_warning(file: Path) -> None:
    file.write_text('[tracing]\nscript = "filter.cfg"\n')
    [warning] = ResolvedConfig.of(Config.load(file), "sipws.toml").filter.warnings
    assert warning.startswith("sipws.toml: tracing.script is set but trace_filter_route is not")


def test_an_upstream_is_read_with_its_authority_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sipws.toml"
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    toml = '[upstream]\nupstream_uri = "wss://sip.example.com/ws"\nupstream_tls_ca = "ca.pem"\n'
    path.write_text(toml)
    resolved = ResolvedConfig.of(Config.load(path))
    assert str(resolved.config.upstream.destination) == "wss://sip.example.com/ws"
    assert resolved.upstream_tls is not None
    assert resolved.upstream_tls.verify_mode is ssl.CERT_REQUIRED
    assert resolved.upstream_tls.check_hostname
    assert len(resolved.upstream_tls.get_ca_certs()) == 1
    assert resolved.warnings == ()


def test_an_upstream_that_is_not_checked_is_warned_of(tmp_path: Path) -> None:
    table = {"upstream_uri": "wss://sip.example.com", "upstream_tls_verify": False}
    resolved = ResolvedConfig.of(Config.of({"upstream": table}, "test"))
    assert resolved.upstream_tls is not None
    assert resolved.upstream_tls.verify_mode is ssl.CERT_NONE
    [warning] = resolved.warnings
    assert warning.startswith("upstream_tls_verify is false: ")


@pytest.mark.parametrize(
    ("toml", "mistake"),
    [
        ('upstream_uri = "sip.example.com"', "upstream.upstream_uri = 'sip.example.com': "),
        ('upstream_uri = "wss://u:p@a"', "upstream.upstream_uri = 'wss://***@a': "),
        (
            'upstream_uri = "wss://a"\nupstream_tls_ca = "none.pem"',
            "upstream: upstream_tls_ca: TLS authority ",
        ),
        (
            'upstream_tls_ca = "a.pem"\nupstream_tls_verify = false',
            "upstream: upstream_tls_ca has no effect with upstream_tls_verify = false",
        ),
    ],
)
def test_mistakes_in_an_upstream_are_told(tmp_path: Path, toml: str, mistake: str) -> None:
    [told] = mistakes(tmp_path / "sipws.toml", f"[upstream]\n{toml}\n")
    assert told.startswith(mistake)


def test_tracing_may_be_on_without_a_destination_as_with_opensips(tmp_path: Path) -> None:
    file = tmp_path / "sipws.toml"
    file.write_text("[tracing]\ntrace_on = true")
    resolved = ResolvedConfig.of(Config.load(file), "sipws.toml")
    assert resolved.traces == ()
    assert resolved.warnings == (NOWHERE,)
    file.write_text('[tracing]\ntrace_on = true\n[[tracing.also]]\ntrace_destination = "a:9060"')
    assert ResolvedConfig.of(Config.load(file), "sipws.toml").warnings == ()
