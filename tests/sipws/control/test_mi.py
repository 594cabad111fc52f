"""The management interface: JSON-RPC 2.0 as OpenSIPS' mi_http answers it."""

import json
import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.control import mi
from sipws.control.mi import MiError


def greet(name: str = "you") -> str:
    return f"hello {name}"


def refuse() -> None:
    raise MiError("Bad parameter value")


def fail() -> None:
    raise ZeroDivisionError


def echo(**params: object) -> object:
    return params


METHODS = {
    "greet": greet,
    "refuse": refuse,
    "fail": fail,
    "one": mi.Method(echo, (("a",), ("a", "b"))),
    "two": mi.Method(echo, ((), ("a",), ("b",)), named_only=False),
    "named": mi.Method(echo, ((), ("a",)), named_only=True),
}


def ask(**request: Any) -> Any:
    return json.loads(
        mi.reply(mi.parse(json.dumps({"jsonrpc": "2.0", "id": 1, **request}).encode()), METHODS)
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
        ({"method": "greet", "params": "a"}, -32600, "Invalid Request"),
        ({"method": "greet", "params": 0}, -32600, "Invalid Request"),
        ({"method": "greet", "params": None}, -32600, "Invalid Request"),
        ({"method": "greet", "jsonrpc": "1.0"}, -32600, "Invalid Request"),
        ({"method": "greet", "jsonrpc": 2.0}, -32600, "Invalid Request"),
        ({"method": 1}, -32600, "Invalid Request"),
        ({"method": "refuse"}, 500, "Bad parameter value"),
    ],
)
def test_errors_have_their_codes(request_: dict[str, Any], code: int, message: str) -> None:
    assert ask(**request_)["error"] == {"code": code, "message": message}


COUNT = "Too few or too many parameters"
AMBIGUOUS = "Ambiguous call, use named parameters instead"
NAMES = "Named parameters do not match"


@pytest.mark.parametrize(
    ("method", "params", "data"),
    [
        ("greet", {"nome": "a"}, NAMES),
        ("greet", ["a", "b"], COUNT),
        ("greet", {"name": None}, "Bad type for parameter 'name'"),
        ("one", None, COUNT),
        ("one", [], COUNT),
        ("one", {}, COUNT),
        ("one", ["a", "b", "c"], COUNT),
        ("one", {"b": 1}, NAMES),
        ("one", {"a": 1, "c": 1}, NAMES),
        ("one", {"a": 1, "b": 1, "c": 1}, COUNT),
        ("one", {"a": 1, "b": None}, "Bad type for parameter 'b'"),
        ("two", ["x"], AMBIGUOUS),
        ("named", ["x"], "Command only supports named parameters"),
        ("named", ["x", "y", "z"], "Command only supports named parameters"),
    ],
)
def test_wrong_parameters_have_opensips_details(method: str, params: Any, data: str) -> None:
    call = {"method": method} if params is None else {"method": method, "params": params}
    assert ask(**call)["error"] == {"code": -32602, "message": "Invalid params", "data": data}


@pytest.mark.parametrize(
    ("method", "params", "result"),
    [
        ("one", ["x"], {"a": "x"}),
        ("one", {"b": 2, "a": 1}, {"a": 1, "b": 2}),
        ("two", [], {}),
        ("two", {"b": 1}, {"b": 1}),
        ("named", [], {}),
        ("named", {"a": 1}, {"a": 1}),
    ],
)
def test_one_parameter_set_has_to_match(method: str, params: Any, result: object) -> None:
    assert ask(method=method, params=params)["result"] == result


def test_a_method_that_fails_by_itself_is_a_server_error() -> None:
    data = "Command handler returned null"
    assert ask(method="fail")["error"] == {"code": -32000, "message": "Server error", "data": data}


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), ("", ""), (7, "7"), (-1, "-1"), (1.9, "1"), (2**63, str(2**63))]
)
def test_a_number_stands_for_its_digits(value: object, text: str) -> None:
    assert mi.text_of(value, "x") == text


@pytest.mark.parametrize("value", [True, None, [], ["a"], {}, 2**64, 10**400, math.inf, math.nan])
def test_nothing_else_is_a_text(value: object) -> None:
    with pytest.raises(MiError) as refused:
        mi.text_of(value, "x")
    assert (refused.value.code, refused.value.data) == (-32602, "Bad type for parameter 'x'")


