"""A stand-in for homer-app on loopback, which answers as the recorded exchanges do.

`test_stand_in` replays those exchanges against it.
"""

import json
import re
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]

RECORDED = Path(__file__).parents[2] / "data" / "homer-7" / "api"
SCOPE = "72a3c68b-a4e9-4c1f-93fb-f951083d935b"
NOT_FOUND = {"data": {}, "message": "data was not found"}
NO_TEXTS = {"create_table": "", "hep_alias": ""}
NO_LISTS = {"fields_mapping": {}, "fields_settings": {}}
REQUIRED = {
    "profile": "Profile",
    "hepid": "Hepid",
    "partid": "PartID",
    "version": "Version",
    "retention": "Retention",
    "partition_step": "PartitionStep",
}
COLUMNS = [
    "guid", "profile", "hepid", "hep_alias", "partid", "version", "retention", "partition_step",
    "create_index", "create_table", "correlation_mapping", "fields_mapping", "fields_settings",
    "schema_mapping", "schema_settings",
]  # fmt: skip


class Answer(NamedTuple):
    status: int
    body: Any


CLOSED = Answer(0, None)
"""The connection is closed without an answer."""


def exchange(name: str) -> Json:
    found: Json = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def whole(value: Any) -> Any:
    """A recorded value without the marks of what the recording left out."""
    if isinstance(value, dict):
        return {name: whole(member) for name, member in value.items()}
    if isinstance(value, list):
        return [whole(each) for each in value if not (isinstance(each, str) and each[:1] == "…")]
    if isinstance(value, str) and (cut := re.fullmatch(r"(.*)… \((\d+) characters\)", value)):
        return cut[1].ljust(int(cut[2]))
    return value


