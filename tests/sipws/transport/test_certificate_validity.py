"""When certificates end, read as OpenSSL reads it; what is warned of, and what the metric says."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from sipws.cli.main import main
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application
from sipws.service.commands import methods_of
from sipws.service.statistics import families
from sipws.transport.certificate_validity import validities, validity_of

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
NAME = "sipws_tls_certificate_expiry_seconds"


def certificate(begins: datetime, ends: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sip.example.com")])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), x509.random_serial_number())
    return builder.not_valid_before(begins).not_valid_after(ends).sign(KEY, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    key = KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key + b"".join(x.public_bytes(serialization.Encoding.PEM) for x in certificates)


MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(9999, 12, 31)).map(
    lambda x: x.replace(microsecond=0, tzinfo=UTC)
)


@given(first=MOMENTS, second=MOMENTS)
@example(first=datetime(1950, 1, 1, tzinfo=UTC), second=datetime(1999, 12, 31, tzinfo=UTC))
@example(first=datetime(2049, 12, 31, tzinfo=UTC), second=datetime(2050, 1, 1, tzinfo=UTC))
def test_it_is_read_as_others_read_it_both_ways(first: datetime, second: datetime) -> None:
    made = certificate(min(first, second), max(first, second))
    found = validity_of(made.public_bytes(serialization.Encoding.DER))
    assert found.begins == made.not_valid_before_utc.timestamp()
    assert found.ends == made.not_valid_after_utc.timestamp()


DER = certificate(NOW, NOW + DAY).public_bytes(serialization.Encoding.DER)


@given(data=st.binary(max_size=60) | st.integers(0, len(DER) - 1).map(lambda n: DER[:n]))
def test_no_bytes_are_more_than_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        validity_of(data)


def test_a_chain_is_read_in_its_order() -> None:
    chain = certificate(NOW, NOW + DAY), certificate(NOW, NOW + 2 * DAY)
    ends = [validity.ends for validity in validities(b"words\n" + pem(*chain))]
    assert ends == [(NOW + DAY).timestamp(), (NOW + 2 * DAY).timestamp()]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a configuration with a certificate: ``write(begins, ends)``, in days from now."""

    def written(*spans: tuple[float, float], mode: int = 0o600, more: str = "") -> Path:
        made = (certificate(NOW + DAY * begins, NOW + DAY * ends) for begins, ends in spans)
        path = tmp_path / "server.pem"
        path.write_bytes(pem(*made))
        os.chmod(path, mode)
        config = tmp_path / "sipws.toml"
        config.write_text(
            '[transport]\nlisten = "wss:127.0.0.1:0"\ntls_certificate = "server.pem"\n' + more
        )
        return config

    return written


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ((-90, -1), f"has expired on {NOW - DAY:%Y-%m-%d}"),
        ((1, 90), f"is not valid before {NOW + DAY:%Y-%m-%d}"),
        ((-1, 13.5), "expires in 13 days, on "),
        ((-1, 1.5), "expires in 1 day, on "),
        ((-1, 0.5), "expires in less than a day"),
        ((-1, 14.5), None),
        ((-1, 90), None),
    ],
)
def test_config_check_warns_of_the_end(
    write: Any, span: tuple[float, float], said: str | None, capsys: Any
) -> None:
    assert main(["config", "check", str(write(span))]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == int(said is not None)
    assert (said or "") in err


def test_config_check_warns_of_a_chain_that_ends_before(write: Any, capsys: Any) -> None:
    assert main(["config", "check", str(write((-1, 90), (-90, -1)))]) == 0
    assert "server.pem, certificate 2 of its chain, has expired on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "is_warned"), [(0o644, True), (0o604, True), (0o640, False), (0o400, False)]
)
def test_config_check_warns_of_a_key_that_others_can_read(
    write: Any, mode: int, is_warned: bool, capsys: Any
) -> None:
    assert main(["config", "check", str(write((-1, 90), mode=mode))]) == 0
    assert ("can be read by every user" in capsys.readouterr().err) is is_warned


async def test_the_metric_follows_a_reload_which_warns(
    write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    more = '[[transport.tls]]\nserver_names = ["SIP.example.com"]\ncertificate = "server.pem"\n'
    config = Config.load(write((-1, 90), more=more))

    def told(application: Application) -> dict[str, Any]:
        [family] = [family for family in families(application) if family.name == NAME]
        return {labels["name"]: value for labels, value in family.samples}

    async with Application(ResolvedConfig.of(config)) as application:
        ends = (NOW + 90 * DAY).timestamp()
        assert told(application) == {"*": ends, "sip.example.com": ends}
        write((-1, 3), more=more)
        assert methods_of(application)["tls_reload"]() == "OK"
        ends = (NOW + 3 * DAY).timestamp()
        assert told(application) == {"*": ends, "sip.example.com": ends}
    assert "expires in 2 days" in caplog.text
