"""A reason why a packet is lost or altered."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that happens to a packet, and its remedy."""

    rule: str
    """Stable identifier of the rule, for scripts."""
    what: str
    """What happens and why, for users."""
    remedy: str
    """The change at the sender or the collector that avoids it, for users."""


def shown(value: bytes, most: int = 60) -> str:
    """Quote a value from the network for a message to users.

    Args:
        value: the value.
        most: bytes of it that are shown.
    """
    text = ascii(value[:most].decode(errors="replace").rstrip("\ufffd") or "")
    return f"{text[:-1]}…{text[-1]}" if len(value) > most else ascii(value.decode(errors="replace"))
