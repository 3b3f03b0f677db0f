"""OpenAI's two APIs over the whole service: every shape of log-probabilities, streams that add up to whole answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.stack import Stack, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = [{"role": "user", "content": "hi"}]
MODELS = {
    (CHAT, True): ChatCompletionChunk,
    (CHAT, False): ChatCompletion,
    (TEXT, True): Completion,
    (TEXT, False): Completion,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(redis_url: str, toy_model: Path, cache_dir: Path) -> AsyncIterator[Stack]:
    names = ("toy", "second/name")
    async with running(redis_url, "openai-api", toy_model, cache_dir, served_model_name=names) as stack:
        yield stack


async def whole(stack: Stack, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer, as OpenAI's own types have it."""
    answer = await stack.post(path, body)
    if not body.get("echo"):  # whose first null OpenAI's types do not know
        MODELS[path, False].model_validate(answer, strict=True)
    return answer


async def chunks(stack: Stack, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a stream, as OpenAI's own types have them, in OpenAI's order."""
    async with stack.http.post(stack.url + path, json=body | {"stream": True}) as response:
        assert response.status == 200, await response.text()
        *events, done, rest = (await response.text()).split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    found = [json.loads(event.removeprefix("data: ")) for event in events]
    for chunk in found:
        if path == CHAT:
            ChatCompletionChunk.model_validate(chunk, strict=True)
    assert len({tuple(chunk[key] for key in ("id", "object", "created", "model")) for chunk in found}) == 1
    return found


async def refused(stack: Stack, path: str, body: dict[str, Any], status: int = 400) -> dict[str, Any]:
    async with stack.http.post(stack.url + path, json=body) as response:
        answer = await response.json()
    assert response.status == status, answer
    return answer["error"]


def added_up(found: list[dict[str, Any]], path: str) -> dict[int, dict[str, Any]]:
    """What a stream's chunks amount to, by choice."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in found:
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], {"text": "", "entries": [], "token_ids": [], "end": None})
            assert choice["end"] is None, "nothing comes after the finish"
            text = part["delta"].get("content", "") if path == CHAT else part["text"]
            entries = entries_of(part["logprobs"])
            choice["text"] += text
            choice["entries"] += entries
            choice["token_ids"] += part.get("token_ids", [])
            if part["finish_reason"] is not None:
                choice["end"] = (part["finish_reason"], part["stop_reason"], part["matched_stop"])
    return choices


def entries_of(logprobs: dict[str, Any] | None) -> list[Any]:
    """One entry for each token, in either shape."""
    if logprobs is None:
        return []
    if "content" in logprobs:
        assert logprobs["refusal"] is None
        return logprobs["content"]
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return list(zip(*(logprobs[name] for name in names), strict=True))


asked = st.fixed_dictionaries(
    {"seed": st.integers(0, 9), "max_tokens": st.integers(1, 12), "n": st.integers(1, 3)},
    optional={
        "temperature": st.sampled_from([0, 1.5]),
        "stop": st.sampled_from([["e"], ["a", " t", "qu"], [105, "o"], 99]),
        "include_stop_str_in_output": st.booleans(),
        "return_tokens_as_token_ids": st.booleans(),
        "skip_special_tokens": st.booleans(),
        "min_tokens": st.just(1),
    },
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=asked,
    top=st.integers(0, 3),
    prompt=st.sampled_from([[[5, 6, 7], [80]], ["the quick", "you"], "a system", [9, 10]]),
    echo=st.booleans(),
)
async def test_streams_of_completions_add_up(
    stack: Stack, asked: dict[str, Any], top: int, prompt: Any, echo: bool
) -> None:
    body = {"prompt": prompt, "logprobs": top, "echo": echo, "return_token_ids": True, **asked}
    answer, found = await whole(stack, TEXT, body), await chunks(stack, TEXT, body)
    streamed = added_up(found, TEXT)
    assert len(streamed) == len(answer["choices"])
    for choice in answer["choices"]:
        other = streamed[choice["index"]]
        assert other["text"] == choice["text"]
        assert other["entries"] == entries_of(choice["logprobs"])
        assert other["token_ids"] == choice["token_ids"]
        assert other["end"] == (choice["finish_reason"], choice["stop_reason"], choice["matched_stop"])
        prompt_ids = choice["prompt_token_ids"]
        assert len(other["entries"]) == len(choice["token_ids"]) + (len(prompt_ids) if echo else 0)
    first = {part["index"]: part for chunk in reversed(found) for part in chunk["choices"]}
    assert all(first[c["index"]]["prompt_token_ids"] == c["prompt_token_ids"] for c in answer["choices"])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=asked, top=st.integers(0, 3))
