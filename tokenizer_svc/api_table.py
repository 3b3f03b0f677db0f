"""docs/api.md: endpoints and fields as a table, made from the OpenAPI document, which is made from the code.

    python -m tokenizer_svc.api_table docs/api.md

A test says when the file is not what this would write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizer_svc.limits import Limits
from tokenizer_svc.openapi import document
from tokenizer_svc.openapi_meanings import reachable
from tokenizer_svc.openapi_operations import OPERATIONS

Schema = Mapping[str, Any]

_HEAD = """# The API, field by field

Made from the code by `python -m tokenizer_svc.api_table docs/api.md`; do not edit. A running server says the same at
`/openapi.json`, and for people at `/docs`; its bounds are those of its own settings.

Fields that nobody knows are ignored, as OpenAI does. Fields that other servers know and this one does not serve are
refused by name, unless their value asks for nothing (`null`, `false`, empty). A default is what holds where a field is
left out or null; where none is named, the field then does nothing.

## Endpoints

| | | key | answers with |
|---|---|---|---|
"""


class _Row(NamedTuple):
    """A field that is served."""

    field: str
    type: str
    bounds: str
    default: str
    meaning: str


def table() -> str:
    """The whole file."""
    api = document(frozenset(OPERATIONS), Limits(), ["the model"])
    schemas: Mapping[str, Schema] = api["components"]["schemas"]
    endpoints = [
        _endpoint(method, path, each) for path, methods in api["paths"].items() for method, each in methods.items()
    ]
    bodies = _bodies(api["paths"])
    parts = [_HEAD + "\n".join(endpoints), "## Fields that are served", *_served(schemas, bodies)]
    parts += ["## Parts of bodies", *_inner(schemas, bodies), "## Fields that are refused", _refused(schemas, bodies)]
    return "\n\n".join(parts) + "\n"


def _endpoint(method: str, path: str, operation: Schema) -> str:
    schemes = {name for each in operation["security"] for name in each}
    whose = "operators'" if "admin_key" in schemes else "any" if schemes else "none"
    media = ", ".join(operation["responses"]["200"]["content"])
    return f"| `{method.upper()} {path}` | {operation['summary']} | {whose} | {media} |"


def _bodies(paths: Schema) -> dict[str, list[str]]:
    """The structs of bodies, and the paths that take them."""
    found: dict[str, list[str]] = {}
    for path, methods in paths.items():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {})
            for form in content.values():
                if target := form["schema"].get("$ref"):
                    found.setdefault(target.rpartition("/")[2], []).append(path)
    if "GenerateRequest" in found:
        found["SamplingParams"] = [f"{path} `sampling_params`" for path in found["GenerateRequest"]]
    return found


def _served(schemas: Mapping[str, Schema], bodies: Mapping[str, list[str]]) -> list[str]:
    where: dict[_Row, list[str]] = {}
    for name, paths in bodies.items():
        for row in _rows(schemas[name]):
            where.setdefault(row, []).extend(paths)
    lines = ["| field | where | type and bounds | default | |", "|---|---|---|---|---|"]
    for row, paths in sorted(where.items(), key=lambda entry: (entry[0].field, entry[1])):
        lines.append(f"| `{row.field}` | {_listed(paths)} | {_cell(row)} | {row.default} | {row.meaning} |")
    return ["\n".join(lines)]


def _inner(schemas: Mapping[str, Schema], bodies: Mapping[str, list[str]]) -> list[str]:
    """The structs inside bodies."""
    found: list[str] = []
    for name in reachable(schemas, bodies):
        if name not in bodies and (rows := _rows(schemas[name])):
            lines = [f"**{name}**", "", "| field | type and bounds | default | |", "|---|---|---|---|"]
            lines += [f"| `{row.field}` | {_cell(row)} | {row.default} | {row.meaning} |" for row in rows]
            found.append("\n".join(lines))
    return found


def _refused(schemas: Mapping[str, Schema], bodies: Mapping[str, list[str]]) -> str:
    where: dict[tuple[str, str], list[str]] = {}
    for name, paths in bodies.items():
        for field, reason in schemas[name].get("x-refused-fields", {}).items():
            where.setdefault((field, str(reason)), []).extend(paths)
    lines = ["| field | where | why, and what to do |", "|---|---|---|"]
    lines += [
        f"| `{field}` | {_listed(paths)} | {_plain(reason)} |" for (field, reason), paths in sorted(where.items())
    ]
    return "\n".join(lines)


def _rows(schema: Schema) -> list[_Row]:
    needed = schema.get("required", ())
    rows: list[_Row] = []
    for field, value in schema.get("properties", {}).items():
        told = "needed" if field in needed else _default(value)
        rows.append(_Row(field, _type(value), _bounds(value), told, _plain(value.get("description", ""))))
    return rows


def _default(schema: Schema) -> str:
    if words := schema.get("x-default"):
        return str(words)
    default = schema.get("default")
    return "" if default in (None, "", [], {}) and default is not False else f"`{json.dumps(default)}`"


def _cell(row: _Row) -> str:
    return f"{row.type}; {row.bounds}" if row.bounds else row.type


def _type(schema: Schema) -> str:
    if target := schema.get("$ref"):
        return target.rpartition("/")[2]
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    if options := schema.get("anyOf") or schema.get("oneOf"):
        kinds = dict.fromkeys(_type(option) for option in options if option.get("type") != "null")
        return " or ".join(kind for kind in kinds if kind)
    kind = schema.get("type", "any")
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return " or ".join(part for part in kind if part != "null") if isinstance(kind, list) else str(kind)


def _bounds(schema: Schema) -> str:
    told: dict[str, None] = {}
    for option in (schema, *schema.get("anyOf", ())):
        told |= dict.fromkeys(_bounds_of(option))
    return ", ".join(told)


def _bounds_of(option: Schema) -> Iterable[str]:
    low, above, high = option.get("minimum"), option.get("exclusiveMinimum"), option.get("maximum")
    if (low, above, high) != (None, None, None):
        start = f"above {above}" if above is not None else "" if low is None else f"from {low}"
        yield f"{start} to {high}".strip() if high is not None else start
    for key, what in (("maxLength", "characters"), ("maxItems", "items"), ("maxProperties", "entries")):
        if key in option:
            yield f"at most {option[key]} {what}"


def _listed(paths: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(path.removeprefix("/v1") for path in paths))


def _plain(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(table())
