"""Follows the live list of a viewer in a thread, and connects again when it is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Final

from hep.cli.top_calls import EventReader, Status, Wanted, changes_of, status_of
from hep.cli.view_client import RefusedError, ViewClient, ViewerError
from hep.view.model.summary import CallSummary

ROWS: Final = 200
"""Calls of the list that is read at the start."""

FIRST_WAIT: Final = 0.5
"""Seconds before the first attempt to connect again. Each further one takes twice as long."""

LONGEST_WAIT: Final = 8.0
"""Seconds between two attempts at most."""

REST: Final = 1.0
"""Seconds between two readings of the list at least, where more changes than the stream carries."""

MOST_WAITING: Final = 1_000
"""Messages that wait for the screen; the feed waits for it then."""


class Whole(list[CallSummary]):
    """The list as it was read; it replaces all rows."""


class Changed(list[CallSummary]):
    """Rows that are new or have changed."""


class Lost(str):
    """The connection is lost, and why. The feed connects again."""

    __slots__ = ()


class Ended(Exception):  # noqa: N818 - a message
    """The feed has ended: the viewer refuses it, or could not be reached at the start."""


News = Whole | Changed | Status | Lost | Ended


class Feed:
    """Follows a viewer.

    Args:
        client: asks it.
        wanted: which calls are read. Changes come of all.
        wake: called from the thread when there is something new.
    """

    def __init__(self, client: ViewClient, wanted: Wanted, wake: Callable[[], object]) -> None:
        self._client = client
        self._wanted = wanted
        self._wake = wake
        self._news: SimpleQueue[News] = SimpleQueue()
        self._room = threading.Semaphore(MOST_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hep top", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon. The thread may wait for the viewer; it ends with the program."""
        self._stop.set()
        self._room.release()

    def news(self) -> list[News]:
        """What has come since the last call."""
        found: list[News] = []
        try:
            while True:
                found.append(self._news.get_nowait())
                self._room.release()
        except Empty:
            return found

    def _put(self, news: News) -> None:
        self._room.acquire()
        self._news.put(news)
        self._wake()

    def _run(self) -> None:
        wait, has_worked = FIRST_WAIT, False
        while not self._stop.is_set():
            why = "the viewer has ended the stream"
            try:
                for _ in self._follow():
                    wait, has_worked = FIRST_WAIT, True
                    if self._stop.is_set():
                        return
            except RefusedError as exc:
                self._put(Ended(str(exc)))
                return
            except ViewerError as exc:
                if not has_worked:
                    self._put(Ended(str(exc)))
                    return
                why = str(exc)
            self._put(Lost(why))
            self._stop.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _follow(self) -> Iterator[None]:
        """Follow one stream; yields after each event.

        Raises:
            ViewerError: it is lost, or none.
        """
        # The list is read after the stream has begun, so that no change is missed.
        reader, is_stale, read_at = EventReader(), True, -REST
        for line in self._client.lines("live"):
            try:
                event = reader.feed(line)
                if event is None:
                    continue
                name, data = event
                if name == "status":
                    self._put(status_of(data))
                if name == "calls":
                    rows, more = changes_of(data)
                    if rows:
                        self._put(Changed(rows))
                    is_stale = is_stale or more > 0
                if is_stale and time.monotonic() - read_at >= REST:
                    self._read()
                    is_stale, read_at = False, time.monotonic()
            except (ValueError, RecursionError) as exc:
                raise self._client.strange() from exc
            yield

    def _read(self) -> None:
        parameters = {**self._wanted.parameters, "limit": ROWS}
        rows, _ = changes_of(self._client.get("calls", parameters))
        self._put(Whole(rows))
