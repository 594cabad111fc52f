"""A filter in Python, by its import path."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sipws.errors import ConfigurationError
from sipws.tracing.filter import load_callable

MODULE = """\
LIMIT = 5

def office(connection) -> bool:
    return connection.peer.startswith("192.0.2.")

class Filters:
    @staticmethod
    def all(connection) -> bool:
        return True
"""


@pytest.fixture(autouse=True)
def filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_filters.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_filters", raising=False)


@pytest.mark.parametrize("path", ["my_filters:office", "my_filters:Filters.all"])
def test_a_function_is_found_and_decides(path: str) -> None:
    assert load_callable(path)(SimpleNamespace(peer="192.0.2.5")) is True


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("my_filters", "MODULE:FUNCTION"),
        (":office", "MODULE:FUNCTION"),
        ("nowhere:office", "'nowhere' cannot be imported"),
        ("my_filters:home", "there is no 'home'"),
        ("..:office", "'..' cannot be imported"),
        (".my_filters:office", "'.my_filters' cannot be imported"),
        ("my_filters\0:office", "cannot be imported"),
        ("my_filters:LIMIT", "nothing that can be called"),
    ],
)
def test_an_invalid_filter_raises_with_the_remedy(path: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_callable(path)
    assert repr(path) in str(refused.value)
    assert problem in str(refused.value)
