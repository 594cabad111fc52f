"""Certificates and filter, read anew while the program runs."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from sipws import ConfigurationError
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control.mi import MiError
from sipws.service.app import Application
from sipws.service.commands import methods_of


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def application(authority: trustme.CA, tmp_path: Path) -> AsyncIterator[Application]:
    issue(authority, tmp_path)
    (tmp_path / "filter.cfg").write_text("route[f] { drop; }")
    (tmp_path / "sipws.toml").write_text(
        """
        [transport]
        listen = "wss:127.0.0.1:0"
        tls_certificate = "server.pem"
        [tracing]
        script = "filter.cfg"
        trace_filter_route = "f"
        """
    )
    async with Application(ResolvedConfig.of(Config.load(tmp_path / "sipws.toml"))) as running:
        yield running


def issue(authority: trustme.CA, folder: Path) -> None:
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")


def context_of(application: Application) -> ssl.SSLContext:
    assert application.resolved.certificates is not None
    return application.resolved.certificates.context


async def test_reload_reads_both(
    application: Application, authority: trustme.CA, tmp_path: Path
) -> None:
    before = context_of(application)
    issue(authority, tmp_path)
    assert methods_of(application)["reload"]() == "OK"
    assert context_of(application) is not before


async def test_a_wrong_filter_does_not_keep_a_new_certificate_out(
    application: Application, tmp_path: Path
) -> None:
    before = context_of(application)
    (tmp_path / "filter.cfg").write_text("nonsense")
    with pytest.raises(ConfigurationError, match="the new filter is refused, the old one stays"):
        application.reload()
    assert context_of(application) is not before


async def test_of_broken_certificates_the_old_ones_stay_and_that_is_said(
    application: Application, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = context_of(application)
    (tmp_path / "server.pem").write_text("half a file")
    methods = methods_of(application)
    for method in ("reload", "tls_reload"):
        with pytest.raises(MiError, match=r"server\.pem cannot be used"):
            methods[method]()
    assert "the new certificates are refused, the old ones stay" in caplog.text
    assert context_of(application) is before
    assert methods["reload_routes"]() == "OK"
