"""The modules of the page that need no browser, run with Node; and rules that all modules keep."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import hep.view

PAGE = Path(hep.view.__file__).parent / "page"
MODULES = sorted(PAGE.rglob("*.js"))
LONGEST_FILE = 600
WAYS = (
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
    "DOMParser", "srcdoc", "setAttribute('style'", "javascript:",
)  # fmt: skip
"""How text becomes markup or script."""


def test_what_needs_no_browser(find: Any, tmp_path: Path) -> None:
    node = find.program("node", remedy="install Debian's package nodejs")
    # Node takes a `.js` for a module if a package.json says so; the page needs none.
    shutil.copytree(PAGE, tmp_path / "page")
    (tmp_path / "page" / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(
        [node, "--test", str(Path(__file__).parent / "pure.mjs")],
        env={"PAGE": str(tmp_path / "page"), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_way_for_content_to_become_markup(module: Path) -> None:
    text = module.read_text()
    for way in WAYS:
        assert way not in re.sub(r"(?m)^\s*(//|\*).*$", "", text), way


def test_nothing_is_inline_or_loaded_from_elsewhere() -> None:
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\bstyle=|\bon\w+=", page)
    for file in [*MODULES, PAGE / "index.html", PAGE / "style.css"]:
        found = re.findall(r"https?://[^\s'\"`)]+|@import|url\(", file.read_text())
        assert [each for each in found if each != "http://www.w3.org/2000/svg"] == [], file


@pytest.mark.parametrize("module", [*MODULES, PAGE / "style.css"], ids=lambda path: path.name)
def test_files_are_short_enough_to_read(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= LONGEST_FILE
