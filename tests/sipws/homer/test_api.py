"""What the client of homer-app says about servers that are missing, or are something else."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from sipws.errors import ConfigurationError, SipwsError
from sipws.homer import api
from sipws.homer.api import HomerApp, HomerError
from tests.sipws.homer.stand_in import CLOSED, Answer, Served, StandIn

PASSWORD = "sipcapture"


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def served(stand_in: StandIn) -> Iterator[Served]:
    with Served(stand_in) as served:
        yield served


@contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of one connection that does what it is given."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            with suppress(OSError):
                connected, _ = listening.accept()
                with connected:
                    serve(connected)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def logged_in(url: str, user: str = "admin", password: str = PASSWORD) -> HomerApp:
    homer = HomerApp(url)
    homer.log_in(user, password)
    return homer


def test_an_administrator_logs_in(served: Served, stand_in: StandIn) -> None:
    homer = logged_in(served.url + "/")
    assert homer.is_admin is True
    assert stand_in.requests == [("POST", "/auth")]


@pytest.mark.parametrize("suffix", ["/homer", "/homer/", "/homer/api/v3", "/api/v3/"])
def test_homer_may_be_behind_a_path(served: Served, suffix: str) -> None:
    assert logged_in(served.url + suffix).existing().mappings


@pytest.mark.parametrize(("user", "password"), [("admin", "wrong-one"), ("nobody", "wrong-one")])
def test_a_wrong_password_is_reported_without_it(served: Served, user: str, password: str) -> None:
    with pytest.raises(ConfigurationError, match=f"user '{user}' or the password is wrong") as exc:
        logged_in(served.url, user, password)
    assert password not in str(exc.value)


@pytest.mark.parametrize(
    "url",
    ["homer", "ftp://h", "http://", "http://h:x", "http://[::1", "http://h?a=1", "http://h/#a", ""],
)
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the URL of a homer-app"):
        HomerApp(url)


def test_a_url_with_a_password_is_refused_without_quoting_it() -> None:
    with pytest.raises(ConfigurationError, match="@homer") as exc:
        HomerApp("http://admin:hunter2@homer")
    assert "hunter2" not in str(exc.value)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ConfigurationError, match=r"no connection .* is homer-app running there"):
        logged_in(url)


def test_a_proxy_of_the_environment_is_not_asked(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert logged_in(served.url).user == "admin"


def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "TIMEOUT", 0.05)
    ended = threading.Event()
    with raw_server(lambda connected: bool(ended.wait(30)) and None) as url:
        with pytest.raises(HomerError, match=r"does not answer POST /api/v3/auth within 0\.05 s"):
            logged_in(url)
        ended.set()


def test_a_connection_that_is_closed_without_an_answer(served: Served, stand_in: StandIn) -> None:
    stand_in.fault = lambda method, path: CLOSED
    with pytest.raises(HomerError, match="closes the connection without an answer"):
        logged_in(served.url)


def test_something_that_does_not_speak_http() -> None:
    def greet(connected: socket.socket) -> None:
        connected.sendall(b"220 mail.example.com ESMTP\r\n")
        connected.recv(1000)

    with raw_server(greet) as url, pytest.raises(ConfigurationError, match="does not speak HTTP"):
        logged_in(url)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<!doctype html><title>Welcome</title>"),
        Answer(404, b"404 page not found"),
        Answer(200, []),
        Answer(200, {"token": 5}),
        Answer(200, {"token": "a\r\nb"}),
        Answer(200, b"[" * 100_000),
        Answer(200, "text"),
    ],
    ids=lambda answer: str(answer.body)[:12],
)
def test_something_else_than_homer_app(served: Served, stand_in: StandIn, answer: Answer) -> None:
    stand_in.fault = lambda method, path: answer
    with pytest.raises(ConfigurationError, match="is not homer-app"):
        logged_in(served.url)


def test_a_redirect_is_not_followed(served: Served, stand_in: StandIn) -> None:
    stand_in.fault = lambda method, path: Answer(301, "")
    with pytest.raises(ConfigurationError, match=r"redirects to 'https://homer\.example\.com/'"):
        logged_in(served.url)
    assert len(stand_in.requests) == 1


def test_an_answer_without_end(
    served: Served, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "LONGEST_ANSWER", 1000)
    stand_in.fault = lambda method, path: Answer(200, {"token": "x", "more": "x" * 1000})
    with pytest.raises(ConfigurationError, match="is not homer-app"):
        logged_in(served.url)


@pytest.mark.parametrize(
    "body",
    [
        {"count": 0},
        {"data": None},
        {"data": [5]},
        {"data": [{"hepid": "1", "profile": "a", "guid": "b"}]},
        {"data": [{"hepid": 1, "profile": "a"}]},
    ],
)
def test_a_list_of_another_form(served: Served, stand_in: StandIn, body: object) -> None:
    homer = logged_in(served.url)
    stand_in.fault = lambda method, path: Answer(200, body)
    with pytest.raises(ConfigurationError, match="the list of mappings has another form"):
        homer.existing()


def test_a_dashboard_of_another_form(served: Served, stand_in: StandIn) -> None:
    homer = logged_in(served.url)
    stand_in.fault = lambda method, path: Answer(200, {"data": 1}) if "dash" in path else None
    with pytest.raises(ConfigurationError, match="the dashboard sipws has another form"):
        homer.existing()


def test_what_homer_says_is_quoted_without_secrets(served: Served, stand_in: StandIn) -> None:
    homer = logged_in(served.url)
    said = f"no {PASSWORD} and token-of-admin " + "x" * 1000
    stand_in.fault = lambda method, path: Answer(500, {"message": said})
    with pytest.raises(HomerError) as exc:
        homer.existing()
    assert "(500: no *** and *** xxx" in str(exc.value)
    assert len(str(exc.value)) < 500


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(stand_in: StandIn, authority: trustme.CA) -> Iterator[Served]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Served(stand_in, context) as served:
        yield served


def test_a_certificate_of_ones_own_authority(
    secure: Served, authority: trustme.CA, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    homer = HomerApp(secure.url, ca)
    homer.log_in("admin", PASSWORD)
    assert homer.existing().mappings
    with pytest.raises(ConfigurationError, match=r"the certificate is not accepted .* give --ca"):
        logged_in(secure.url)


def test_tls_where_there_is_none(served: Served) -> None:
    with pytest.raises(ConfigurationError, match=r"TLS fails .* give an http URL"):
        logged_in(served.url.replace("http:", "https:"))


def test_no_tls_where_there_is_tls(secure: Served) -> None:
    with pytest.raises(SipwsError):
        logged_in(secure.url.replace("https:", "http:"))


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("x", "no certificate")])
def test_a_wrong_ca_file_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    with pytest.raises(ConfigurationError, match=said):
        HomerApp("https://127.0.0.1", ca)


def test_a_ca_file_needs_https(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not an https URL"):
        HomerApp("http://127.0.0.1", tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("url", "in_clear"),
    [
        ("http://127.0.0.1", False),
        ("http://localhost:9080", False),
        ("http://[::1]", False),
        ("http://homer.example.com", True),
        ("https://homer.example.com", False),
    ],
)
def test_a_password_in_clear_is_known(url: str, in_clear: bool) -> None:
    assert HomerApp(url).sends_in_clear is in_clear
