"""The exceptions that hep raises.

.. code-block:: text

    HepError
    ├── HepDecodeError   bytes are no HEP packet
    ├── HepEncodeError   a packet cannot be encoded
    ├── HepIdError       a text is not a HEP id
    └── HepSpoolError    a directory cannot be used as a spool
"""


class HepError(Exception):
    """The base class: ``except HepError`` catches every exception of hep."""


class HepDecodeError(HepError):
    """Bytes are no HEP packet.

    Args:
        reason: the problem.
        offset: its position in bytes from the start of the packet.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        """The problem."""
        self.offset = offset
        """Position of the problem in bytes from the start of the packet."""

    def __str__(self) -> str:
        return f"at byte {self.offset}: {self.reason}"


class HepEncodeError(HepError):
    """A packet cannot be encoded: a value does not fit its chunk, or the packet is too long."""


class HepIdError(HepError):
    """A text is not a HEP id (OpenSIPS proto_hep parameter ``hep_id``)."""


class HepSpoolError(HepError):
    """A directory cannot be used as a spool."""
