"""The one family of exceptions that hep raises.

.. code-block:: text

    HepError
    ├── HepDecodeError   bytes are no HEP packet
    ├── HepEncodeError   a packet cannot be written
    ├── HepIdError       a destination is not written as a HEP id
    └── HepSpoolError    a directory cannot hold packets
"""


class HepError(Exception):
    """The root: ``except HepError`` catches all that hep raises."""


class HepDecodeError(HepError):
    """Bytes are no HEP packet."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        """What is wrong."""
        self.offset = offset
        """Where, in bytes from the start of the packet."""

    def __str__(self) -> str:
        return f"at byte {self.offset}: {self.reason}"


class HepEncodeError(HepError):
    """A packet cannot be written: a value does not fit its chunk, or the packet its length."""


class HepIdError(HepError):
    """A destination is not written as a HEP id."""


class HepSpoolError(HepError):
    """A directory cannot hold packets for later."""
