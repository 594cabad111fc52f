"""The management interface: JSON-RPC 2.0 as OpenSIPS' mi_http answers it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import mi
from sipws.mi import MiError


def greet(name: str = "you") -> str:
    return f"hello {name}"


def refuse() -> None:
    raise MiError("Bad parameter value")


def fail() -> None:
    raise ZeroDivisionError


METHODS = {"greet": greet, "refuse": refuse, "fail": fail}


def ask(**request: Any) -> Any:
    return json.loads(
        mi.reply(json.dumps({"jsonrpc": "2.0", "id": 1, **request}).encode(), METHODS)
    )


@pytest.mark.parametrize("params", [{"name": "a"}, ["a"]])
def test_parameters_come_by_name_or_in_order(params: object) -> None:
    assert ask(method="greet", params=params) == {"jsonrpc": "2.0", "result": "hello a", "id": 1}


def test_parameters_may_be_left_out() -> None:
    assert ask(method="greet")["result"] == "hello you"
    assert ask(method="greet", params={})["result"] == "hello you"


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({"method": "nope"}, -32601, "Method not found"),
        ({"method": "greet", "params": {"nome": "a"}}, -32602, "Invalid params"),
        ({"method": "greet", "params": ["a", "b"]}, -32602, "Invalid params"),
        ({"method": "greet", "params": "a"}, -32602, "Invalid params"),
        ({"method": 1}, -32600, "Invalid Request"),
        ({"method": "refuse"}, 500, "Bad parameter value"),
        ({"method": "fail"}, -32603, "Internal error"),
    ],
)
def test_errors_have_their_codes(request_: dict[str, Any], code: int, message: str) -> None:
    assert ask(**request_)["error"] == {"code": code, "message": message}


def test_what_is_no_json_is_a_parse_error() -> None:
    assert json.loads(mi.reply(b"{", METHODS))["error"]["code"] == -32700


def test_a_notification_gets_no_reply() -> None:
    assert mi.reply(b'{"jsonrpc": "2.0", "method": "greet"}', METHODS) == b""


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_no_request_makes_it_raise(body: bytes | str) -> None:
    mi.reply(body.encode() if isinstance(body, str) else body, METHODS)