async def test_streams_of_chats_add_up(stack: Stack, asked: dict[str, Any], top: int) -> None:
    body = {"messages": HI, "logprobs": True, "top_logprobs": top, "return_token_ids": True, **asked}
    answer, found = await whole(stack, CHAT, body), await chunks(stack, CHAT, body)
    streamed = added_up(found, CHAT)
    for choice in answer["choices"]:
        other = streamed[choice["index"]]
        assert other["text"] == choice["message"]["content"]
        assert other["entries"] == choice["logprobs"]["content"]
        assert other["token_ids"] == choice["token_ids"]
        assert other["end"] == (choice["finish_reason"], choice["stop_reason"], choice["matched_stop"])
        assert all(len(entry["top_logprobs"]) == top for entry in other["entries"])
    assert found[0]["prompt_token_ids"] == answer["prompt_token_ids"]


@pytest.mark.parametrize("stop", [None, ["zzz", "the other"]])
async def test_a_chunk_s_tokens_are_those_whose_text_it_brings(stack: Stack, stop: list[str] | None) -> None:
    """A token of whose text a part is held back, because it may become a stop string, comes with the rest of it."""
    body = {
        "messages": HI,
        "logprobs": True,
        "max_tokens": 40,
        "seed": 3,
        "skip_special_tokens": False,
        "ignore_eos": True,
        "stop": stop,
    }
    text, spelled = "", b""
    for chunk in await chunks(stack, CHAT, body):
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            spelled += bytes(byte for entry in entries_of(choice["logprobs"]) for byte in entry["bytes"])
            shown = spelled.decode("utf-8", "replace")
            assert text.startswith(shown)
            assert stop is not None or text == shown


async def test_the_way_of_lm_eval(stack: Stack) -> None:
    """Log-likelihoods of given tokens: as many entries as tokens, then that of the one that is generated."""
    prompts = [[5, 6, 7, 8, 9], [100, 101], [261, 274, 90]]
    body = {"prompt": prompts, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0, "seed": 1234}
    answer = await whole(stack, TEXT, body)
    for prompt, choice in zip(prompts, answer["choices"], strict=True):
        logprobs = choice["logprobs"]
        assert [len(logprobs[name]) for name in logprobs] == [len(prompt) + 1] * 4
        assert logprobs["token_logprobs"][0] is None
        assert logprobs["top_logprobs"][0] is None
        for own, top, name in list(
            zip(*(logprobs[k] for k in ("token_logprobs", "top_logprobs", "tokens")), strict=True)
        )[1:]:
            assert own <= max(top.values())
            assert own in top.values() or list(top) == [name]
            assert len(top) <= 2
        assert logprobs["token_logprobs"][-1] == max(logprobs["top_logprobs"][-1].values()), "a greedy token"


async def test_greedy_tokens_given_back_are_the_likeliest(stack: Stack) -> None:
    """What was drawn greedily is, as a prompt, the likeliest at each place, to the last bit."""
    drawn = (
        await whole(
            stack,
            TEXT,
            {
                "prompt": [5, 6, 7],
                "max_tokens": 8,
                "temperature": 0,
                "return_token_ids": True,
                "logprobs": 0,
                "ignore_eos": True,
            },
        )
    )["choices"][0]
    prompt = [5, 6, 7, *drawn["token_ids"]]
    body = {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 0, "return_tokens_as_token_ids": True}
    logprobs = (await whole(stack, TEXT, body))["choices"][0]["logprobs"]
    assert logprobs["tokens"] == [f"token_id:{id}" for id in prompt]
    for own, top in zip(logprobs["token_logprobs"][3:], logprobs["top_logprobs"][3:], strict=True):
        assert own == max(top.values())
    assert logprobs["token_logprobs"][3:] == pytest.approx(drawn["logprobs"]["token_logprobs"], abs=1e-3)


