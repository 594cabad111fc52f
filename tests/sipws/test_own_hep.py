"""Another distribution with a package ``hep`` in the place of ours is named, not stumbled over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["replaced", "removed", "shadowed"])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with our packages, whose ``hep`` another distribution has spoiled."""
    (tmp_path / "sipws").symlink_to(ROOT / "sipws")
    ours = tmp_path / "hep"
    ours.mkdir()
    if request.param == "shadowed":
        (ours / "__init__.py").write_text("")
        return tmp_path
    for each in (ROOT / "hep").iterdir():
        if each.name not in ("__init__.py", "__pycache__"):
            (ours / each.name).symlink_to(each)
    if request.param == "replaced":
        # That of PyPI is an empty file.
        (ours / "__init__.py").write_text("")
    return tmp_path


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without site-packages of an editable install, which would find ours.
    path = os.pathsep.join([str(installed), *(each for each in sys.path if "site-pack" in each)])
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=installed,
        check=False,
    )


def test_importing_sipws_says_so(installed: Path) -> None:
    done = run(installed, "-c", "import sipws")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: the package hep in {installed}")
    assert "pip uninstall hep" in last


@pytest.mark.parametrize("program", ["sipws", "hep"])
def test_the_programs_say_so_without_a_traceback(installed: Path, program: str) -> None:
    script = installed / "bin" / program
    script.parent.mkdir()
    module = f"{program}.cli.main"
    script.write_text(f"import sys\nfrom {module} import main\nsys.exit(main())\n")
    if not (installed / "hep" / "cli").exists() and program == "hep":
        pytest.skip("the other distribution has no command hep")
    done = run(installed, str(script), "--help")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"{program}: the package hep in {installed}")
    assert "Traceback" not in done.stderr


def test_our_own_is_accepted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sipws.own_hep as own; own.check()"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
