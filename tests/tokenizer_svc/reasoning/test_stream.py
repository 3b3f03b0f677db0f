"""Reasoning told apart from content: a reference that reads whole texts, and every way to cut them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer_svc.parts import Content, Reasoning
from tokenizer_svc.reasoning.formats import MARKS, SPACE, Marks, Opening, ReasoningFormat, opening_of
from tokenizer_svc.reasoning.stream import ReasoningStream

THINK = MARKS[ReasoningFormat.THINK]
Pair = tuple[str, str]


def split(opening: Opening, *pieces: str, marks: Marks = THINK) -> Pair:
    """Reasoning and content, which must come in this order."""
    stream = ReasoningStream(marks, opening)
    parts = [part for piece in pieces for part in stream.push(piece)] + stream.finish()
    kinds = [type(part) for part in parts]
    assert kinds == sorted(kinds, key=[Reasoning, Content].index)
    assert all(part.text for part in parts)
    thought = "".join(part.text for part in parts if isinstance(part, Reasoning))
    return thought, "".join(part.text for part in parts if isinstance(part, Content))


def reference(opening: Opening, text: str, marks: Marks) -> Pair:
    """The same, by regular expressions over the whole text."""
    space = f"[{SPACE}]*"
    opener, closer = map(re.escape, marks)
    if opening is Opening.BEFORE:
        begun = re.match(space + opener, text)
        if begun is None:
            return "", text
        text = text[begun.end() :]
    elif opening is Opening.AFTER:
        return "", text
    if re.search(closer, text) is None:
        return text.lstrip(SPACE), ""
    thought, content = re.split(space + closer + space, text, maxsplit=1)
    return thought.lstrip(SPACE), content


@pytest.mark.parametrize("marks", list(MARKS.values()), ids=[str(name) for name in MARKS])
@given(data=st.data())
def test_any_text_cut_anywhere(marks: Marks, data: st.DataObject) -> None:
    pieces = data.draw(
        st.lists(st.sampled_from([*marks, *marks, marks.closer[:-2], " ", "\n", "<", "</", "[", "/", "k>", "a", "€"]))
    )
    text = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    cut = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    for opening in Opening:
        expected = reference(opening, text, marks)
        assert split(opening, *cut, marks=marks) == expected
        assert split(opening, *text, marks=marks) == expected
        assert split(opening, text, marks=marks) == expected


@pytest.mark.parametrize(
    ("opening", "text", "expected"),
    [
        (Opening.BEFORE, "<think>\nHm.\n</think>\n\nYes.", ("Hm.", "Yes.")),
        (Opening.WITHIN, "Hm.\n\nSo.\n</think>\n\nYes.\n", ("Hm.\n\nSo.", "Yes.\n")),
        (Opening.AFTER, "Yes. <think>", ("", "Yes. <think>")),
        (Opening.BEFORE, "Yes. <think>no</think>", ("", "Yes. <think>no</think>")),
        (Opening.BEFORE, "<think>\n\n</think>\n\nYes.", ("", "Yes.")),
        (Opening.WITHIN, "</think>Yes.", ("", "Yes.")),
        (Opening.WITHIN, "cut </thi", ("cut </thi", "")),
        (Opening.BEFORE, " <thin", ("", " <thin")),
        (Opening.WITHIN, "a <think> b</think>c</think>", ("a <think> b", "c</think>")),
    ],
)
def test_what_texts_amount_to(opening: Opening, text: str, expected: Pair) -> None:
    assert split(opening, text) == expected


def test_no_more_is_held_back_than_must_be() -> None:
    stream = ReasoningStream(THINK, Opening.WITHIN)
    assert stream.push("a < b") == [Reasoning("a < b")]
    assert stream.push("</think") == []
    assert stream.push("ing>") == [Reasoning("</thinking>")]
    assert stream.push("c ") == [Reasoning("c")]
    assert stream.push("d</think>") == [Reasoning(" d")]
    assert stream.push("\n") == []
    assert stream.push("\ne <") == [Content("e <")]
    plain = ReasoningStream(THINK, Opening.BEFORE)
    assert plain.push("<") == []
    assert plain.push("b") == [Content("<b")]
    assert plain.push("<think>") == [Content("<think>")]


@pytest.mark.parametrize(
    ("tail", "opening"),
    [
        ("<|im_start|>assistant\n", Opening.BEFORE),
        ("<|im_start|>assistant\n<think>\n", Opening.WITHIN),
        ("<｜Assistant｜><think>", Opening.WITHIN),
        ("<think>\n\n</think>\n\n", Opening.AFTER),
        ("what does <think> do?<|im_end|>\n<|im_start|>assistant\n", Opening.BEFORE),
    ],
)
def test_the_end_of_a_prompt_decides(tail: str, opening: Opening) -> None:
    assert opening_of(tail, THINK) is opening