async def test_echo_without_logprobs_and_without_an_answer(stack: Stack) -> None:
    answer = await whole(stack, TEXT, {"prompt": ["the quick", "fox"], "echo": True, "max_tokens": 0})
    assert [(c["text"], c["logprobs"], c["finish_reason"]) for c in answer["choices"]] == [
        ("the quick", None, "length"),
        ("fox", None, "length"),
    ]
    assert answer["usage"]["completion_tokens"] == 0
    [first, *_] = await chunks(stack, TEXT, {"prompt": [261], "echo": True, "max_tokens": 2})
    assert first["choices"][0]["text"] == "the"


@pytest.mark.parametrize(("path", "prompt"), [(TEXT, {"prompt": "the quick"}), (CHAT, {"messages": HI})])
async def test_prompt_logprobs(stack: Stack, path: str, prompt: dict[str, Any]) -> None:
    body = {**prompt, "prompt_logprobs": 2, "max_tokens": 1, "return_token_ids": True}
    answer = await whole(stack, path, body)
    holder = answer if path == CHAT else answer["choices"][0]
    first, *others = holder["prompt_logprobs"]
    assert first is None
    assert len(others) == len(holder["prompt_token_ids"]) - 1 == answer["usage"]["prompt_tokens"] - 1
    for id, entry in zip(holder["prompt_token_ids"][1:], others, strict=True):
        assert str(id) in entry
        assert {1, 2} <= {each["rank"] for each in entry.values()}
        assert sorted(entry.values(), key=lambda each: each["rank"]) == sorted(
            entry.values(), key=lambda each: -each["logprob"]
        )
        assert all(set(each) == {"logprob", "rank", "decoded_token"} for each in entry.values())
    assert (await refused(stack, path, body | {"stream": True}))["param"] == "prompt_logprobs"


async def test_logprobs_of_chosen_tokens(stack: Stack) -> None:
    body = {
        "messages": HI,
        "logprobs": True,
        "logprob_token_ids": [70, 5],
        "max_tokens": 2,
        "return_tokens_as_token_ids": True,
    }
    for entry in (await whole(stack, CHAT, body))["choices"][0]["logprobs"]["content"]:
        assert {top["token"] for top in entry["top_logprobs"]} == {"token_id:70", "token_id:5"}
    for change in ({"logprobs": False}, {"logprob_token_ids": []}, {"logprob_token_ids": [320]}):
        assert (await refused(stack, CHAT, body | change))["param"] == "logprob_token_ids"


async def test_scores_are_the_models_own_whatever_is_done_to_them(stack: Stack) -> None:
    body = {"prompt": [5, 6, 7], "max_tokens": 1, "logprobs": 3, "temperature": 0}
    plain = (await whole(stack, TEXT, body))["choices"][0]["logprobs"]["top_logprobs"]
    bent = (await whole(stack, TEXT, body | {"logit_bias": {"70": 100}, "regex": "[a-z]+"}))["choices"][0]
    assert bent["text"] == "d"
    assert {k: v for k, v in bent["logprobs"]["top_logprobs"][0].items() if k != "d"} == plain[0]


async def test_usage_in_every_chunk(stack: Stack) -> None:
    body = {"prompt": ["the", "fox"], "max_tokens": 4, "ignore_eos": True}
    options = {"include_usage": True, "continuous_usage_stats": True}
    found = await chunks(stack, TEXT, body | {"stream_options": options})
    counts = [chunk["usage"]["completion_tokens"] for chunk in found]
    assert counts == sorted(counts)
    assert counts[-1] == counts[-2] == 8
    assert found[-1]["choices"] == []
    assert all(chunk["usage"]["prompt_tokens"] == found[-1]["usage"]["prompt_tokens"] for chunk in found)
    del options["include_usage"]
    found = await chunks(stack, TEXT, body | {"stream_options": options})
    assert found[-1]["choices"] != []
    assert found[-1]["usage"]["total_tokens"] == counts[-1] + found[-1]["usage"]["prompt_tokens"]


