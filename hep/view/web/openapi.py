"""The OpenAPI 3.1 description, made of the table of paths and of the models."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from hep.view.web.models import Problem
from hep.view.web.problems import JSON
from hep.view.web.routes import API, ENDPOINTS, Endpoint

_REFERENCE: Final = "#/components/schemas/{model}"

Schema = dict[str, Any]


def description(version: str) -> Schema:
    """Make the description.

    Args:
        version: of the program.
    """
    refer = _References()
    paths: dict[str, Schema] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.url, {})[endpoint.method.lower()] = _operation(endpoint, refer)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hep view",
            "version": version,
            "description": "Calls and WebSocket connections that the viewer has received. Times are"
            " microseconds since the epoch.",
        },
        "paths": paths,
        "components": {
            "schemas": refer.schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "hep_view_9080",
                    "description": f"Set by POST {API}/login; its name ends in the port.",
                },
            },
        },
        # Without a token neither is needed.
        "security": [{}, {"token": []}, {"session": []}],
    }


class _References:
    """The schemas of the models, and references to them."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}

    def of(self, model: Any, mode: JsonSchemaMode) -> Schema:
        """Add the schema of a model and of all that it consists of."""
        schema = TypeAdapter(model).json_schema(mode=mode, ref_template=_REFERENCE)
        for name, part in schema.pop("$defs", {}).items():
            self.schemas[name] = _cleaned(part)
        if not (isinstance(model, type) and "title" in schema):
            return schema
        name = schema["title"]
        self.schemas[name] = _cleaned(schema)
        return {"$ref": _REFERENCE.format(model=name)}


def _operation(endpoint: Endpoint, refer: _References) -> Schema:
    success: Schema = {"description": endpoint.about}
    status = HTTPStatus.OK
    if endpoint.answer is not None:
        success["content"] = {JSON: {"schema": refer.of(endpoint.answer, "serialization")}}
    elif endpoint.media_types:
        success["content"] = {
            media_type: {"schema": {"type": "string"}} for media_type in endpoint.media_types
        }
    else:
        status = HTTPStatus.NO_CONTENT
    problem = refer.of(Problem, "serialization")
    operation: Schema = {
        "operationId": endpoint.name,
        "summary": endpoint.about,
        "parameters": [*_parameters(endpoint.query)],
        "responses": {
            str(int(status)): success,
            **{
                str(each): {
                    "description": HTTPStatus(each).phrase,
                    "content": {JSON: {"schema": problem}},
                }
                for each in endpoint.problems
            },
        },
    }
    if endpoint.body is not None:
        schema = refer.of(endpoint.body, "validation")
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    if endpoint.public:
        operation["security"] = [{}]
    return operation


def _parameters(query: type[BaseModel]) -> Iterable[Schema]:
    whole = query.model_json_schema(ref_template=_REFERENCE)
    required = whole.get("required", ())
    for name, schema in whole.get("properties", {}).items():
        part = dict(schema)
        part.pop("title", None)
        parameter: Schema = {"name": name, "in": "query", "required": name in required}
        if about := part.pop("description", ""):
            parameter["description"] = _plain(about)
        yield {**parameter, "schema": part}


def _cleaned(schema: Schema) -> Schema:
    if "description" in schema:
        schema["description"] = _plain(schema["description"])
    for part in schema.get("properties", {}).values():
        if "description" in part:
            part["description"] = _plain(part["description"])
    return schema


def _plain(docstring: str) -> str:
    """A docstring as CommonMark: one kind of backquotes, no line breaks within a sentence."""
    return re.sub(r"\s*\n\s*", " ", docstring.replace("``", "`")).strip()
