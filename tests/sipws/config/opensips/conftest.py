"""An opensips.cfg that a test writes, and what is read of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sipws.config.opensips.reader import OpensipsCfg, read

Write = Callable[..., OpensipsCfg]


@pytest.fixture
def opensips(tmp_path: Path) -> Write:
    """Read a file with some lines, on a machine with an interface ``lan0``."""

    def write(*lines: str) -> OpensipsCfg:
        path = tmp_path / "opensips.cfg"
        path.write_text("log_level=3\n" + "\n".join(lines) + "\n")
        addresses = {"lan0": ("10.0.0.1", "2001:db8::1")}
        return read(path, lambda name: addresses.get(name, ()))

    return write
