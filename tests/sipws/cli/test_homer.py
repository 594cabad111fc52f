"""``sipws homer`` against a stand-in that answers as homer-app does."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sipws.cli import homer as homer_cli
from sipws.cli.homer import PASSWORD
from sipws.cli.main import main
from sipws.homer import files
from tests.sipws.homer.stand_in import CLOSED, Answer, Served, StandIn

Run = Callable[..., int]
SECRET = "sipcapture"


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def served(stand_in: StandIn) -> Iterator[Served]:
    with Served(stand_in) as served:
        yield served


@pytest.fixture
def install(served: Served, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv(PASSWORD, SECRET)

    def run(*words: str, user: str = "admin") -> int:
        return main(["homer", "install", "--url", served.url, "--user", user, *words])

    return run


@pytest.fixture(autouse=True)
def output_without_secrets(capsys: Any) -> Iterator[None]:
    """No output of any test has the password or a token."""
    written: list[str] = []
    read = capsys.readouterr

    def readouterr() -> Any:
        result = read()
        written.extend(result)
        return result

    capsys.readouterr = readouterr
    yield
    readouterr()
    assert not re.search(f"{SECRET}|token-of|Bearer", "".join(written))


def state(stand_in: StandIn) -> Any:
    by_guid = {each["guid"]: each for each in stand_in.mappings}
    return copy.deepcopy((by_guid, stand_in.dashboards))


def test_it_installs_everything_and_says_so(install: Run, stand_in: StandIn, capsys: Any) -> None:
    assert install() == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "mapping 35 default (WEBSOCKET): created",
        "mapping 1 call (SIP): changed: 1 lookup added, 1 lookup changed",
        "mapping 1 registration (SIP): changed: 1 lookup added, 1 lookup changed",
        "mapping 1 default (SIP): changed: 1 lookup added, 1 lookup changed",
        "mapping 100 default (LOG): changed: 1 lookup added",
        "dashboard sipws: created",
        "Reload Homer's page in the browser.",
        'sipws must run with trace_sip_correlation = "connection" in [tracing].',
    ]
    assert err == ""
    assert (
        stand_in.mapping(35, "default")["fields_mapping"]
        == files.wanted().mapping["fields_mapping"]
    )
    assert stand_in.dashboards["admin", "sipws"] == files.wanted().dashboard
    [logs, *_] = stand_in.mapping(1, "call")["correlation_mapping"]
    assert logs["lookup_range"] == [-300, 7200]


def test_a_second_run_sends_no_change(install: Run, stand_in: StandIn, capsys: Any) -> None:
    install()
    capsys.readouterr()
    stand_in.requests.clear()
    assert install() == 0
    assert stand_in.written == []
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.endswith(": unchanged")]) == 6
    assert "nothing to change" in lines


def test_removing_leaves_homer_as_it_was(install: Run, stand_in: StandIn, capsys: Any) -> None:
    before = state(stand_in)
    install()
    capsys.readouterr()
    assert install("--remove") == 0
    assert state(stand_in) == before
    assert capsys.readouterr().out.splitlines() == [
        "mapping 35 default (WEBSOCKET): deleted",
        "mapping 1 call (SIP): changed: 1 lookup changed, 1 lookup removed",
        "mapping 1 registration (SIP): changed: 1 lookup changed, 1 lookup removed",
        "mapping 1 default (SIP): changed: 1 lookup changed, 1 lookup removed",
        "mapping 100 default (LOG): changed: 1 lookup removed",
        "dashboard sipws: deleted",
    ]
    assert install("--remove") == 0
    assert "nothing to change" in capsys.readouterr().out


def test_a_dry_run_shows_the_difference_and_sends_nothing(
    install: Run, stand_in: StandIn, capsys: Any
) -> None:
    before = state(stand_in)
    assert install("--dry-run") == 0
    assert stand_in.written == []
    assert state(stand_in) == before
    out = capsys.readouterr().out
    assert out.startswith("mapping 35 default (WEBSOCKET): would be created\n")
    assert "--- mapping 1 call (SIP), as it is\n+++ mapping 1 call (SIP), as it is to be\n" in out
    assert '+  {"source_field": "protocol_header.correlation_id", "lookup_id": 35' in out
    assert out.endswith("nothing was changed (--dry-run)\n")
    assert "\x1b" not in out


def test_a_dry_run_is_coloured_on_a_terminal(
    install: Run, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    install("--dry-run")
    assert '\x1b[32m+  {"source_field"' in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    install("--dry-run")
    assert "\x1b" not in capsys.readouterr().out


def test_the_other_setting_is_said(install: Run, stand_in: StandIn, capsys: Any) -> None:
    assert install("--sip-correlation", "call") == 0
    assert 'trace_sip_correlation = "call"' in capsys.readouterr().out
    lookups = stand_in.mapping(1, "registration")["correlation_mapping"]
    assert any(each["lookup_field"] == "(data_header::text || raw)" for each in lookups)


def test_a_user_who_is_no_administrator(
    install: Run, stand_in: StandIn, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, "secret")
    assert install(user="reader") == 2
    assert stand_in.written == []
    assert "user 'reader' is not an administrator of Homer" in capsys.readouterr().err
    assert install("--dry-run", user="reader") == 0


def test_homer_app_forbids_a_change(install: Run, stand_in: StandIn, capsys: Any) -> None:
    forbidden = Answer(403, {"message": "This API requires admin access."})
    stand_in.fault = lambda method, path: forbidden if method == "PUT" else None
    assert install() == 1
    err = capsys.readouterr().err
    assert "user 'admin' may not do this (403: This API requires admin access.)" in err
    assert "done: mapping 35 default (WEBSOCKET)\n" in err


@pytest.mark.parametrize(
    "answer", [Answer(500, {"message": "disk full"}), CLOSED, Answer(200, b"<")]
)
def test_a_failure_in_the_middle_says_what_was_done(
    install: Run, stand_in: StandIn, capsys: Any, answer: Answer
) -> None:
    registration = stand_in.mapping(1, "registration")["guid"]
    stand_in.fault = lambda method, path: answer if registration in path else None
    assert install() == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("mapping 1 call (SIP): changed")
    assert "done: mapping 35 default (WEBSOCKET), mapping 1 call (SIP)\n" in err
    left = "mapping 1 registration (SIP), mapping 1 default (SIP), mapping 100 default (LOG)"
    assert f"not done: {left}, dashboard sipws\n" in err
    # The rest is done by a second run.
    stand_in.fault = lambda method, path: None
    assert install() == 0
    assert len(stand_in.all_of(35, "default")) == 1
    assert install() == 0
    assert "nothing to change" in capsys.readouterr().out


def test_a_lookup_that_would_end_all_flows_is_not_sent(
    install: Run, stand_in: StandIn, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = files.wanted
    bad = {"source_field": "sid", "lookup_id": "35", "lookup_range": [0, 0]}
    broken = files.MappingLookups(1, "call", (bad,), ())
    monkeypatch.setattr(files, "wanted", lambda mode: replace(wanted(mode), lookups=(broken,)))
    # A mistake that is there already is not ours to mend, and does not hide ours.
    stand_in.mapping(1, "call")["correlation_mapping"].append({"lookup_id": 5})
    assert install() == 1
    assert [path for method, path in stand_in.written if method == "PUT"] == []
    err = capsys.readouterr().err
    assert "would end all flows of this mapping: lookup 6: lookup_profile is missing" in err
    assert "warning: mapping 1 call (SIP), lookup 5: source_field is missing" in err


def test_what_homer_app_does_not_keep_is_reported(
    install: Run, stand_in: StandIn, capsys: Any
) -> None:
    kept = Answer(200, {"auth": "ok", "status": "ok", "total": 3})
    stand_in.fault = lambda method, path: kept if (method, path[:5]) == ("POST", "/dash") else None
    assert install() == 1
    assert "accepted, but did not keep: dashboard sipws" in capsys.readouterr().err


def test_a_mapping_of_somebody_else_is_a_warning(
    install: Run, stand_in: StandIn, capsys: Any
) -> None:
    foreign = stand_in.mapping(1, "call") | {"guid": "0" * 8 + "-0000-0000-0000-" + "0" * 12}
    foreign |= {"hepid": 35, "profile": "default", "hep_alias": "JSON"}
    stand_in.mappings.append(foreign)
    before = state(stand_in)
    assert install() == 0
    assert "sipws: warning: mapping 35 default (JSON) is not from sipws" in capsys.readouterr().err
    assert install("--remove") == 0
    assert state(stand_in) == before


def test_a_mapping_that_was_loaded_twice_is_one_afterwards(
    install: Run, stand_in: StandIn, served: Served, capsys: Any
) -> None:
    body = files.wanted().mapping
    for _ in range(2):
        stand_in.answer("POST", "/mapping/protocol", "Bearer token-of-admin", body)
    assert install() == 0
    assert len(stand_in.all_of(35, "default")) == 1
    assert "was loaded twice" in capsys.readouterr().err


def test_a_mapping_that_was_loaded_twice_is_removed_twice(install: Run, stand_in: StandIn) -> None:
    before = state(stand_in)
    for _ in range(2):
        body = files.wanted().mapping
        stand_in.answer("POST", "/mapping/protocol", "Bearer token-of-admin", body)
    assert install("--remove") == 0
    assert state(stand_in) == before


@pytest.mark.parametrize("content", [SECRET, f"{SECRET}\n", f"{SECRET}\r\nsecond line\n"])
def test_the_password_may_be_in_a_file(
    served: Served, stand_in: StandIn, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "password"
    file.write_bytes(content.encode())
    words = ["--url", served.url, "--user", "admin", "--password-file", str(file), "--dry-run"]
    assert main(["homer", "install", *words]) == 0


def test_the_password_is_asked_for_on_a_terminal(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(homer_cli.getpass, "getpass", lambda prompt: SECRET)
    assert main(["homer", "install", "--url", served.url, "--user", "admin", "--dry-run"]) == 0


def test_no_password_on_a_terminal_has_status_2(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def end_of_file(prompt: str) -> str:
        raise EOFError

    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(homer_cli.getpass, "getpass", end_of_file)
    assert main(["homer", "install", "--url", served.url, "--user", "admin"]) == 2
    assert "no password was entered" in capsys.readouterr().err


def test_without_a_password_nothing_is_asked(
    served: Served, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    words = ["homer", "install", "--url", served.url, "--user", "admin"]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert main(words) == 2
    assert f"give --password-file, set {PASSWORD}" in capsys.readouterr().err
    (tmp_path / "empty").write_text("\n")
    assert main([*words, "--password-file", str(tmp_path / "empty")]) == 2
    assert "empty is empty" in capsys.readouterr().err
    assert main([*words, "--password-file", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert stand_in.requests == []


def test_a_wrong_password_has_status_2(
    install: Run, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, "other")
    assert install() == 2
    assert "user 'admin' or the password is wrong (401)" in capsys.readouterr().err


def test_an_empty_user_is_refused_before_anything_is_asked(
    install: Run, stand_in: StandIn, capsys: Any
) -> None:
    assert install(user=" ") == 2
    assert capsys.readouterr().err == "sipws: --user is empty; name an administrator of Homer\n"


def test_no_homer_has_status_2(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "x")
    assert main(["homer", "install", "--url", "http://127.0.0.1:1", "--user", "admin"]) == 2
    assert "is homer-app running there?" in capsys.readouterr().err


def test_no_answer_has_status_1(install: Run, stand_in: StandIn, capsys: Any) -> None:
    stand_in.fault = lambda method, path: CLOSED if method == "GET" else None
    assert install() == 1
    assert "nothing was changed" in capsys.readouterr().err


def test_the_files_are_written(tmp_path: Path, capsys: Any) -> None:
    assert main(["homer", "files", str(tmp_path / "homer")]) == 0
    paths = capsys.readouterr().out.splitlines()
    assert [Path(path).name for path in paths] == list(files.NAMES)
    assert all(json.loads(Path(path).read_text()) for path in paths)
    (tmp_path / "taken").write_text("")
    assert main(["homer", "files", str(tmp_path / "taken")]) == 2
    assert "taken: cannot be written" in capsys.readouterr().err
