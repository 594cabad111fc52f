"""``sipws config import``: whole files as TOML, with a report of each line."""

import re
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from sipws.cli.main import main
from sipws.config import opensips_toml
from sipws.config.opensips.interfaces import addresses_of
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config

DATA = Path(__file__).parents[3] / "data" / "opensips-cfg"
FILES = sorted(path.name for path in DATA.glob("*.cfg"))
CONCERN = re.compile(
    r"(?:socket|listen)\s*=|proto_(?:ws|wss|hep)\b|\"(?:tls_mgm|tracer)\b|\btrace\(|proto_ws[.|]"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files, with a certificate beside them."""
    pem = trustme.CA().issue_cert("sip.example.com").private_key_and_cert_chain_pem
    pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "server.pem").chmod(0o600)
    for name in FILES:
        (tmp_path / name).write_text((DATA / name).read_text())
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_what_it_is_expected_to_be(folder: Path, name: str, capsys: Any) -> None:
    assert main(["config", "import", str(folder / name)]) == 0
    out, _ = capsys.readouterr()
    assert out.replace(str(folder), "/etc/opensips") == (
        (DATA / name).with_suffix(".toml").read_text()
    )


@pytest.mark.parametrize("name", FILES)
def test_the_toml_decides_as_the_file_does(folder: Path, name: str, capsys: Any) -> None:
    assert main(["config", "import", str(folder / name)]) == 0
    toml = folder / "sipws.toml"
    toml.write_text(capsys.readouterr().out)
    assert main(["config", "check", str(toml)]) == 0
    imported, direct = Config.load(toml), Config().with_opensips_cfg(folder / name)
    ours, theirs = imported.transport, direct.transport
    assert ours.listeners == theirs.listeners
    for proto in sorted({listener.proto for listener in ours.listeners}):
        if proto == "wss":
            assert ours.wss_limits == theirs.wss_limits
            ours, theirs = ours.of_wss, theirs.of_wss
        assert ours.limits == theirs.limits
        assert ours.require_origin == theirs.require_origin
        assert imported.tracing.of(proto).trace_on == direct.tracing.of(proto).trace_on
    assert imported.hep == direct.hep
    assert [(str(x.destinations), x.protocols, x.settings.trace_sip, x.settings.trace_events)
            for x in ResolvedConfig.of(imported).traces] == [
           (str(x.destinations), x.protocols, x.settings.trace_sip, x.settings.trace_events)
            for x in ResolvedConfig.of(direct).traces]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_each_line_that_concerns_sipws_is_named(folder: Path, name: str, capsys: Any) -> None:
    assert main(["config", "import", str(folder / name)]) == 0
    named = set(re.findall(r"\.cfg:(\d+): (?:taken|changed|not taken)", capsys.readouterr().err))
    lines = re.sub(
        r"/\*.*?\*/", lambda x: "\n" * x[0].count("\n"), (folder / name).read_text(), flags=re.S
    ).splitlines()
    concerned = {
        str(number)
        for number, line in enumerate(lines, 1)
        if CONCERN.search(line.partition("#")[0])
    }
    assert concerned <= named


def test_a_file_that_cannot_be_read_is_told_with_status_2(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "opensips.cfg"
    assert main(["config", "import", str(path)]) == 2
    path.write_text('log_level=3\nsocket=ws:\nmodparam("proto_ws", "x", 1)\nroute[f] { drop }')
    assert main(["config", "import", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{path}:2:11: error:" in err
    assert f"{path}:3:22: error:" in err
    assert "Traceback" not in err


def test_wss_without_a_certificate_is_left_out(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "opensips.cfg"
    path.write_text("socket=ws:127.0.0.1:81\nsocket=wss:127.0.0.1:82 tag a\n")
    assert main(["config", "import", str(path)]) == 0
    out, err = capsys.readouterr()
    assert tomllib.loads(out)["transport"] == {"listen": ["ws:127.0.0.1:81"]}
    assert '# "wss:127.0.0.1:82 tag a" needs tls_certificate\n' in out
    assert f"{path}:2: not taken socket=wss:127.0.0.1:82 tag a: no certificate for it" in err


def test_a_certificate_that_is_not_here_is_a_warning(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "opensips.cfg"
    path.write_text(
        'socket=wss:127.0.0.1:82\nmodparam("tls_mgm", "server_domain", "a")\n'
        'modparam("tls_mgm", "certificate", "[a]/none/a.pem")\n'
        'modparam("tls_mgm", "verify_cert", "[a]0")\n'
    )
    assert main(["config", "import", str(path)]) == 0
    out, err = capsys.readouterr()
    assert tomllib.loads(out)["transport"]["tls_certificate"] == "/none/a.pem"
    assert "warning: sipws config check will refuse this: " in err


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**31), 2**31) | TEXTS, lambda each: st.lists(each).map(tuple)
)


@given(VALUES)
def test_any_value_is_written_as_toml(value: Any) -> None:
    def listed(value: Any) -> Any:
        return [listed(each) for each in value] if isinstance(value, tuple) else value

    text = f"x = {opensips_toml._value(value)}\n"
    assert tomllib.loads(text)["x"] == listed(value)


def test_an_interface_has_its_addresses() -> None:
    if "lo" not in {name for _, name in socket.if_nameindex()}:
        pytest.skip("this system has no interface lo")
    assert "127.0.0.1" in addresses_of("lo")
    assert addresses_of("no-such-one") == ()
