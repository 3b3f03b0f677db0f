"""A part that the model writes: from its fields to what the engine is asked for, and from there to its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from shared.protocol import Sampling
from tokenizer_svc.answers import Answer, Piece, merged
from tokenizer_svc.contexts.request import GenPart
from tokenizer_svc.contexts.shapes import Generated
from tokenizer_svc.draft import Display, Draft
from tokenizer_svc.engine import Engine
from tokenizer_svc.openai_answers import ChatAnswers
from tokenizer_svc.openai_bodies import ChatChoice
from tokenizer_svc.openai_scores import Wanted
from tokenizer_svc.openai_shown import Showing
from tokenizer_svc.prompts import LengthNames, answer_length
from tokenizer_svc.reading import AnswerReader, HowRead, how_read
from tokenizer_svc.reasoning.wish import ReasoningWish
from tokenizer_svc.rendering import Origin
from tokenizer_svc.sampling import Bounds, Vocabulary, resolve
from tokenizer_svc.structure import Structure, check_structured
from tokenizer_svc.tools.grammar import beside_form, read_structure_with
from tokenizer_svc.tools.toolbox import Toolbox


class Gen(NamedTuple):
    """What a part asks for, valid as far as that can be said before the text before it is known."""

    part: GenPart
    path: str  # in the request
    structure: Structure | None
    how: HowRead
    wanted: Wanted


def read_gen(engine: Engine, part: GenPart, path: str, toolbox: Toolbox | None, *, is_chat: bool) -> Gen:
    """Raises ApiError 400."""
    fields = part if part.choices is None else msgspec.structs.replace(part, choice=part.choices)
    toolbox = beside_form(toolbox, fields, path)
    structure = read_structure_with(toolbox, fields, engine.tool_format, path)
    if structure is not None:
        if part.choices is not None:
            structure = structure._replace(param=f"{path}.choices")
        check_structured(structure, engine.ready_card())
    how = how_read(engine, toolbox) if is_chat else HowRead(engine, None, None, ReasoningWish(is_separate=False))
    gen = Gen(part, path, structure, how, Wanted((part.top_logprobs or 0) if part.logprobs else None))
    drafts_of(engine, gen, (0,), Draft(0, (0,), Sampling(0), Display(), "", 0))  # what can be refused is refused now
    return gen


def drafts_of(engine: Engine, gen: Gen, prompt: Sequence[int], like: Draft) -> list[Draft]:
    """The sequences of a part after a prompt, in all else ``like`` another. Raises ApiError 400."""
    part, card, bounds = gen.part, engine.ready_card(), Bounds(gen.path)
    structure = gen.how.obeyed(gen.structure, prompt)
    choosing = resolve(
        part,
        bounds,
        engine.limits,
        Vocabulary(card.vocab_size, engine.tokenizer.eos_ids),
        max_tokens=answer_length(
            card, len(prompt), part.max_tokens, None, LengthNames(gen.path, bounds.path("max_tokens"))
        ),
        min_tokens=part.min_tokens,
        seed=part.seed,
        include_stop=bool(part.include_stop_str_in_output),
        grammar=structure.grammar if structure else None,
        scoring=gen.wanted.scoring(len(prompt)),
    )
    display = gen.how.shown(choosing.display)
    return [
        like._replace(
            input_ids=prompt,
            sampling=choosing.seeded(index),
            display=display,
            structure=structure,
            context="" if index else like.context,  # the one that it goes on with
        )
        for index in range(choosing.n)
    ]


class Reading(ChatAnswers):
    """The answer to a part, as a chat has it."""

    def __init__(self, engine: Engine, gen: Gen, answer: Answer) -> None:
        showing = Showing(
            engine.tokenizer, engine.fingerprint, scores=gen.wanted, ignores_eos=bool(gen.part.ignore_eos)
        )
        super().__init__(answer, AnswerReader(answer, gen.how), Origin("", 0, lambda: 0.0), showing)

    def choices(self, pieces: Sequence[Piece]) -> list[ChatChoice]:
        """All of them, whole."""
        by_index = {piece.choice.index: piece for piece in merged(pieces)}
        found = ((choice, by_index.get(choice.index)) for choice in self._answer.choices)
        return [
            self._choice(choice, piece.text, piece.tokens, piece.scores)
            if piece is not None
            else self._choice(choice, "", (), None)
            for choice, piece in found
        ]


def result_of(gen: Gen, index: int, answer: Answer, choices: Sequence[ChatChoice]) -> Generated:
    """What a client is told of a part, the ``index``-th of its request."""
    first = choices[0]
    texts = [choice.message.content or "" for choice in choices]
    return Generated(
        part=index,
        name=gen.part.name,
        text=texts[0],
        texts=texts if len(texts) > 1 else UNSET,
        finish_reason=first.finish_reason,
        matched_stop=first.matched_stop,
        prompt_tokens=answer.choices[0].prompt_tokens,
        completion_tokens=sum(choice.completion_tokens for choice in answer.choices),
        reasoning_content=first.message.reasoning_content,
        tool_calls=first.message.tool_calls,
        logprobs=UNSET if first.logprobs is None else first.logprobs,
    )
