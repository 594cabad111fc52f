"""The reader of request bodies: bounded in size and in time."""

import asyncio
import json
from typing import Final, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from hep.view.web.problems import ProblemError
from hep.view.web.queries import checked

LONGEST_BODY: Final = 64 * 1024
"""Bytes of a body. A longer body gets 413."""

MOST_DISCARDED: Final = 4 * 1024 * 1024
"""Bytes of a body that is too long that are read and dropped. Closing with unread bytes resets the
connection, and the client loses the answer."""

BODY_TIMEOUT: Final = 10.0
"""Seconds for a body, at whatever pace it comes."""

_MOST_DIGITS: Final = 18
"""Digits of a Content-Length. Python refuses to read numbers of more than 4,300."""

B = TypeVar("B", bound=BaseModel)


async def read_body(request: Request, model: type[B]) -> B:
    """Read a body in JSON.

    Args:
        request: whose body is read.
        model: what it must be.

    Raises:
        ProblemError: it is too long (413), too slow (408) or invalid (400).
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            body = await _received(request)
    except TimeoutError:
        raise ProblemError(
            408, f"the body did not come within {BODY_TIMEOUT:g} s", Connection="close"
        ) from None
    except ClientDisconnect:
        raise ProblemError(400, "the client left before its body was complete") from None
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise ProblemError(400, "the body is not JSON; send an object") from None
    return checked(model, given)


async def _received(request: Request) -> bytes:
    body = bytearray()
    size = 0
    length = request.headers.get("content-length", "")
    too_long = len(length) > _MOST_DIGITS or (length.isdecimal() and int(length) > LONGEST_BODY)
    async for part in request.stream():
        size += len(part)
        too_long = too_long or size > LONGEST_BODY
        if not too_long:
            body += part
        elif size > MOST_DISCARDED:
            break
    if too_long:
        raise ProblemError(413, f"the body is longer than {LONGEST_BODY} bytes", Connection="close")
    return bytes(body)
