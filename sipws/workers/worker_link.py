"""What a worker and its parent say to each other: JSON over a pair of sockets.

Each message is four bytes of length and ``[kind, number, name, content]``: a question has a number,
its answer the same one, and news have none.
"""

import asyncio
import itertools
import json
import logging
from collections.abc import Callable
from typing import Any, Final

from sipws.errors import SipwsError

log = logging.getLogger(__name__)

LENGTH: Final = 4
"""Bytes in front of each message, the highest first."""

MOST_WAITING: Final = 4 * 1024 * 1024
"""Bytes of news that wait for an end that does not read; more news are dropped."""

_ASK, _REPLY, _TELL = "ask", "reply", "tell"


class LinkError(SipwsError):
    """The other end does not answer."""


class Link:
    """One end of it.

    Args:
        reader: from `asyncio.open_unix_connection`.
        writer: likewise.
        hear: called with the name and the content of each piece of news.
        answer: called with the name and the content of each question; returns the answer.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        hear: Callable[[str, Any], object],
        answer: Callable[[str, Any], Any] = lambda name, content: None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._hear = hear
        self._answer = answer
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._unanswered: dict[int, float] = {}
        """When each of these questions was put, whether somebody still waits or not."""
        self._is_lost = False

    async def run(self) -> None:
        """Read until the other end is gone."""
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(LENGTH), "big")
                self._take(*json.loads(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._is_lost = True
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(LinkError("is gone"))
            self._writer.close()

    @property
    def silence(self) -> float:
        """Seconds that the other end has left us without the answer that is due next."""
        since = next(iter(self._unanswered.values()), None)
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    async def ask(self, name: str, content: Any = None, *, timeout: float) -> Any:
        """Ask the other end.

        Args:
            name: what for.
            content: what JSON can say.
            timeout: seconds that the answer may take.

        Raises:
            LinkError: there is no answer.
        """
        if self._is_lost:
            raise LinkError("is gone")
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        asked = self._asked[number] = loop.create_future()
        self._unanswered[number] = loop.time()
        self._write(_ASK, number, name, content)
        try:
            async with asyncio.timeout(timeout):
                return await asked
        except TimeoutError:
            raise LinkError("does not answer") from None
        finally:
            del self._asked[number]

    def tell(self, name: str, content: Any = None) -> None:
        """Tell the other end; never raises."""
        if not self._is_lost and self._writer.transport.get_write_buffer_size() < MOST_WAITING:
            self._write(_TELL, None, name, content)

    async def flush(self) -> None:
        """Wait until what was said is on its way; never raises."""
        if self._writer.is_closing():
            return
        try:
            self._writer.transport.set_write_buffer_limits(0)
            await self._writer.drain()
        except ConnectionError:
            log.debug("the other end of the link is gone")

    def _take(self, kind: str, number: int | None, name: str, content: Any) -> None:
        if kind == _REPLY and number is not None:
            # Answers come in order; a question that failed has none.
            for earlier in [each for each in self._unanswered if each <= number]:
                del self._unanswered[earlier]
            asked = self._asked.get(number)
            # Whoever asked may have given up.
            if asked is not None and not asked.done():
                asked.set_result(content)
            return
        try:
            if kind == _TELL:
                self._hear(name, content)
            else:
                self._write(_REPLY, number, name, self._answer(name, content))
        except Exception:
            log.exception("the link's %s %s failed", kind, name)

    def _write(self, *message: Any) -> None:
        data = json.dumps(message).encode()
        # A moment before `run` sees it, the transport knows that the other end is gone.
        if not self._writer.is_closing():
            self._writer.write(len(data).to_bytes(LENGTH, "big") + data)
