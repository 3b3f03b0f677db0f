"""Requests that say what their answer must look like: every spelling at every API, answers and refusals."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import msgspec
import openai
import pytest

from shared.grammar import Dfa, Guidance, tables
from shared.protocol import Abort, Generate, Grammar, Hello, Jump, ModelCard
from shared.protocol import encode as message
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import CARD, Downstream, Script, obedient
from tests.tokenizer_svc.grammar.test_pool import children
from tests.tokenizer_svc.structured import CHAT, NATIVE, TEXT, bodies, compiles, post, samples
from tests.tokenizer_svc.test_errors import refused
from tests.tokenizer_svc.test_structure import TWINS, asked

HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def card() -> ModelCard:
    return msgspec.structs.replace(CARD, structured=True)


@pytest.fixture
def script() -> Script:
    return obedient


async def test_every_spelling_reaches_the_worker_as_the_same_grammar(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    for _, spellings in TWINS:
        sent = [pair for fields in spellings for pair in bodies(fields)]
        for path, body in sent:
            await post(http, path, body)
        told = [generate.sampling.grammar for generate in downstream.received(Generate)][-len(sent) :]
        assert set(told) == {Grammar(asked(spellings[0]).key, Jump.CANONICAL)}


async def test_a_compiled_grammar_lies_where_the_worker_looks(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    await post(http, CHAT[0], CHAT[1] | {"regex": "[0-9]{3}", "jump_forward": "exact"})
    [generate] = downstream.received(Generate)
    assert generate.sampling.grammar == Grammar(asked({"regex": "[0-9]{3}"}).key, Jump.EXACT)
    compiled = await downstream.grammar(generate)
    assert isinstance(compiled, Dfa)
    assert tables(compiled).matches(b"123")
    assert not tables(compiled).matches(b"1234")
    name = downstream.bus.names.grammar(generate.sampling.grammar.key)
    assert 3590 < await downstream.bus.client.ttl(name) <= 3600


async def test_choices_and_batches_share_one_grammar(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    await post(http, CHAT[0], CHAT[1] | {"n": 3, "choice": ["a", "b"]})
    await post(http, TEXT[0], {"prompt": ["x", "y"], "n": 2, "choice": ["b", "a"]})
    params = [{"choice": ["a", "b"]}, {"regex": "x"}, {}]
    await post(http, NATIVE, {"text": ["x", "y", "z"], "sampling_params": params})
    told = [generate.sampling.grammar for generate in downstream.received(Generate)]
    choice, regex = (Grammar(asked(fields).key) for fields in ({"choice": ["a", "b"]}, {"regex": "x"}))
    assert sorted(map(str, told)) == sorted(map(str, [choice] * 8 + [regex, None]))
    assert await compiles(http) == 2


async def test_forced_tokens_are_counted_everywhere(http: aiohttp.ClientSession) -> None:
    fields = {"regex": "Hello"}
    details = {"forced_tokens": 2, "reasoning_tokens": 0}
    for path, body in bodies(fields)[:2]:
        answer = await post(http, path, body | {"n": 2})
        assert answer["usage"]["completion_tokens"] == 6
        assert answer["usage"]["completion_tokens_details"] == details | {"forced_tokens": 4}
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async with http.post(path, json=body | options) as response:
            *_, last, done, _ = (await response.text()).split("\n\n")
        assert done == "data: [DONE]"
        assert json.loads(last.removeprefix("data: "))["usage"]["completion_tokens_details"] == details
    answer = await post(http, NATIVE, {"text": "a", "sampling_params": fields})
    assert answer["meta_info"]["forced_tokens"] == 2
    async with http.post(NATIVE, json={"text": "a", "sampling_params": fields, "stream": True}) as response:
        *_, last, _, _ = (await response.text()).split("\n\n")
    assert json.loads(last.removeprefix("data: "))["meta_info"]["forced_tokens"] == 2
    found = await samples(http)
    assert found["rootstream_http_forced_tokens_total"] == 2 * (2 + 1) * 2 + 4
    assert found["rootstream_http_generated_tokens_total"] == 3 * (2 + 1) * 2 + 6


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"regex": "ab(c"}, "regex", "never closed; write \\( for a literal one (at character 2)"),
    ({"structured_outputs": {"regex": "(?=a)"}}, "structured_outputs.regex", "look-ahead"),
    ({"choice": [str(n) for n in range(1001)]}, "choice", "at most 1000"),
    ({"guided_grammar": "start: missing"}, "guided_grammar", "unknown name"),
    ({"ebnf": "root ::= missing"}, "ebnf", "'missing' not found"),
    ({"json_schema": {"type": "objekt"}}, "json_schema", "type at #"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {"a": {"not": {}}}}}}},
        "response_format.json_schema.schema",
        "#/properties/a/not",
    ),
]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_bad_grammar_is_a_400_with_the_reason_and_ends_the_request(
    http: aiohttp.ClientSession, downstream: Downstream, stream: bool
) -> None:
    other = asyncio.create_task(post(http, *TEXT))
    for fields, param, part in BAD:
        for path, body in bodies(fields):
            where = f"sampling_params.{param}" if path == NATIVE else param
            async with http.post(path, json=body | {"stream": stream}) as response:
                error = await refused(response, 400)
            assert (error["param"], error["code"]) == (where, "invalid_grammar")
            assert error["message"].startswith(f"{where}: ")
            assert part in error["message"]
    await other
    constrained = {generate.id for generate in downstream.received(Generate) if generate.sampling.grammar}
    await downstream.until(lambda: downstream.aborted == constrained)
    assert len(constrained) == len(BAD), "what is known to be bad is not announced again"
    found = await samples(http)
    assert found["rootstream_http_grammar_compiles_total regex rejected"] == 2
    assert found["rootstream_http_grammar_compiles_total lark rejected"] == 2
    assert found["rootstream_http_grammar_hits_total memory"] == 2 * len(BAD)


async def test_malformed_fields_are_refused_before_anything_is_announced(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"regex": 5}, "regex"),
        ({"choice": ["a", 5]}, "choice"),
        ({"json_schema": True}, "json_schema"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {"jsn": {}}}, "structured_outputs"),
        ({"regex": "a", "choice": ["b"]}, "choice"),
    ]
    for fields, param in cases:
        for path, body in bodies(fields):
            async with http.post(path, json=body) as response:
                error = await refused(response, 400)
            assert error["param"].removeprefix("sampling_params.").partition("[")[0] == param, (fields, error)
    assert not downstream.generates


async def test_fields_beside_sampling_params_are_pointed_into_them(http: aiohttp.ClientSession) -> None:
    async with http.post(NATIVE, json={"text": "a", "regex": "a"}) as response:
        assert "sampling_params" in (await refused(response, 400))["message"]


async def test_a_model_that_cannot_be_constrained(start_door: StartDoor, downstream: Downstream, url: str) -> None:
    names = downstream.bus.names
    await downstream.bus.transaction().put(names.model, "0", message(Hello(1, CARD))).commit()
    await start_door()
    async with aiohttp.ClientSession(url) as http:
        for path, body in bodies({"regex": "a"}):
            async with http.post(path, json=body) as response:
                error = await refused(response, 400)
            assert error["param"].endswith("regex")
            assert "not known byte by byte" in error["message"]
        await post(http, *TEXT)
    assert not children(), "nothing to compile for"


async def test_openais_client_asks_for_structure(client: openai.AsyncOpenAI, downstream: Downstream) -> None:
    extras: list[dict[str, Any]] = [
        {"regex": "[0-9]+"},
        {"structured_outputs": {"regex": "[0-9]+"}},
        {"guided_regex": "[0-9]+", "guided_decoding_backend": "auto"},
    ]
    for extra in extras:
        reply = await client.chat.completions.create(model="toy", messages=HI, extra_body=extra)
        assert reply.usage is not None
        assert reply.usage.completion_tokens_details is not None
        assert reply.usage.completion_tokens_details.model_extra == {"forced_tokens": 2}
    assert {generate.sampling.grammar for generate in downstream.received(Generate)} == {
        Grammar(asked({"regex": "[0-9]+"}).key)
    }
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    await client.chat.completions.create(
        model="toy",
        messages=HI,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}},
    )
    generate = downstream.received(Generate)[-1]
    assert generate.sampling.grammar == Grammar(asked({"json_schema": schema}).key)
    compiled = await downstream.grammar(generate)
    assert isinstance(compiled, Dfa)
    assert tables(compiled).matches(b'{"a": 15}')
    await client.chat.completions.create(model="toy", messages=HI, response_format={"type": "json_object"})
    assert isinstance(await downstream.grammar(downstream.received(Generate)[-1]), Guidance)
    with pytest.raises(openai.BadRequestError, match=r"at character 1") as caught:
        await client.completions.create(model="toy", prompt="a", stream=True, extra_body={"regex": "a(b"})
    assert (caught.value.param, caught.value.code) == ("regex", "invalid_grammar")
    await downstream.until(lambda: len(downstream.received(Abort)) == 1)


async def test_server_info_has_the_limits(http: aiohttp.ClientSession) -> None:
    async with http.get("/server_info") as response:
        limits = (await response.json())["grammar_limits"]
    assert limits["compile_s"] == 2.0
    assert limits["enum_values"] == 1000
