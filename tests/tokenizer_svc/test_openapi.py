"""The OpenAPI document: valid, complete, and true to the bounds that are obeyed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.config import Settings
from tokenizer_svc.access.guard import doors
from tokenizer_svc.app import build_admin_app, build_app
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.limits import Limits
from tokenizer_svc.openapi import document, routes_of
from tokenizer_svc.openapi_operations import OPERATIONS

HI = {"messages": [{"role": "user", "content": "hi"}]}
NEEDED: dict[str, dict[str, Any]] = {
    "ChatRequest": HI,
    "CompletionRequest": {"prompt": "hi"},
    "GenerateRequest": {"text": "hi"},
    "SamplingParams": {},
}
PATHS = {"ChatRequest": "/v1/chat/completions", "CompletionRequest": "/v1/completions", "GenerateRequest": "/generate"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(frozenset(OPERATIONS), Limits(), ("toy",))


def test_the_document_is_valid(described: dict[str, Any]) -> None:
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


async def test_the_server_s_own_is_the_same(http: aiohttp.ClientSession, described: dict[str, Any]) -> None:
    async with http.get("/openapi.json") as response:
        assert response.content_type == "application/json"
        assert await response.json() == described


def test_every_route_is_described_and_nothing_else() -> None:
    class Bare:
        limits = Limits()

    access = doors(Settings()).public
    app = build_app(Bare(), access, None, None)  # type: ignore[arg-type]
    assert routes_of(app) == set(OPERATIONS)
    assert routes_of(build_admin_app(Bare(), access)) < set(OPERATIONS)  # type: ignore[arg-type]
    heads = {route.resource.canonical for route in app.router.routes() if route.method == "HEAD" and route.resource}
    assert {("GET", path) for path in heads} <= set(OPERATIONS)


def test_every_operation_has_an_id_of_its_own_and_an_example_of_its_body(described: dict[str, Any]) -> None:
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        for content in operation.get("requestBody", {"content": {}})["content"].values():
            assert content["examples"]


async def test_examples_are_served(http: aiohttp.ClientSession, described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            for content in operation.get("requestBody", {"content": {}})["content"].values():
                for example in content["examples"].values():
                    async with http.request(method, path, json=example["value"]) as response:
                        assert response.status == 200, await response.text()


def test_keys_are_asked_of_those_whom_a_route_is_for(described: dict[str, Any]) -> None:
    paths = described["paths"]
    assert paths["/health"]["get"]["security"] == []
    assert paths["/v1/models"]["get"]["security"] == [{}, {"key": []}]
    assert paths["/metrics"]["get"]["security"] == [{}, {"admin_key": []}]
    assert set(described["components"]["securitySchemes"]) == {"key", "admin_key"}


def alternatives(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for option in schema.get("anyOf", ()):
        yield from alternatives(option)


def beyond(schema: dict[str, Any]) -> Iterator[Any]:
    """Values just outside the bounds of one schema."""
    step = 1 if schema.get("type") == "integer" else 1e-3
    if "maximum" in schema:
        yield schema["maximum"] + step
    if "minimum" in schema:
        yield schema["minimum"] - step
    if "exclusiveMinimum" in schema:
        yield schema["exclusiveMinimum"]
    if "maxLength" in schema:
        yield "a" * (schema["maxLength"] + 1)
    if schema.get("minLength"):
        yield ""
    if "enum" in schema and schema.get("type") == "string":
        yield "something else"
    item = schema.get("items", {})
    sample = {"string": "a", "integer": 1}.get(item.get("type", ""))
    if "maxItems" in schema and sample is not None:
        yield [sample] * (schema["maxItems"] + 1) if sample == 1 else [f"{i}" for i in range(schema["maxItems"] + 1)]
        yield from ([value] for value in beyond(item) if value != schema["items"].get("maximum"))
    if schema.get("minItems"):
        yield []
    if "maxProperties" in schema:
        yield {str(key): 1 for key in range(schema["maxProperties"] + 1)}
        if "additionalProperties" in schema:
            yield from ({"1": value} for value in beyond(schema["additionalProperties"]))
            yield from ({name: 1} for name in ("x", "-1", "1.5", "", "1" * 5000, "١"))


def cases(described: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for struct in NEEDED:
        for field, schema in described["components"]["schemas"][struct]["properties"].items():
            for option in alternatives(schema):
                for value in beyond(option):
                    yield struct, field, value


CASES = list(cases(document(frozenset(OPERATIONS), Limits(), ("toy",))))


def test_there_are_bounds_to_try() -> None:
    assert len(CASES) > 100
    assert {"temperature", "n", "stop", "logit_bias", "seed", "messages", "segments"} <= {
        field for _, field, _ in CASES
    }


async def test_what_is_outside_the_bounds_is_refused_by_name(http: aiohttp.ClientSession) -> None:
    for struct, field, value in CASES:
        body = {**NEEDED[struct], field: value}
        if field == "whitespace":
            body["json_schema"] = {"type": "integer"}
        if field == "input_ids":
            del body["text"]
        if struct == "SamplingParams":
            body = {"text": "hi", "sampling_params": body}
        async with http.post(PATHS.get(struct, "/generate"), json=body) as response:
            answer = await response.json()
        assert response.status == (404 if field == "model" else 400), (struct, field, str(value)[:100], answer)
        assert field in (answer["error"]["param"] or answer["error"]["message"]), (struct, field, answer)


def test_bounds_are_those_of_the_limits(described: dict[str, Any]) -> None:
    limits = Limits()
    chat = described["components"]["schemas"]["ChatRequest"]["properties"]
    assert {"type": "integer", "minimum": 1, "maximum": limits.max_n} in chat["n"]["anyOf"]
    assert chat["messages"]["maxItems"] == limits.max_messages
    assert {"type": "string", "minLength": 1, "maxLength": LIMITS.regex_bytes} in chat["regex"]["anyOf"]
    changed = document(frozenset(OPERATIONS), Limits(max_n=7), ("toy",))
    assert changed["components"]["schemas"]["ChatRequest"]["properties"]["n"]["anyOf"][0]["maximum"] == 7
