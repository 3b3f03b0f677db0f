"""docs/api.md says what the code does, and what each field means is said."""

from __future__ import annotations

from pathlib import Path

from tokenizer_svc.api_table import table
from tokenizer_svc.limits import Limits
from tokenizer_svc.openapi import document
from tokenizer_svc.openapi_operations import OPERATIONS
from tokenizer_svc.unsupported import CHAT, GENERATE

ROOT = Path(__file__).parents[2]


def test_the_file_is_current() -> None:
    assert (ROOT / "docs" / "api.md").read_text() == table(), "run python -m tokenizer_svc.api_table docs/api.md"


def test_every_endpoint_and_every_field_is_in_it() -> None:
    text = table()
    for method, path in OPERATIONS:
        assert f"`{method} {path}`" in text
    for field in ("temperature", "response_format", "sampling_params", "stop_token_ids", *CHAT, *GENERATE):
        assert f"| `{field}` |" in text
    temperature, *_ = [line for line in text.splitlines() if line.startswith("| `temperature` ")]
    assert "from 0.0 to 2.0" in temperature
    assert "`1.0`" in temperature


def test_every_field_of_a_body_has_a_meaning() -> None:
    schemas = document(frozenset(OPERATIONS), Limits(), ["toy"])["components"]["schemas"]
    bodies = {operation.request for operation in OPERATIONS.values() if operation.request}
    lacking = {
        (name, field)
        for name in bodies
        for field, schema in schemas[name].get("properties", {}).items()
        if not schema.get("description")
    }
    assert not lacking, "say what they mean in openapi_meanings.py"
