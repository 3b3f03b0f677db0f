"""What templates are told besides messages, and what they are not told because they would not listen."""

from __future__ import annotations

from typing import Any

import pytest

from shared.tokenizer import Tokenizer
from tests.toy import toy_tokenizer
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.openai_fields import ChatRequest
from tokenizer_svc.template_variables import variables_of

QWEN = "{% if enable_thinking is defined and enable_thinking is false %}no{% endif %}"


def variables(template: str, **fields: Any) -> dict[str, Any]:
    tokenizer = Tokenizer(toy_tokenizer(), eos_ids=(2,), special_tokens={}, chat_template=template)
    return variables_of(ChatRequest(messages=[], **fields), tokenizer)


@pytest.mark.parametrize(
    ("effort", "thinks"), [("none", False), ("minimal", False), ("low", True), ("high", True), (0.5, True)]
)
def test_effort_turns_thinking_on_or_off_where_there_is_a_switch(effort: str | float, thinks: bool) -> None:
    assert variables(QWEN, reasoning_effort=effort) == {"reasoning_effort": effort, "enable_thinking": thinks}
    assert variables("{{ thinking }}", reasoning_effort=effort)["thinking"] is thinks
    assert variables("plain", reasoning_effort=effort) == {"reasoning_effort": effort}


def test_a_clients_own_variables_count_most() -> None:
    found = variables(QWEN, reasoning_effort="none", chat_template_kwargs={"enable_thinking": True, "x": 1})
    assert found == {"reasoning_effort": "none", "enable_thinking": True, "x": 1}


def test_documents_and_verbosity_are_for_templates_that_know_them() -> None:
    template = "{{ documents }} {{ verbosity }}"
    assert variables(template, documents=[{"text": "a"}], verbosity="low") == {
        "documents": [{"text": "a"}],
        "verbosity": "low",
    }
    assert variables("plain", documents=[], verbosity="medium") == {}
    for name, value in (("documents", [{"text": "a"}]), ("verbosity", "high")):
        with pytest.raises(ApiError) as caught:
            variables("plain", **{name: value})
        assert caught.value.body.param == name


@pytest.mark.parametrize(("name", "value"), [("reasoning_effort", "x"), ("reasoning_effort", 1.0), ("verbosity", "x")])
def test_values_that_nobody_knows_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ApiError) as caught:
        variables("plain", **{name: value})
    assert caught.value.body.param == name