@pytest.mark.parametrize("value", ["", "a", "1.5", "1 ", "9" * 5000, "²", True, []])
def test_only_digits_are_an_integer(value: object) -> None:
    assert (mi.integer_of("-3", "x"), mi.integer_of("+4", "x"), mi.integer_of(5, "x")) == (-3, 4, 5)
    with pytest.raises(MiError):
        mi.integer_of(value, "x")


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("all", "Bad type for parameter 'x'"),
        ({}, "Bad type for parameter 'x'"),
        ([], "Empty array in parameter 'x'"),
        ([[]], "Bad type for array item in parameter 'x'"),
        (["a", None], "Bad type for array item in parameter 'x'"),
    ],
)
def test_a_list_has_an_item_and_only_texts(value: object, data: str) -> None:
    assert mi.texts_of(["a", 1], "x") == ["a", "1"]
    with pytest.raises(MiError) as refused:
        mi.texts_of(value, "x")
    assert refused.value.data == data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"jsonrpc": "2.0", "id": NaN, "method": "greet"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "greet", "params": ["\\ud800"]}',
        b"[" * 100_000,
        b"9" * 10_000,
    ],
)
def test_what_is_no_json_is_a_parse_error(body: bytes) -> None:
    error = {"code": -32700, "message": "Parse error"}
    assert json.loads(mi.reply(mi.parse(body), METHODS)) == {
        "jsonrpc": "2.0",
        "error": error,
        "id": None,
    }


@pytest.mark.parametrize("body", [b"[]", b'[{"jsonrpc": "2.0", "id": 1}]', b"1", b"null", b"{}"])
def test_what_is_no_request_is_told_so_without_an_id(body: bytes) -> None:
    error = {"code": -32600, "message": "Invalid Request"}
    assert json.loads(mi.reply(mi.parse(body), METHODS)) == {
        "jsonrpc": "2.0",
        "error": error,
        "id": None,
    }


def test_a_request_without_its_version_is_none_but_has_an_id() -> None:
    reply = json.loads(mi.reply(mi.parse(b'{"id": 7, "method": "greet"}'), METHODS))
    assert (reply["error"]["code"], reply["id"]) == (-32600, 7)


@pytest.mark.parametrize("identity", [None, 0, -7, 1.5, 2**70, "", "a", "ä"])
def test_an_id_comes_back_as_it_is(identity: object) -> None:
    assert ask(id=identity, method="greet") == {
        "jsonrpc": "2.0",
        "result": "hello you",
        "id": identity,
    }


@pytest.mark.parametrize("identity", ["true", "[]", "{}", "1e999"])
def test_what_can_be_no_id_makes_no_request(identity: str) -> None:
    body = f'{{"jsonrpc": "2.0", "id": {identity}, "method": "greet"}}'.encode()
    reply = json.loads(mi.reply(mi.parse(body), METHODS))
    assert (reply["error"]["code"], reply["id"]) == (-32600, None)


@pytest.mark.parametrize("method", ["greet", "refuse", "fail", "nope"])
def test_a_notification_gets_no_reply_whatever_comes_of_it(method: str) -> None:
    request = {"jsonrpc": "2.0", "method": method}
    assert mi.reply(mi.parse(json.dumps(request).encode()), METHODS) == b""
    assert mi.reply(mi.parse(json.dumps({**request, "params": [1, 2, 3]}).encode()), METHODS) == b""


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_no_request_makes_it_raise(body: bytes | str) -> None:
    mi.reply(mi.parse(body.encode() if isinstance(body, str) else body), METHODS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | VALUES,
        "id": VALUES,
        "method": st.sampled_from(sorted(METHODS)) | VALUES,
        "params": VALUES,
    },
)


@given(
    st.binary() | MEMBERS.map(json.dumps).map(str.encode) | VALUES.map(json.dumps).map(str.encode)
)
def test_parse_returns_a_request_or_says_what_is_wrong(body: bytes) -> None:
    request = mi.parse(body)
    if isinstance(request, mi.BadRequest):
        assert request.code in (mi.PARSE_ERROR, mi.INVALID_REQUEST)
    else:
        found = json.loads(body)
        assert (found["jsonrpc"], found["method"]) == ("2.0", request.method)
        assert found.get("params", {}) == request.params
        assert found.get("id") == request.identity
        assert request.is_notification == ("id" not in found)


@given(MEMBERS, st.data())
def test_a_request_that_is_cut_anywhere_is_a_parse_error(
    members: dict[str, Any], data: Any
) -> None:
    body = json.dumps(members).encode()
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    assert mi.parse(cut) == mi.BadRequest(mi.PARSE_ERROR, "Parse error")


@pytest.mark.parametrize(
    "unit",
    [
        b"[",
        b"{",
        b'{"a":',
        b"1,",
        b'"',
        b'\\"',
        b'"\\ud800",',
        b"9",
        b"-",
        b" ",
        b"\xff",
        b'{"a":1},',
    ],
)
@pytest.mark.parametrize("before", [b"", b"[", b'{"jsonrpc": "2.0", "method": "'])
def test_calls_of_parse_grow_no_faster_than_the_body(before: bytes, unit: bytes) -> None:
    def calls(size: int) -> int:
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        body = before + unit * (size // len(unit))
        sys.setprofile(count)
        try:
            mi.parse(body)
        finally:
            sys.setprofile(None)
        return counted

    assert calls(16_000) <= 4 * calls(4_000) + 100
