"""Socket and modparam lines, taken and refused as OpenSIPS 3.6.8 takes and refuses them."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sipws import ConfigurationError
from sipws.cli.main import main
from sipws.config.opensips.interfaces import addresses_of
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config

DATA = Path(__file__).parents[3] / "data" / "opensips-3.6.8" / "cfg_lines.json"
LINES: list[dict[str, Any]] = json.loads(DATA.read_text())["lines"]

MINIMAL = """\
log_level=3
socket=udp:127.0.0.1:23450
mpath="/usr/lib/opensips/modules"
loadmodule "proto_ws.so"
loadmodule "proto_wss.so"
loadmodule "tls_mgm.so"
loadmodule "proto_hep.so"
{}
route {{ exit; }}
"""


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    return tmp_path / "opensips.cfg"


def texts(accepted: bool) -> list[str]:
    return list(dict.fromkeys(line["text"] for line in LINES if line["accepted"] is accepted))


@pytest.mark.parametrize("text", texts(accepted=True))
def test_what_opensips_takes_is_taken(cfg: Path, text: str, capsys: Any) -> None:
    cfg.write_text(MINIMAL.format(text))
    ResolvedConfig.of(Config().with_opensips_cfg(cfg))
    assert main(["config", "import", str(cfg)]) == 0
    out, err = capsys.readouterr()
    ResolvedConfig.of(Config.of(tomllib.loads(out), "import"))
    assert f"{cfg}:8: " in err


@pytest.mark.parametrize("text", texts(accepted=False))
def test_what_opensips_refuses_is_refused_with_its_place(cfg: Path, text: str, capsys: Any) -> None:
    cfg.write_text(MINIMAL.format(text))
    with pytest.raises(ConfigurationError, match=re.escape(f"{cfg}:8:")):
        Config().with_opensips_cfg(cfg)
    assert main(["config", "import", str(cfg)]) == 2
    out, err = capsys.readouterr()
    assert (out, f"{cfg}:8:" in err) == ("", True)


SOCKETS = [
    (line["text"], re.findall(r"\bws: \S+ \[\[?([\d.:]+?)\]?\]:(\d+)", line["opensips"]))
    for line in LINES
    if line["kind"] == "socket" and line["opensips"].startswith("ok ws")
]


@pytest.mark.parametrize(("text", "addresses"), SOCKETS)
def test_it_listens_where_opensips_does(
    cfg: Path, text: str, addresses: list[tuple[str, str]]
) -> None:
    if "ws:lo:" in text and "::1" not in addresses_of("lo"):
        pytest.skip("this machine has no IPv6")
    cfg.write_text(MINIMAL.format(text))
    transport = Config().with_opensips_cfg(cfg).transport
    found = [(each.host, str(each.port)) for each in transport.listeners]
    assert found == [("::1" if ip == "0:0:0:0:0:0:0:1" else ip, port) for ip, port in addresses]
