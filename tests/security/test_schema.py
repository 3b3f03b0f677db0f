"""Schemathesis over our own OpenAPI document, against real processes: good requests, bad ones, and some in a row."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.security.deployment import Deployment
from tokenizer_svc.openapi_operations import OPERATIONS

_SETTINGS = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
_CONFORMS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_ROUTES = [route for route in OPERATIONS if route[1] != "/pause_generation"]  # after which nothing is answered
_WITH_INPUT = [route for route in _ROUTES if OPERATIONS[route].request or "{" in route[1]]


@pytest.fixture(scope="module")
def schema(attacked: Deployment) -> Any:
    document = attacked.get("/openapi.json")
    del document["paths"]["/pause_generation"]
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=attacked.url)
    return loaded


_EXCLUSIVE = {
    *("regex", "choice", "ebnf", "grammar", "json_schema", "response_format", "structured_outputs", "whitespace"),
    *("add_special_tokens", "chat_template_kwargs"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_json_object", "segments"),
}
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_new_tokens", "min_tokens", "min_new_tokens")


def tame(fields: Any, path: str = "", answer_tokens: int = 4) -> None:
    """Take out of a good body what the document cannot say: which fields go together, and what the context holds."""
    if not isinstance(fields, dict):
        return
    for name in _EXCLUSIVE & fields.keys():
        del fields[name]
    for name in _LENGTHS:
        fields.pop(name, None)
    if not fields.get("stream"):
        fields.pop("stream_options", None)
    for name in ("resumable", "background", "timeout", "tools", "tool_choice", "stop_token_ids", "logit_bias"):
        fields.pop(name, None)
    for name in ("prompt_logprobs", "top_logprobs", "logprob_token_ids", "truncate_prompt_tokens", "documents"):
        fields.pop(name, None)
    for name in ("continue_final_message", "stop", "metadata", "verbosity"):
        fields.pop(name, None)
    fields["max_tokens"] = answer_tokens
    if isinstance(fields.get("sampling_params"), list):
        del fields["sampling_params"]
    if path == "/v1/contexts":
        gen = {"type": "gen", "name": "x", "max_tokens": answer_tokens}
        fields["parts"] = [{"type": "text", "text": "a"}, gen]
        for name in ("id", "parent", "chat_template_kwargs", "max_tokens"):
            fields.pop(name, None)
        return
    if path == "/v1/responses":
        fields["max_output_tokens"] = answer_tokens
        for name in ("text", "previous_response_id", "top_logprobs", "store", "stop"):
            fields.pop(name, None)
        return
    if path == "/v1/responses/input_tokens":
        fields["input"] = fields.get("input") or "hi"
        for name in ("text", "previous_response_id", "max_tokens"):
            fields.pop(name, None)
        return
    if "tokens" in fields:
        fields["tokens"] = _in_vocabulary(fields["tokens"])
    if "input" in fields:
        fields["input"] = _in_vocabulary(fields["input"])
    if "label_token_ids" in fields or "items" in fields:
        fields |= {"query": "a", "items": ["b"], "label_token_ids": [1], "text_1": None, "text_2": None}
    if "abort_all" in fields or "rid" in fields or "request_id" in fields:
        return
    if fields.get("prompt") and "messages" in fields:
        del fields["messages"]
    if not fields.get("prompt") and not fields.get("messages"):
        fields.pop("messages", None)
        fields["prompt"] = "hi"
        fields["text"] = fields.get("text") or "hi"
        fields.pop("input_ids", None)
    fields.pop("n", None)
    if "prompt" in fields:
        fields["prompt"] = _in_vocabulary(fields["prompt"])
    for message in fields.get("messages") or ():
        if isinstance(message, dict):
            for name in ("tool_calls", "tool_call_id", "function_call", "audio"):
                message.pop(name, None)
            message["content"] = message.get("content") or "hi"
    if isinstance(params := fields.get("sampling_params"), dict):
        tame(params)


def _in_vocabulary(value: Any) -> Any:
    """Token ids that there are, and nothing empty."""
    if isinstance(value, list):
        return [_in_vocabulary(item) for item in value] or "hi"
    return int(value) % 320 if isinstance(value, (int, float)) else value or "hi"


def call(case: Any, session: requests.Session) -> Any:
    return case.call(session=session, timeout=60)


@pytest.mark.parametrize("route", _ROUTES, ids=" ".join)
def test_good_requests_are_answered_as_the_document_says(
    schema: Any, deployment: Deployment, route: tuple[str, str]
) -> None:
    method, path = route
    served: dict[bool, list[int]] = {False: [], True: []}

    with requests.Session() as session:

        @_SETTINGS
        @given(case=schema[path][method].as_strategy(GenerationMode.POSITIVE), is_tame=st.booleans())
        def run(case: Any, is_tame: bool) -> None:
            if is_tame:
                tame(case.body, path)
                (case.headers or {}).clear()
            response = call(case, session)
            served[is_tame].append(response.status_code)
            case.validate_response(response, checks=_CONFORMS)

        run()
    if "{context_id}" in path:  # names are the clients' own: another case may have made it
        assert {*served[True], *served[False]} <= {200, 404}, served
    elif "{id}" in path:
        assert {*served[True], *served[False]} == {404}, served
    else:
        good = [status for status in served[True] if status in (200, 202)]
        assert len(good) >= len(served[True]) / 4, served
    assert max(served[True] + served[False]) < 500, served


@pytest.mark.parametrize("route", _WITH_INPUT, ids=" ".join)
def test_bad_requests_are_refused(schema: Any, deployment: Deployment, route: tuple[str, str]) -> None:
    method, path = route
    with requests.Session() as session:

        @_SETTINGS
        @given(case=schema[path][method].as_strategy(GenerationMode.NEGATIVE))
        def run(case: Any) -> None:
            response = call(case, session)
            case.validate_response(response, checks=[*_CONFORMS, negative_data_rejection])

        run()


def test_answers_can_be_aborted_by_the_ids_they_have(schema: Any, deployment: Deployment) -> None:
    machine = schema.as_state_machine()
    run_state_machine_as_test(machine, settings=settings(_SETTINGS, max_examples=25, stateful_step_count=6))
