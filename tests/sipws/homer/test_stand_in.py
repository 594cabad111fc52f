"""The stand-in answers as homer-app did, exchange by exchange."""

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.sipws.homer.stand_in import Json, Served, StandIn, exchange, whole

LOGINS = ["login-right", "login-wrong-password", "login-unknown-user", "login-empty", "no-token"]
MAPPINGS = [
    "mapping-list",
    "mapping-create",
    "mapping-get-by-guid",
    "mapping-create-again",
    "mapping-create-without-fields-mapping",
    "mapping-list-after-two-creates",
    "mapping-create-empty",
    "mapping-create-not-admin",
    "mapping-get-unknown-guid",
    "mapping-change-by-guid",
    "mapping-change-by-guid-body-with-guid",
    "mapping-change-by-number",
    "mapping-change-part-only",
    "mapping-change-unknown-guid",
    "mapping-fields",
    "mapping-call-lookup-range",
    "mapping-delete",
    "mapping-delete-again",
    "mapping-reset-not-admin",
    "mapping-reset",
]
DASHBOARDS = [
    "dashboard-list",
    "dashboard-get-home",
    "dashboard-get-unknown",
    "dashboard-store",
    "dashboard-list-after-store",
    "dashboard-store-again",
    "dashboard-list-after-store-again",
    "dashboard-get",
    "dashboard-change",
    "dashboard-change-unknown",
    "dashboard-list-after-change-unknown",
    "dashboard-delete",
    "dashboard-list-after-delete",
    "dashboard-delete-again",
    "dashboard-list-not-admin",
    "dashboard-store-empty",
    "dashboard-store-minimal",
    "dashboard-list-with-minimal-one-stored",
]


@pytest.fixture
def stand_in() -> StandIn:
    stand_in = StandIn()
    names = ("mapping-create", "mapping-create-again", "mapping-create-without-fields-mapping")
    guids = [exchange(name)["response"]["body"]["data"] for name in names]
    stand_in.guids = iter([*guids, *(f"0000000{number}-0" for number in range(5))])
    return stand_in


@pytest.fixture
def served(stand_in: StandIn) -> Iterator[Served]:
    with Served(stand_in) as served:
        yield served


def ask(served: Served, name: str) -> tuple[int, Any] | None:
    """Send a recorded request; returns status and body, None if the connection is closed."""
    request = exchange(name)["request"]
    headers = dict(request["headers"])
    user = "reader" if name.endswith("not-admin") else "admin"
    if "Authorization" in headers:
        headers["Authorization"] = f"Bearer token-of-{user}"
    call = "987fb000-0de3-4f35-9ab2-138f09200b80"
    path = request["path"].replace("<guid of 1 call>", call)
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=10)
    body = whole(request.get("body"))
    try:
        content = None if body is None else json.dumps(body).encode()
        connection.request(request["method"], path, content, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except http.client.RemoteDisconnected:
        return None
    finally:
        connection.close()


def same(recorded: Any, answered: Any) -> bool:
    """Whether an answer is the recorded one, as far as it was recorded."""
    if isinstance(recorded, dict):
        names = isinstance(answered, dict) and recorded.keys() == answered.keys()
        return names and all(same(value, answered[name]) for name, value in recorded.items())
    if isinstance(recorded, list):
        kept = [each for each in recorded if not (isinstance(each, str) and each[:1] == "…")]
        is_whole = len(kept) == len(recorded)
        if not isinstance(answered, list) or (is_whole and len(answered) != len(kept)):
            return False
        return all(map(same, kept, answered))
    if isinstance(recorded, str):
        if re.fullmatch("<.*>", recorded):
            return isinstance(answered, str)
        if cut := re.fullmatch(r"(.*)… \((\d+) characters\)", recorded, re.DOTALL):
            is_long = isinstance(answered, str) and len(answered) == int(cut[2])
            return is_long and answered.startswith(cut[1])
    return bool(recorded == answered)


@pytest.mark.parametrize("names", [LOGINS, MAPPINGS, DASHBOARDS], ids=lambda names: names[0])
def test_the_recorded_answers_are_given(served: Served, names: list[str]) -> None:
    for name in names:
        answered, recorded = ask(served, name), exchange(name)["response"]
        if recorded is None:
            assert answered is None, name
        else:
            assert answered is not None, name
            assert answered[0] == recorded["status"], name
            assert same(recorded["body"], answered[1]), (name, answered)


def test_every_user_reads_the_mappings(served: Served) -> None:
    answered = ask(served, "mapping-list-not-admin")
    assert answered is not None
    assert answered[0] == 200


def test_a_reset_restores_the_mappings_with_new_guids(served: Served, stand_in: StandIn) -> None:
    before: list[Json] = list(stand_in.mappings)
    ask(served, "mapping-create")
    ask(served, "mapping-reset")
    assert [each["hepid"] for each in stand_in.mappings] == [each["hepid"] for each in before]
    assert not {each["guid"] for each in before} & {each["guid"] for each in stand_in.mappings}
