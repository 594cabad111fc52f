"""What tests of every room share."""

from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The golden data: recorded from OpenSIPS, Kamailio, browsers and SIP stacks."""
    return DATA
