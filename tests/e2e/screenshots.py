"""Makes the pictures of the viewer in docs/images: ``make screenshots``."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from png import with_palette

HERE = Path(__file__).parent
IMAGES = HERE.parents[1] / "docs" / "images"
LARGEST = 120_000
"""Bytes of a picture."""


def main() -> int:
    """Make them.

    Returns:
        the exit status.
    """
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    chromium = next(filter(None, found), None)
    node = shutil.which("node")
    if chromium is None or node is None or not (HERE / "node_modules/playwright-core").exists():
        print("pictures need Chromium, Node and what 'make e2e' installs", file=sys.stderr)
        return 2
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calls.hep"
        subprocess.run([sys.executable, HERE / "view_data.py", file], check=True)
        view = subprocess.Popen(
            [sys.executable, "-m", "hep.cli", "view", "--http", "127.0.0.1:0", file],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert view.stdout is not None
            while (url := re.search(r"http://\S+", line := view.stdout.readline())) is None:
                assert line, "hep view ended"
            subprocess.run([node, "view_shots.mjs", url[0], chromium, IMAGES], cwd=HERE, check=True)
        finally:
            view.terminate()
            view.wait()
    for picture in sorted(IMAGES.glob("view-*.png")):
        picture.write_bytes(with_palette(picture.read_bytes()))
        print(f"{picture.stat().st_size:7}  {picture.relative_to(IMAGES.parents[1])}")
        if picture.stat().st_size > LARGEST:
            print(f"{picture.name} is larger than {LARGEST} bytes", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