async def test_why_it_stopped(stack: Stack) -> None:
    """By a string, by an id that the client named, by the model's own end."""
    for stop, matched, reason in (
        ({"stop": "d"}, "d", "d"),
        ({"stop": [70]}, 70, 70),
        ({"stop_token_ids": [70, 5000]}, 70, 70),
    ):
        body = {"prompt": "x", "logit_bias": {"70": 100}, **stop}
        [choice] = (await whole(stack, TEXT, body))["choices"]
        assert (choice["text"], choice["finish_reason"]) == ("", "stop")
        assert (choice["matched_stop"], choice["stop_reason"]) == (matched, reason)
    [choice] = (await whole(stack, TEXT, {"prompt": "x", "logit_bias": {"2": 100}}))["choices"]
    assert (choice["matched_stop"], choice["stop_reason"]) == (2, None)
    body = {"prompt": "x", "logit_bias": {"2": 100}, "ignore_eos": True, "stop_token_ids": [2]}
    [choice] = (await whole(stack, TEXT, body))["choices"]
    assert (choice["matched_stop"], choice["stop_reason"]) == (2, 2)


async def test_stops_that_stay(stack: Stack) -> None:
    for name in ("include_stop_str_in_output", "no_stop_trim"):
        body = {"prompt": "x", "logit_bias": {"70": 100}, "stop": "dd", name: True}
        [choice] = (await whole(stack, TEXT, body))["choices"]
        assert choice["text"] == "dd"


async def test_a_message_is_continued(stack: Stack) -> None:
    messages = [*HI, {"role": "assistant", "content": "the quick "}]
    body = {"messages": messages, "max_tokens": 1, "return_token_ids": True}
    open_ids = (await whole(stack, CHAT, body | {"continue_final_message": True}))["prompt_token_ids"]
    closed_ids = (await whole(stack, CHAT, body | {"add_generation_prompt": False}))["prompt_token_ids"]
    [text] = [
        c["text"] for c in (await whole(stack, TEXT, {"prompt": open_ids, "echo": True, "max_tokens": 0}))["choices"]
    ]
    assert text.endswith("<|im_start|>assistant\nthe quick ")
    assert len(closed_ids) > len(open_ids)
    error = await refused(stack, CHAT, body | {"continue_final_message": True, "add_generation_prompt": True})
    assert error["param"] == "continue_final_message"
    null = [*HI, {"role": "assistant", "content": None}]
    error = await refused(stack, CHAT, body | {"messages": null, "continue_final_message": True})
    assert error["param"] == "messages[1].content"


async def test_prompts_are_cut(stack: Stack) -> None:
    async def kept(**fields: Any) -> list[int]:
        body = {"prompt": [list(range(5, 25))], "max_tokens": 2, "return_token_ids": True, **fields}
        return (await whole(stack, TEXT, body))["choices"][0]["prompt_token_ids"]

    assert await kept(truncate_prompt_tokens=3) == [22, 23, 24]
    assert await kept(truncate_prompt_tokens=3, truncation_side="right") == [5, 6, 7]
    assert await kept(truncate_prompt_tokens=-1) == list(range(5, 25))
    long = [5] * 3000
    assert len(await kept(prompt=long, truncate_prompt_tokens=-1)) == 2046
    error = await refused(stack, TEXT, {"prompt": long, "max_tokens": 2})
    assert error["code"] == "context_length_exceeded"
    assert "3000" in error["message"]
    assert "2048" in error["message"]
    for bad in ({"truncate_prompt_tokens": 0}, {"truncate_prompt_tokens": -2}, {"truncation_side": "up"}):
        assert (await refused(stack, TEXT, {"prompt": long, **bad}))["param"] == next(iter(bad))
    echoed = await whole(
        stack, TEXT, {"prompt": "the quick brown fox", "truncate_prompt_tokens": 1, "echo": True, "max_tokens": 0}
    )
    assert echoed["choices"][0]["text"] == "x"


