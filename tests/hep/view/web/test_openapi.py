"""The description is well-formed, complete, and true of the real answers."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hep.view.web.models import Control, Destination
from hep.view.web.openapi import description
from hep.view.web.routes import ENDPOINTS

CALL_ID = "a84b4c76e66710@pc33.example.com"
DESCRIPTION = description("1.2.3")
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
KNOWN = {
    "$ref", "type", "title", "description", "properties", "required", "items", "anyOf", "enum",
    "const", "default", "additionalProperties", "minimum", "maximum", "minLength", "maxLength",
    "maxItems", "pattern",
}  # fmt: skip


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].removeprefix("#/components/schemas/")
    return dict(DESCRIPTION["components"]["schemas"][name])


def check(value: Any, schema: dict[str, Any], place: str = "answer") -> None:
    """Check a value against the part of JSON Schema that the description uses."""
    schema = resolved(schema)
    assert set(schema) <= KNOWN, place
    if "anyOf" in schema:
        for each in schema["anyOf"]:
            try:
                return check(value, each, place)
            except AssertionError:
                continue
        raise AssertionError(f"{place}: {value!r} is none of {schema['anyOf']}")
    if "enum" in schema:
        assert value in schema["enum"], place
    if "type" in schema:
        assert isinstance(value, TYPES[schema["type"]]), (place, value)
        assert isinstance(value, bool) == (schema["type"] == "boolean"), (place, value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        assert set(schema.get("required", ())) <= set(value), place
        more = schema.get("additionalProperties", not properties)
        for name, part in value.items():
            if name in properties:
                check(part, properties[name], f"{place}.{name}")
            else:
                assert more, f"{place}.{name} is not described"
                if isinstance(more, dict):
                    check(part, more, f"{place}.{name}")
    if isinstance(value, list):
        for number, part in enumerate(value):
            check(part, schema.get("items", {}), f"{place}[{number}]")
    return None


class FakeSipws:
    async def read(self) -> Control:
        row = {"ID": 1, "Type": "ws"}
        sent = Destination(name="homer", state="on", sent=1, dropped=0, queued=0)
        return Control(
            reachable=True, url="http://a", trace={"ws": True}, destinations=[sent],
            connections=[row],
        )  # fmt: skip


ASKED = {
    "call": {"id": CALL_ID},
    "message": {"id": "2"},
    "connection": {"id": "77"},
    "search": {"q": "alice"},
}


@pytest.mark.parametrize(
    "endpoint", [each for each in ENDPOINTS if each.answer], ids=lambda endpoint: endpoint.name
)
async def test_an_answer_is_as_described(
    service: Any, client: httpx.AsyncClient, endpoint: Any
) -> None:
    service.backend.control = FakeSipws()
    answer = await client.get(endpoint.url, params=ASKED.get(endpoint.path))
    assert answer.status_code == 200, answer.text
    operation = DESCRIPTION["paths"][endpoint.url]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    check(answer.json(), schema)
    # The check itself finds what is not described.
    if endpoint.path != "/openapi.json":
        with pytest.raises(AssertionError):
            check({**answer.json(), "unknown": 1}, schema)


async def test_a_problem_is_as_described(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/call")
    operation = DESCRIPTION["paths"]["/api/v1/call"]["get"]
    check(answer.json(), operation["responses"]["400"]["content"]["application/json"]["schema"])


async def test_the_description_is_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json() == DESCRIPTION


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(part, dict | list):
            yield from nodes(part)


def test_references_lead_somewhere_and_all_schemas_are_used() -> None:
    found = {node["$ref"] for node in nodes(DESCRIPTION) if isinstance(node.get("$ref"), str)}
    named = {f"#/components/schemas/{name}" for name in DESCRIPTION["components"]["schemas"]}
    assert found == named
    assert not any("$defs" in node for node in nodes(DESCRIPTION))


def test_the_structure_is_that_of_openapi_3_1() -> None:
    assert DESCRIPTION["openapi"] == "3.1.0"
    assert {"title", "version"} <= set(DESCRIPTION["info"])
    names = []
    for path, item in DESCRIPTION["paths"].items():
        assert path.startswith("/")
        assert set(item) <= {"get", "post"}
        for operation in item.values():
            names.append(operation["operationId"])
            assert operation["summary"].endswith(".")
            for parameter in operation["parameters"]:
                assert set(parameter) <= {"name", "in", "required", "description", "schema"}
                assert parameter["in"] == "query"
                assert parameter["description"].endswith("."), (path, parameter["name"])
            for status, response in operation["responses"].items():
                assert re.fullmatch("[1-5][0-9]{2}", status)
                assert response["description"]
    assert len(names) == len(set(names)) == len(ENDPOINTS)
    for scheme in DESCRIPTION["components"]["securitySchemes"].values():
        assert scheme["type"] in ("http", "apiKey")


def test_descriptions_have_no_marks_of_docstrings() -> None:
    for node in nodes(DESCRIPTION):
        if isinstance(about := node.get("description"), str):
            assert "``" not in about
            assert "\n" not in about
