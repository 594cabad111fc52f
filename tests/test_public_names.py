"""What a package names is what is public: for completion, ``import *`` and readers."""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

MODULES = ("sipws", "hep", "sipws.sip", "sipws.events", "sipws.bus")
DOCUMENTED = [
    Path(__file__).parents[1] / "README.md",
    *sorted((Path(__file__).parents[1] / "docs").glob("**/*.md")),
    *sorted((Path(__file__).parents[1] / "examples").glob("*.py")),
]


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_what_is_named_is_there_once_and_nothing_else_is_named(module: ModuleType) -> None:
    names = module.__all__
    assert len(names) == len(set(names))
    assert dir(module) == sorted(names)
    for name in names:
        assert not name.startswith("_") or name == "__version__"
        found = getattr(module, name)
        if inspect.ismodule(found):
            assert found.__name__ == f"{module.__name__}.{name}"
        else:
            # No name of another library, such as `Any`.
            home = getattr(found, "__module__", module.__name__)
            assert home.partition(".")[0] in ("sipws", "hep", "types", "typing"), name


def test_what_the_documentation_imports_is_named(module: ModuleType) -> None:
    imported = rf"^from {re.escape(module.__name__)} import (\([^)]*\)|[^\n(]*)"
    found = {
        name.strip()
        for path in DOCUMENTED
        for names in re.findall(imported, path.read_text(), re.MULTILINE)
        for name in names.strip("()").split(",")
        if name.strip()
    }
    assert found <= set(module.__all__)


def test_each_event_is_named() -> None:
    events = importlib.import_module("sipws.events")
    defined = {
        name
        for name, each in vars(events).items()
        if inspect.isclass(each) and issubclass(each, events.ConnectionEvent)
    }
    assert defined <= set(events.__all__)
