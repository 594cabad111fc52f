"""The link between a worker and its parent: JSON over a pair of sockets.

Each message is four bytes of length and ``[kind, number, name, content]``. A request has a number,
and its answer has the same one. A notice has none and gets no answer.
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
"""Bytes of the length before each message, most significant first."""

MOST_WAITING: Final = 4 * 1024 * 1024
"""Bytes that may wait for a peer that does not read. Further notices are dropped."""

_REQUEST, _REPLY, _NOTICE = "request", "reply", "notice"


class LinkError(SipwsError):
    """The peer does not answer."""


class Link:
    """One end of the link.

    Args:
        reader: from `asyncio.open_unix_connection`.
        writer: from the same call.
        on_notice: called with the name and the content of each notice.
        answer: called with the name and the content of each request; returns the answer.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        on_notice: Callable[[str, Any], object],
        answer: Callable[[str, Any], Any] = lambda name, content: None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_notice = on_notice
        self._answer = answer
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._unanswered: dict[int, float] = {}
        """When each request was sent, on the event loop's clock, also if it has timed out since."""
        self._is_lost = False

    async def run(self) -> None:
        """Read messages until the peer closes the link."""
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
        """Seconds since the oldest request without an answer was sent; 0 without one."""
        since = next(iter(self._unanswered.values()), None)
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    async def ask(self, name: str, content: Any = None, *, timeout: float) -> Any:
        """Send a request, and wait for the answer.

        Args:
            name: of the request.
            content: a value that JSON can hold.
            timeout: seconds to wait.

        Returns:
            the content of the answer.

        Raises:
            LinkError: the link is closed, or no answer came in time.
        """
        if self._is_lost:
            raise LinkError("is gone")
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        asked = self._asked[number] = loop.create_future()
        self._unanswered[number] = loop.time()
        self._write(_REQUEST, number, name, content)
        try:
            async with asyncio.timeout(timeout):
                return await asked
        except TimeoutError:
            raise LinkError("does not answer") from None
        finally:
            del self._asked[number]

    def notify(self, name: str, content: Any = None) -> None:
        """Send a notice; dropped if the link is closed or `MOST_WAITING` bytes wait. Never raises.

        Args:
            name: of the notice.
            content: a value that JSON can hold.
        """
        if not self._is_lost and self._writer.transport.get_write_buffer_size() < MOST_WAITING:
            self._write(_NOTICE, None, name, content)

    async def flush(self) -> None:
        """Wait until the system has taken all that was sent; never raises."""
        if self._writer.is_closing():
            return
        try:
            self._writer.transport.set_write_buffer_limits(0)
            await self._writer.drain()
        except ConnectionError:
            log.debug("the peer has closed the link")

    def _take(self, kind: str, number: int | None, name: str, content: Any) -> None:
        if kind == _REPLY and number is not None:
            # Answers come in order. A request that raised gets none.
            for earlier in [each for each in self._unanswered if each <= number]:
                del self._unanswered[earlier]
            asked = self._asked.get(number)
            # It may have timed out.
            if asked is not None and not asked.done():
                asked.set_result(content)
            return
        try:
            if kind == _NOTICE:
                self._on_notice(name, content)
            else:
                self._write(_REPLY, number, name, self._answer(name, content))
        except Exception:
            log.exception("the %s %s of the link failed", kind, name)

    def _write(self, *message: Any) -> None:
        data = json.dumps(message).encode()
        # The transport knows of a closed link a moment before `run` does.
        if not self._writer.is_closing():
            self._writer.write(len(data).to_bytes(LENGTH, "big") + data)
