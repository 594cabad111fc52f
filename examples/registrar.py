"""A registrar with digest authentication (RFC 3261 sections 10.3 and 22.4).

Run it, then register as sip:alice@example.com, password wonderland, at ws://127.0.0.1:8080/.
"""

import asyncio
import hashlib
import hmac
import secrets
import time

import sipws
from sipws.sip import Request, response, split_values

DOMAIN, USERS = "example.com", {"alice": "wonderland"}
EXPIRES, NONCE_TIME, MOST_CONTACTS = 600, 300, 10
"""Seconds of a registration and of a nonce, at most; contacts of a user, at most."""
SECRET = secrets.token_bytes(16)
contacts: dict[str, dict[str, float]] = {}
"""The contacts of each user, with the time at which each expires."""


def digest(*parts: str) -> str:
    """Hash parts with MD5, which every phone has."""
    return hashlib.md5(":".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def nonce(issued: str) -> str:
    """Make a nonce that can be checked without having been stored."""
    return f"{issued}.{hmac.new(SECRET, issued.encode(), 'sha256').hexdigest()}"


def user_of(request: Request, now: float) -> str | None:
    """Return the user whose password the request proves, with a nonce that is valid."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    pairs = [each.partition("=") for each in split_values(rest)]
    given = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
    user, issued = given.get("username", ""), given.get("nonce", "").partition(".")[0]
    if scheme.lower() != "digest" or user not in USERS or not issued.isascii():
        return None
    if given.get("nonce") != nonce(issued) or now - int(issued) > NONCE_TIME:
        return None
    qop = [given.get("nc", ""), given.get("cnonce", ""), "auth"] if "qop" in given else []
    secret, what = digest(user, DOMAIN, USERS[user]), digest(request.method, request.uri)
    return user if given.get("response") == digest(secret, given["nonce"], *qop, what) else None


def register(request: Request, now: float) -> tuple[int, list[tuple[str, str]]]:
    """Take a REGISTER, and return the status and the headers of its response."""
    if (user := user_of(request, now)) is None:
        challenge = f'Digest realm="{DOMAIN}", nonce="{nonce(str(int(now)))}", qop="auth"'
        return 401, [("WWW-Authenticate", challenge)]
    known = {uri: ends for uri, ends in contacts.get(user, {}).items() if ends > now}
    for contact in request.contacts:
        asked = contact.parameters.get("expires") or request.headers.get("expires", "")
        known[contact.uri] = now + min(int(asked[:9]) if asked.isdecimal() else EXPIRES, EXPIRES)
    known = {uri: ends for uri, ends in known.items() if ends > now and "*" not in known}
    if request.to.uri != f"sip:{user}@{DOMAIN}" or len(known) > MOST_CONTACTS:
        return 403, []
    contacts[user] = known
    return 200, [("Contact", f"<{uri}>;expires={ends - now:.0f}") for uri, ends in known.items()]


def answer(flow: sipws.Flow, message: bytes) -> None:
    """Called with each SIP message."""
    request = Request.parse(message)
    if request is not None and request.method == "REGISTER":
        status, headers = register(request, time.time())
        flow.send(response(request, status, headers=headers, source=flow.connection.peer))
    elif request is not None and request.method != "ACK":
        source = flow.connection.peer
        flow.send(response(request, 405, headers={"Allow": "REGISTER"}, source=source))


if __name__ == "__main__":
    asyncio.run(sipws.Server(["ws:127.0.0.1:8080"], answer).serve_forever())
