"""Connections of a protocol that is switched off, apart from those that are traced."""

from collections.abc import Collection
from typing import Generic, TypeVar

from sipws.address import Proto

State = TypeVar("State")


class Paused(Generic[State]):
    """Takes connections of switched-off protocols out of a dictionary, and puts them back.

    Args:
        active: the states of the connections of protocols that are on, by id. It is changed in
            place.
    """

    __slots__ = ("_active", "_paused", "wss")

    def __init__(self, active: dict[int, State]) -> None:
        self._active = active
        self._paused: dict[int, State] = {}
        self.wss: set[int] = set()
        """The ids of those over ``wss``, among both."""

    def divide(self, on: Collection[Proto]) -> None:
        """Divide the connections again.

        Args:
            on: the protocols that are on from now on.
        """
        known = self._active | self._paused
        self._active.clear()
        self._paused.clear()
        for number, state in known.items():
            is_on = ("wss" if number in self.wss else "ws") in on
            (self._active if is_on else self._paused)[number] = state

    @property
    def states(self) -> list[State]:
        """The states of all connections, also of those of protocols that are on."""
        return [*self._active.values(), *self._paused.values()]

    def forget(self, number: int) -> None:
        """Forget a connection that has ended."""
        if self._paused:
            self._paused.pop(number, None)
        self.wss.discard(number)

    def clear(self) -> None:
        """Forget all connections."""
        self._paused.clear()
        self.wss.clear()

    def __len__(self) -> int:
        return len(self._paused) + len(self.wss)
