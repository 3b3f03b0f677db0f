"""Contexts over all services and a toy model: what comes of parts, what is kept, and what is computed for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from shared.model_files import ModelFiles
from shared.tokenizer import Tokenizer
from tests.stack import Stack, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/contexts"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(redis_url: str, toy_model: Path, cache_dir: Path) -> AsyncIterator[Stack]:
    async with running(redis_url, "contexts", toy_model, cache_dir, served_model_name=("toy",)) as stack:
        yield stack


@pytest.fixture(scope="module")
def tokenizer(toy_model: Path) -> Tokenizer:
    return Tokenizer.load(ModelFiles("toy", "huggingface", toy_model), toy_model)


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def gen(name: str, max_tokens: int = 4, **fields: Any) -> dict[str, Any]:
    return {"type": "gen", "name": name, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, **fields}


def select(name: str, *choices: str, **fields: Any) -> dict[str, Any]:
    return {"type": "select", "name": name, "choices": choices, **fields}


async def call(stack: Stack, *parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return await stack.post(PATH, {"parts": parts, "return_token_ids": True, **fields})


async def refused(stack: Stack, *parts: dict[str, Any], **fields: Any) -> tuple[int, dict[str, Any]]:
    async with stack.http.post(f"{stack.url}{PATH}", json={"parts": parts, **fields}) as response:
        answer = await response.json()
        assert response.status >= 400, answer
        return response.status, answer["error"]


async def test_a_part_says_what_a_completion_does(stack: Stack) -> None:
    body = {"prompt": "the quick brown", "max_tokens": 8, "temperature": 0, "ignore_eos": True, "logprobs": 0}
    plain = await stack.post("/v1/completions", body | {"return_token_ids": True})
    answer = await call(stack, text("the quick"), text(" brown"), gen("x", 8))
    [part] = answer["parts"]
    assert part["text"] == plain["choices"][0]["text"]
    assert part["finish_reason"] == "length"
    assert (part["prompt_tokens"], part["completion_tokens"]) == (plain["usage"]["prompt_tokens"], 8)
    assert answer["token_ids"] == plain["choices"][0]["prompt_token_ids"] + plain["choices"][0]["token_ids"]
    assert answer["length"] == len(answer["token_ids"])


async def test_parts_in_one_call_or_in_many(stack: Stack) -> None:
    parts = [text("you are"), gen("a"), text(" and then"), gen("b", seed=5, temperature=1), text(" the"), gen("c")]
    at_once = await call(stack, *parts)
    parent = None
    found: list[Any] = []
    answer: dict[str, Any] = {}
    for part in parts:
        answer = await call(stack, part, parent=parent)
        assert answer["parent"] == parent
        parent = answer["id"]
        found += [{**each, "part": 0} for each in answer["parts"]]
    assert [{**each, "part": 0} for each in at_once["parts"]] == found
    assert answer["token_ids"] == at_once["token_ids"]


async def test_a_child_sends_what_is_new_and_finds_its_prefix_cached(stack: Stack) -> None:
    root = await call(stack, text("a system reads the message and the answer is streamed " * 8), prefill=True)
    assert root["usage"]["prompt_tokens"] == root["length"]
    child = await call(stack, text("to the user"), gen("x"), parent=root["id"])
    cached = child["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= root["length"] - 32


async def test_text_goes_on_after_what_a_stop_left(stack: Stack, tokenizer: Tokenizer) -> None:
    free = (await call(stack, text("the fox"), gen("x", 24)))["parts"][0]["text"]
    stop = free[9:12]
    end = free.index(stop)
    answer = await call(stack, text("the fox"), gen("x", 24, stop=stop), text(" after"))
    [part] = answer["parts"]
    assert (part["text"], part["finish_reason"], part["matched_stop"]) == (free[:end], "stop", stop)
    assert tokenizer.decode(answer["token_ids"], skip_special_tokens=False) == f"the fox{free[:end]} after"


@pytest.mark.parametrize("method", ["token_length_normalized", "greedy_token", "unconditional_likelihood_normalized"])
async def test_select_scores_like_completions(stack: Stack, method: str) -> None:
    choices = ["cat", "dog runs", " the", "s"]
    before = "the quick brown fox jumps over the lazy "
    answer = await call(stack, text(before), select("x", *choices, method=method))
    [part] = answer["parts"]
    for choice, logprobs, ids in zip(choices, part["logprobs"], part["tokens"], strict=True):
        body = {"prompt": before + choice, "max_tokens": 0, "echo": True, "logprobs": 0, "return_token_ids": True}
        [echo] = (await stack.post("/v1/completions", body))["choices"]
        assert echo["prompt_token_ids"][-len(ids) :] == ids
        assert echo["logprobs"]["token_logprobs"][-len(ids) :] == pytest.approx(logprobs, abs=1e-4)
    if method != "greedy_token":
        assert part["index"] == max(range(4), key=part["scores"].__getitem__)
    if method == "token_length_normalized":
        assert part["scores"] == pytest.approx([sum(each) / len(each) for each in part["logprobs"]])
    assert part["text"] == choices[part["index"]]
    assert answer["token_ids"] == (await call(stack, text(before + part["text"])))["token_ids"]


async def test_the_same_call_twice_is_answered_once(stack: Stack) -> None:
    parts = (text("the"), gen("x", 8, temperature=1))
    first = await call(stack, *parts, id="twice")
    again = await call(stack, *parts, id="twice")
    assert again == first
    status, error = await refused(stack, text("other"), id="twice")
    assert (status, error["code"], error["param"]) == (409, "context_exists", "id")


async def test_the_same_call_at_the_same_time(stack: Stack) -> None:
    parts = (text("the"), gen("x", 16, temperature=1))
    answers = await asyncio.gather(*(call(stack, *parts, id="together") for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)


async def test_what_is_not_there_is_said(stack: Stack) -> None:
    status, error = await refused(stack, text("a"), parent="nobody")
    assert (status, error["code"], error["param"]) == (404, "context_not_found", "parent")
    gone = await call(stack, text("a"), keep=False)
    assert (await refused(stack, parent=gone["id"]))[0] == 404
    root = await call(stack, text("a"))
    await call(stack, text("b"), parent=root["id"], release=[root["id"], "unknown"])
    assert (await refused(stack, parent=root["id"]))[0] == 404


async def test_a_context_is_shown_and_dropped(stack: Stack) -> None:
    made = await call(stack, text("hello "), gen("x"), id="shown")
    async with stack.http.get(f"{stack.url}{PATH}/shown") as response:
        shown = await response.json()
    assert shown == made | {"text": f"hello {made['parts'][0]['text']}"}
    async with stack.http.delete(f"{stack.url}{PATH}/shown") as response:
        assert await response.json() == {"id": "shown", "object": "context.deleted", "deleted": True}
    for method in ("get", "delete"):
        async with stack.http.request(method, f"{stack.url}{PATH}/shown") as response:
            assert response.status == 404


async def test_a_stream_says_the_same(stack: Stack) -> None:
    parts = (text("hello "), gen("x", 12), text(" and"), select("y", "a", "b"), gen("z", 3))
    whole = await call(stack, *parts)
    events = await streamed(stack, *parts)
    *others, last, done = events
    assert done == "[DONE]"
    answer = json.loads(last)
    for field in ("parts", "length", "usage", "parent"):
        assert answer[field].keys() == whole[field].keys() if field == "usage" else answer[field] == whole[field]
    told = [json.loads(event) for event in others]
    for index, name in ((1, "x"), (4, "z")):
        pieces = [event["delta"] for event in told if event.get("part") == index and "delta" in event]
        result = next(event["result"] for event in told if event["name"] == name and "result" in event)
        assert "".join(pieces) == result["text"]
    assert [event["name"] for event in told if "result" in event] == ["x", "y", "z"]


async def streamed(stack: Stack, *parts: dict[str, Any], **fields: Any) -> list[str]:
    body = {"parts": parts, "stream": True, **fields}
    async with stack.http.post(f"{stack.url}{PATH}", json=body) as response:
        assert response.content_type == "text/event-stream", await response.text()
        text = await response.text()
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event]


async def test_several_texts_of_which_the_first_goes_on(stack: Stack, tokenizer: Tokenizer) -> None:
    answer = await call(stack, text("the"), gen("x", 5, n=3, temperature=1, seed=1), text("!"))
    [part] = answer["parts"]
    assert part["text"] == part["texts"][0]
    assert len(part["texts"]) == 3
    assert part["completion_tokens"] == 15
    assert tokenizer.decode(answer["token_ids"]) == f"the{part['text']}!"


async def test_structures(stack: Stack) -> None:
    parts = [gen("a", regex="[0-9]{3}"), gen("b", choices=["yes", "no"]), gen("c", 30, json_schema={"type": "boolean"})]
    answer = await call(stack, text("say "), *[{**part, "max_tokens": 30, "ignore_eos": False} for part in parts])
    a, b, c = answer["parts"]
    assert a["text"].isdigit()
    assert b["text"] in ("yes", "no")
    assert c["text"] in ("true", "false")
    assert not {0, 2} & set(answer["token_ids"])


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([text("a"), gen("x", regex="(")], "parts[1].regex"),
        ([text("a"), gen("x", choices=[])], "parts[1].choices"),
        ([text("a"), gen("x", temperature=-1)], "parts[1].temperature"),
        ([text("a"), {"type": "gen"}], "parts[1].name"),
        ([text("a"), gen("x", 100_000)], "parts[1]"),
        ([text("a"), {"type": "open", "role": "user"}], "parts[1]"),
        ([{"type": "open", "role": "user"}, gen("x")], "parts[1]"),
        ([{"type": "close"}], "parts[0]"),
        ([{"type": "image", "url": "x"}], "parts[0].type"),
        ([text("a"), gen("x"), gen("x")], "parts[2].name"),
        ([gen("x")], "parts[0]"),
        ([text("a"), select("x", "b", "")], "parts[1].choices[1]"),
        ([select("x", "b", "c")], "parts[0]"),
        ([{"type": "nothing"}], "parts[0].type"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(stack: Stack, parts: list[Any], param: str) -> None:
    status, error = await refused(stack, *parts)
    assert (status, error["param"]) == (400, param), error
    assert "parts[" in error["message"] or error["code"] == "context_length_exceeded"


async def test_a_client_that_leaves_ends_what_is_computed(stack: Stack) -> None:
    before = await stack.metric("rootstream_http_disconnects_total")
    with pytest.raises(TimeoutError):
        await stack.http.post(
            f"{stack.url}{PATH}",
            json={"parts": [text("a"), gen("x", 1500)], "id": "left"},
            timeout=aiohttp.ClientTimeout(total=0.3),
        )
    async with asyncio.timeout(10):
        while await stack.metric("rootstream_http_sequences") or not (
            await stack.metric("rootstream_http_disconnects_total") > before
        ):
            await asyncio.sleep(0.05)
    assert (await call(stack, text("a"), gen("x", 2), id="left"))["parts"]


async def test_a_timeout_is_for_the_whole_call(stack: Stack) -> None:
    status, error = await refused(stack, text("a"), gen("x", 1500), gen("y", 400), timeout=0.2)
    assert (status, error["code"]) == (408, "timeout")


async def test_what_is_released_while_it_is_computed_ends(stack: Stack) -> None:
    asking = asyncio.create_task(refused(stack, text("a"), gen("x", 1900), id="unwanted"))
    await asyncio.sleep(0.3)
    await call(stack, keep=False, release=["unwanted"])
    status, error = await asking
    assert (status, error["code"]) == (409, "context_released")


# --- conversations


def opened(role: str, *parts: dict[str, Any], closes: bool = True) -> list[dict[str, Any]]:
    return [{"type": "open", "role": role}, *parts, *([{"type": "close"}] if closes else [])]


def message(role: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "message": {"role": role, "content": content, **fields}}


async def chatted(stack: Stack, messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    body = {"messages": messages, "temperature": 0, "ignore_eos": True, "return_token_ids": True, **fields}
    return await stack.post("/v1/chat/completions", body)


async def test_a_conversation_is_that_of_a_chat(stack: Stack, tokenizer: Tokenizer) -> None:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "you are short"}]
    parent = await call(stack, message("system", "you are short"))
    for question in ("hello there", "and the dog?"):
        messages.append({"role": "user", "content": question})
        plain = await chatted(stack, messages, max_tokens=6)
        answer = await call(
            stack,
            *opened("user", text(question[:3]), text(question[3:])),
            *opened("assistant", gen("x", 6)),
            parent=parent["id"],
        )
        content = plain["choices"][0]["message"]["content"]
        assert answer["parts"][0]["text"] == content
        messages.append({"role": "assistant", "content": content})
        ids = tokenizer.decode(answer["token_ids"], skip_special_tokens=False)
        assert ids == tokenizer.render_chat(messages, add_generation_prompt=False)
        drawn = plain["prompt_token_ids"] + plain["choices"][0]["token_ids"]
        assert answer["token_ids"][: len(drawn)] == drawn
        parent = answer
    async with stack.http.get(f"{stack.url}{PATH}/{parent['id']}") as response:
        assert (await response.json())["messages"] == messages


async def test_an_answer_that_the_program_begins_and_ends(stack: Stack) -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Sure, the"}]
    plain = await chatted(stack, messages, max_tokens=5, continue_final_message=True, add_generation_prompt=False)
    parts = [
        *opened("user", text("hello")),
        *opened("assistant", text("Sure, "), text("the"), gen("x", 5), text(" end")),
    ]
    at_once = await call(stack, *parts)
    assert at_once["parts"][0]["text"] == plain["choices"][0]["message"]["content"]
    parent: str | None = None
    for part in parts:
        answer = await call(stack, part, parent=parent)
        parent = answer["id"]
        assert answer["length"]
    assert answer["token_ids"] == at_once["token_ids"]


async def test_the_model_s_own_end_is_no_content(stack: Stack, tokenizer: Tokenizer) -> None:
    ends = {"type": "gen", "name": "x", "logit_bias": {"2": 100}, "temperature": 0}
    answer = await call(stack, message("user", "hi"), *opened("assistant", text("yes"), ends))
    [part] = answer["parts"]
    assert (part["text"], part["finish_reason"], part["completion_tokens"]) == ("", "stop", 1)
    written = tokenizer.decode(answer["token_ids"], skip_special_tokens=False)
    assert written.endswith("<|im_start|>assistant\nyes<|im_end|>\n")


async def test_select_in_a_conversation(stack: Stack, tokenizer: Tokenizer) -> None:
    answer = await call(stack, message("user", "a or b?"), *opened("assistant", select("x", "a", "b"), text(".")))
    chosen = answer["parts"][0]["text"]
    written = tokenizer.decode(answer["token_ids"], skip_special_tokens=False)
    assert written.endswith(f"<|im_start|>assistant\n{chosen}.<|im_end|>\n")


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]},
        },
    }
]


async def test_tools_of_a_conversation(stack: Stack, tokenizer: Tokenizer) -> None:
    wish = gen("x", 200, ignore_eos=False, tool_choice="required", parallel_tool_calls=False)
    asked = await call(stack, message("user", "weather?"), *opened("assistant", wish), tools=TOOLS)
    [part] = asked["parts"]
    assert part["finish_reason"] == "tool_calls"
    [made] = part["tool_calls"]
    assert made["function"]["name"] == "weather"
    result = message("tool", "sunny", tool_call_id=made["id"])
    answer = await call(stack, result, *opened("assistant", gen("y", 3)), parent=asked["id"])
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": part["tool_calls"]},
        {"role": "tool", "content": "sunny", "tool_call_id": made["id"]},
    ]
    plain = await chatted(stack, messages, tools=TOOLS, max_tokens=3)
    written = tokenizer.decode(answer["token_ids"], skip_special_tokens=False)
    drawn = plain["prompt_token_ids"] + plain["choices"][0]["token_ids"]
    assert written == tokenizer.decode(drawn, skip_special_tokens=False) + "<|im_end|>\n"
    async with stack.http.get(f"{stack.url}{PATH}/{answer['id']}") as response:
        assert (await response.json())["messages"][:3] == messages
    status, error = await refused(stack, message("user", "a"), parent=asked["id"], tools=TOOLS)
    assert (status, error["param"]) == (400, "tools")


async def test_what_is_no_conversation_yet_is_kept_all_the_same(stack: Stack) -> None:
    empty = await call(stack)
    assert empty["length"] == 0
    begun = await call(stack, {"type": "open", "role": "user"}, parent=empty["id"])
    answer = await call(stack, text("hi"), {"type": "close"}, *opened("assistant", gen("x")), parent=begun["id"])
    plain = await chatted(stack, [{"role": "user", "content": "hi"}], max_tokens=4)
    assert answer["parts"][0]["text"] == plain["choices"][0]["message"]["content"]
    status, error = await refused(stack, text("raw"), parent=answer["id"])
    assert (status, error["code"]) == (400, "mixed_context")
