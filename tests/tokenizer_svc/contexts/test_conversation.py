"""A conversation that grows has the tokens of the whole one, whatever its template does with what was there before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from shared.tokenizer import Tokenizer
from tests.toy import CHAT_TEMPLATE, toy_tokenizer
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.contexts.conversation import closed, up_to_date, up_to_date_if_possible
from tokenizer_svc.contexts.state import Conversation, State
from tokenizer_svc.limits import Limits
from tokenizer_svc.metrics import Metrics
from tokenizer_svc.reasoning.formats import Marks, choose
from tokenizer_svc.tools.formats import ToolFormat

FORGETS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% set content = message.content %}{% set thoughts = message.reasoning_content or '' %}"
    "{% if '</think>' in content %}{% set thoughts = content.split('</think>')[0].split('<think>')[-1] %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if thoughts and loop.last %}{{ '<think>' + thoughts + '</think>\n\n' }}{% endif %}"
    "{{ content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMS = CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")
THINKS_FIRST = CHAT_TEMPLATE.replace("assistant\\n", "assistant\\n<think>\\n")
NEEDS_USER = (
    "{% if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}"
    "{{ raise_exception('no user message') }}{% endif %}" + CHAT_TEMPLATE
)
TEMPLATES = {
    "plain": CHAT_TEMPLATE,
    "forgets": FORGETS,
    "trims": TRIMS,
    "thinks first": THINKS_FIRST,
    "user": NEEDS_USER,
}


class Door:
    """What is asked of an engine here."""

    def __init__(self, template: str) -> None:
        self.tokenizer = Tokenizer(toy_tokenizer(), eos_ids=[2], special_tokens={}, chat_template=template)
        self.limits = Limits()
        self.metrics = Metrics(CollectorRegistry())
        self.tool_format = ToolFormat.HERMES
        self.reasoning: Marks | None = choose("auto", self.tokenizer.chat_template, self.tokenizer.chat_template)

    @property
    def engine(self) -> Any:
        return self


DOORS = {name: Door(template) for name, template in TEMPLATES.items()}


def begun(state: State, role: str) -> State:
    return msgspec.structs.replace(state, chat=(state.chat or Conversation()).opened(role))


def said(door: Door, state: State, text: str, *, generated: bool = False) -> State:
    """More of the open message, as the program or the model says it."""
    chat = state.chat
    assert chat is not None
    more = {"content": chat.content + text, "plain": chat.plain + text}
    written = state.written
    if not chat.is_due:
        more["shown"] = chat.shown + text
        if generated:
            written = written.with_drawn(door.tokenizer.encode_after(text))
        else:
            written = written.with_text(text, door.tokenizer)
    chat = msgspec.structs.replace(chat, **more, is_generated=chat.is_generated or generated)
    return msgspec.structs.replace(state, chat=chat, written=written)


def ended(door: Door, state: State) -> State:
    assert state.chat is not None
    return closed(door.engine, state, state.chat)


def shown(door: Door, state: State) -> str:
    return door.tokenizer.decode(state.written.ids, skip_special_tokens=False)


words = st.sampled_from(["hello", " the dog", "\n", "  ", "a", "é", " <b>"])
texts = st.lists(words, max_size=4).map("".join)
replies = st.one_of(texts, st.tuples(texts, texts).map(lambda pair: f"<think>\n{pair[0]}\n</think>\n\n{pair[1]}"))
turns = st.lists(st.tuples(texts.map(lambda text: "u" + text), replies), min_size=1, max_size=4)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=25)
@given(turns=turns, syncs=st.lists(st.booleans(), min_size=20, max_size=20))
async def test_messages_one_by_one_are_the_whole_conversation(
    name: str, turns: list[tuple[str, str]], syncs: list[bool]
) -> None:
    door, state, sync = DOORS[name], State(), iter(syncs)
    for question, reply in turns:
        for role, text in (("user", question), ("assistant", reply)):
            state = begun(state, role)
            for piece in (text[:2], text[2:]):
                if next(sync, False):
                    state = await up_to_date(door.engine, state)
                state = said(door, state, piece)
            state = ended(door, state)
            if next(sync, False):
                state = await up_to_date(door.engine, state)
    state = await up_to_date(door.engine, state)
    assert state.chat is not None
    rendered = door.tokenizer.render_chat(list(state.chat.messages), add_generation_prompt=False)
    assert list(state.written.ids) == door.tokenizer.encode(rendered, add_special_tokens=False)
    assert [each["role"] for each in state.chat.messages] == ["user", "assistant"] * len(turns)


async def test_drawn_tokens_stay_while_the_template_lets_them() -> None:
    door = DOORS["plain"]
    state = await up_to_date(door.engine, said(door, begun(State(), "user"), "hi"))
    state = begun(ended(door, state), "assistant")
    state = await up_to_date(door.engine, state)
    before = len(state.written.ids)
    drawn = tuple(door.tokenizer.encode_after(letter)[0] for letter in "hello")  # as no tokenizer would cut it
    chat = state.chat
    assert chat is not None
    chat = msgspec.structs.replace(chat, content="hello", shown=chat.shown + "hello", is_generated=True)
    state = msgspec.structs.replace(state, chat=chat, written=state.written.with_drawn(drawn))
    state = await up_to_date(door.engine, begun(ended(door, state), "user"))
    assert state.written.ids[before : before + 5] == drawn
    assert shown(door, state).endswith("hello<|im_end|>\n<|im_start|>user\n")


async def test_old_thoughts_go_where_the_template_drops_them() -> None:
    door = DOORS["forgets"]
    state = ended(door, said(door, begun(State(), "user"), "hi"))
    state = await up_to_date(door.engine, begun(state, "assistant"))
    state = said(door, state, "<think>hm</think>\n\nyes", generated=True)
    state = await up_to_date(door.engine, ended(door, state))
    assert "<think>hm</think>\n\nyes" in shown(door, state)
    assert state.chat is not None
    assert state.chat.messages[-1] == {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    state = await up_to_date(door.engine, ended(door, said(door, begun(state, "user"), "and?")))
    assert "think" not in shown(door, state)
    assert shown(door, state).count("yes") == 1


async def test_a_template_that_wants_a_user_gets_one_later() -> None:
    door = DOORS["user"]
    state = ended(door, said(door, begun(State(), "system"), "be short"))
    assert await up_to_date_if_possible(door.engine, state) == state
    with pytest.raises(ApiError):
        await up_to_date(door.engine, begun(state, "assistant"))
    state = await up_to_date(door.engine, said(door, begun(state, "user"), "hi"))
    assert shown(door, state) == "<|im_start|>system\nbe short<|im_end|>\n<|im_start|>user\nhi"