class StandIn:
    """homer-app with the mappings and dashboards of a new Homer 7.

    Users: ``admin`` with ``sipcapture``, ``reader`` with ``secret``, who is no administrator.
    """

    def __init__(self) -> None:
        self.mappings: list[Json] = whole(
            exchange("mapping-list-after-two-creates")["response"]["body"]["data"][:5]
        )
        self.dashboards: dict[tuple[str, str], Json] = {}
        home = whole(exchange("dashboard-get-home")["response"]["body"]["data"])
        for user in ("admin", "reader"):
            self.dashboards[user, "home"] = home
        for name, users in (
            ("dashboard-list", ["admin"]),
            ("dashboard-list-not-admin", ["reader"]),
        ):
            for each in exchange(name)["response"]["body"]["data"][1:]:
                for user in users:
                    kept = {key: each[key] for key in ("name", "param", "shared", "type", "weight")}
                    self.dashboards[user, each["id"]] = kept
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.guids: Iterator[str] = iter(lambda: str(uuid.uuid4()), "")
        self.fault: Callable[[str, str], Answer | None] = lambda method, path: None

    @property
    def written(self) -> list[tuple[str, str]]:
        """The requests that change something."""
        return [each for each in self.requests if each[0] != "GET" and each[1] != "/auth"]

    def mapping(self, hepid: int, profile: str) -> Json:
        [found] = self.all_of(hepid, profile)
        return found

    def all_of(self, hepid: int, profile: str) -> list[Json]:
        return [
            each for each in self.mappings if (each["hepid"], each["profile"]) == (hepid, profile)
        ]

    def answer(self, method: str, path: str, token: str, body: Any) -> Answer:
        self.requests.append((method, path))
        self.bodies.append(body)
        if (fault := self.fault(method, path)) is not None:
            return fault
        if (method, path) == ("POST", "/auth"):
            return self._log_in(body)
        user = token.removeprefix("Bearer token-of-")
        if not token:
            return Answer(400, {"message": "missing or malformed jwt"})
        if user not in ("admin", "reader"):
            return Answer(401, {"message": "invalid or expired jwt"})
        parts = path.strip("/").split("/")
        if parts[0] == "mapping":
            return self._mapping(method, parts[2:], user == "admin", body)
        if parts[0] == "dashboard":
            return self._dashboard(method, parts[1:], user, body)
        return Answer(404, {"message": "Not Found"})

    def _log_in(self, body: Json) -> Answer:
        missing = [name for name in ("username", "password") if not body.get(name)]
        if missing:
            names = [(f"UserloginDetails.{name.title()}", name.title()) for name in missing]
            return _invalid(names)
        users = {"admin": "sipcapture", "reader": "secret"}
        user = body["username"]
        if users.get(user) != body["password"]:
            said = {"statuscode": 401, "error": "Unauthorized", "message": "incorrect password"}
            return Answer(401, said)
        is_admin = {"admin": user == "admin"}
        return Answer(201, {"token": f"token-of-{user}", "scope": SCOPE, "user": is_admin})

    def _mapping(self, method: str, parts: list[str], is_admin: bool, body: Any) -> Answer:
        if method != "GET" and not is_admin:
            return Answer(403, {"message": "This API requires admin access."})
        if parts == ["reset"]:
            return self._reset(is_admin)
        if method == "GET" and not parts:
            return _listed(self.mappings)
        if method == "GET" and len(parts) == 2:
            return _listed(self.all_of(int(parts[0]), parts[1]))
        missing = [(f"TableMappingSchema.{each}", each) for name, each in REQUIRED.items()
                   if method in ("POST", "PUT") and not body.get(name)]  # fmt: skip
        if method == "POST":
            if missing:
                return _invalid(missing)
            guid = next(self.guids)
            self.mappings.append(_row(body | {"guid": guid}))
            said = "successfully created mappings settings"
            return Answer(201, {"message": said, "data": guid})
        guid = parts[0]
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", guid):
            said = f'pq: invalid input syntax for type uuid: "{guid}"'
            return Answer(400, {"data": {}, "message": f"{said}; {said}"})
        found = [each for each in self.mappings if each["guid"] == guid]
        if method == "GET":
            said = "failed to get mapping schema by uuid"
            return _listed(found) if found else Answer(400, {"data": {}, "message": said})
        if not found:
            return Answer(400, NOT_FOUND)
        if missing:
            return _invalid(missing)
        # A changed row moves to the end of the table.
        self.mappings.remove(found[0])
        if method == "DELETE":
            said = "successfully deleted mapping settings"
        else:
            self.mappings.append(_row(body | {"guid": guid}))
            said = "successfully updated hepsub settings"
        return Answer(200, {"message": said, "data": guid})

    def _reset(self, is_admin: bool) -> Answer:
        if not is_admin:
            return Answer(400, {"data": {}, "message": "failed to recreated all mappings"})
        fresh = StandIn().mappings
        self.mappings = [each | {"guid": next(self.guids)} for each in fresh]
        return Answer(200, "")

    def _dashboard(self, method: str, parts: list[str], user: str, body: Any) -> Answer:
        done = Answer(200, {"auth": "ok", "status": "ok", "total": 3})
        if parts == ["info"]:
            return self._dashboards(user)
        key = user, parts[1]
        others = [name for name in self.dashboards if name[1] == parts[1] and name != key]
        match method:
            case "GET":
                shared = [name for name in others if self.dashboards[name].get("shared")]
                for name in [key, *shared]:
                    if name in self.dashboards:
                        data = self.dashboards[name]
                        about = {"auth": "ok", "owner": name[0], "status": "ok", "total": 1}
                        return Answer(200, about | {"data": data})
                said = "dashboard for the user doesn't exist"
                return Answer(400, {"data": {}, "message": said})
            case "POST":
                if others and parts[1] != "home":
                    return Answer(400, {"data": {}, "message": "failed to insert dashboard"})
                self.dashboards[key] = body
            case "PUT":
                if key not in self.dashboards:
                    return Answer(200, "not my dashboard")
                self.dashboards[key] = body
            case "DELETE":
                self.dashboards.pop(key, None)
        return done

    def _dashboards(self, user: str) -> Answer:
        found = []
        for (owner, name), data in self.dashboards.items():
            if owner == user or data.get("shared"):
                if "name" not in data:
                    continue
                if "weight" not in data:
                    return CLOSED
                about = {"cssclass": "fa", "href": name, "id": name, "owner": owner}
                about |= {key: data[key] for key in ("name", "param", "shared", "type", "weight")}
                found.append(about)
        found.sort(key=lambda each: each["name"])
        return Answer(200, {"auth": "ok", "data": found, "status": "ok", "total": len(found)})


def _row(body: Json) -> Json:
    """A mapping as homer-app stores it: what its table has no column for is dropped."""
    row = NO_TEXTS | NO_LISTS | body
    return {name: row.get(name) for name in COLUMNS}


def _listed(mappings: list[Json]) -> Answer:
    return Answer(200, {"count": len(mappings), "data": mappings})


def _invalid(fields: list[tuple[str, str]]) -> Answer:
    said = "\n".join(
        f"Key: '{path}' Error:Field validation for '{name}' failed on the 'required' tag"
        for path, name in fields
    )
    return Answer(400, {"data": {}, "message": said})


class Served:
    """A stand-in that listens on a free port of loopback, in a thread of its own."""

    def __init__(self, stand_in: StandIn, context: ssl.SSLContext | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.removeprefix("/homer").removeprefix("/api/v3")
                token = self.headers.get("Authorization", "")
                answer = stand_in.answer(self.command, path, token, json.loads(raw or b"null"))
                self.close_connection = True
                if answer is CLOSED:
                    return
                is_raw = isinstance(answer.body, bytes)
                body = answer.body if is_raw else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                if 300 <= answer.status < 400:
                    self.send_header("Location", "https://homer.example.com/")
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = _do  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            # The handshake is made by the first read, in the thread of the connection.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        # A failed TLS handshake is one of the tests.
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "Served":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