async def test_answers_bear_the_name_that_was_asked_for(stack: Stack) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["toy", "second/name"]
        assert (await client.models.retrieve("second/name")).id == "second/name"
        for name in ("toy", "second/name"):
            answer = await client.completions.create(model=name, prompt="the", max_tokens=1)
            assert answer.model == name
            assert (answer.system_fingerprint or "").startswith("fp_")
        with pytest.raises(openai.NotFoundError, match="'toy', 'second/name'") as caught:
            await client.completions.create(model="gpt-4o", prompt="the")
        assert caught.value.code == "model_not_found"
    assert (await whole(stack, TEXT, {"prompt": "the", "max_tokens": 1}))["model"] == "toy"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"top_logprobs": 2}, "top_logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"logprobs": 5}, "logprobs"),
        (TEXT, {"logprobs": 21}, "logprobs"),
        (TEXT, {"logprobs": True}, "logprobs"),
        (TEXT, {"prompt_logprobs": -1}, "prompt_logprobs"),
        (TEXT, {"suffix": "x"}, "suffix"),
        (CHAT, {"store": True}, "store"),
        (CHAT, {"service_tier": "flex"}, "service_tier"),
        (CHAT, {"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        (CHAT, {"metadata": {"a": 5}}, "metadata[...]"),
        (CHAT, {"reasoning_effort": "hard"}, "reasoning_effort"),
        (CHAT, {"reasoning_effort": 1.5}, "reasoning_effort"),
        (CHAT, {"verbosity": "low"}, "verbosity"),
        (CHAT, {"documents": [{"text": "x"}]}, "documents"),
        (CHAT, {"chat_template": "x"}, "chat_template"),
    ],
)
async def test_what_is_refused(stack: Stack, path: str, fields: dict[str, Any], param: str) -> None:
    body = {"messages": HI} if path == CHAT else {"prompt": "x"}
    assert (await refused(stack, path, body | fields))["param"] in (param, param.removesuffix("[...]"))


async def test_what_clients_send_without_meaning_much_by_it(stack: Stack) -> None:
    body = {
        "messages": HI,
        "max_tokens": 1,
        "store": False,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "user": "u",
        "verbosity": "medium",
        "reasoning_effort": "low",
        "top_logprobs": 0,
        "logprobs": False,
        "stream_options": None,
        "spaces_between_special_tokens": True,
        "modalities": ["text"],
        "parallel_tool_calls": True,
    }
    assert (await whole(stack, CHAT, body))["service_tier"] == "default"


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_a_stream_that_is_read_again_has_the_same_events(stack: Stack, path: str) -> None:
    """With all that is shown beside the text: it follows from the log and the request."""
    body = {"max_tokens": 6, "return_token_ids": True, "stream_options": {"continuous_usage_stats": True}, "seed": 1}
    body |= (
        {"messages": HI, "logprobs": True, "n": 2} if path == CHAT else {"prompt": "fox", "echo": True, "logprobs": 2}
    )
    async with stack.http.post(stack.url + path, json=body | {"stream": True, "resumable": True}) as response:
        first = await response.read()
    assert first.endswith(b"data: [DONE]\n\n")
    id = json.loads(first.split(b"\n")[1].removeprefix(b"data: "))["id"]
    async with stack.http.get(f"{stack.url}/v1/streams/{id}") as response:
        assert await response.read() == first


async def test_a_model_by_another_name_in_an_answer_that_is_fetched_later(stack: Stack) -> None:
    body = {"model": "second/name", "prompt": "fox", "max_tokens": 2, "echo": True, "logprobs": 0, "background": True}
    async with stack.http.post(stack.url + TEXT, json=body) as response:
        assert response.status == 202
        ticket = await response.json()
    async with stack.http.get(f"{stack.url}{ticket['stream_url']}?wait=20") as response:
        answer = await response.json()
    assert answer["model"] == "second/name"
    assert answer["choices"][0]["text"].startswith("fox")
    assert len(answer["choices"][0]["logprobs"]["tokens"]) == answer["usage"]["total_tokens"]


async def test_calls_of_tools_have_log_probabilities_too(stack: Stack) -> None:
    function = {"name": "go", "parameters": {"type": "object", "properties": {"far": {"type": "boolean"}}}}
    body = {"messages": HI, "tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    body |= {"logprobs": True, "seed": 5, "max_tokens": 200, "return_token_ids": True, "parallel_tool_calls": False}
    [choice] = (await whole(stack, CHAT, body))["choices"]
    found = await chunks(stack, CHAT, body)
    parts = [part for chunk in found for part in chunk["choices"]]
    assert [entry for part in parts for entry in entries_of(part["logprobs"])] == choice["logprobs"]["content"]
    assert [id for part in parts for id in part.get("token_ids", [])] == choice["token_ids"]
    arguments = [
        call["function"].get("arguments", "") for part in parts for call in part["delta"].get("tool_calls", [])
    ]
    assert "".join(arguments) == choice["message"]["tool_calls"][0]["function"]["arguments"]
    assert parts[-1]["finish_reason"] == choice["finish_reason"] == "tool_calls"
