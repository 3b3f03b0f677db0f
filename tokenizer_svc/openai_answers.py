"""Answers of OpenAI's API: whole objects, and the chunks of a stream in OpenAI's order.

A stream of a chat is: a chunk with the role for every choice, chunks of text, a chunk with finish_reason
for every choice, a chunk with usage and no choices if asked for, ``[DONE]``. A stream of a completion has no
roles; where the prompt is echoed, it begins with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from shared.protocol import Finish, Scores
from tokenizer_svc.alignment import Shown, echoed
from tokenizer_svc.answers import Answer, Choice, Piece
from tokenizer_svc.openai_bodies import ChatChoice, ChunkChoice, Delta, ReplyMessage, TextChoice
from tokenizer_svc.openai_scores import chat_logprobs, text_logprobs
from tokenizer_svc.openai_shown import FINISH_REASONS, OpenAIAnswers, Showing, encode, prompt_ids
from tokenizer_svc.parts import Arguments, Content, Ended, Part, Reasoning, Started
from tokenizer_svc.reading import AnswerReader, cut
from tokenizer_svc.rendering import Origin
from tokenizer_svc.tools.answers import call_delta, tool_calls


class ChatAnswers(OpenAIAnswers):
    """Answers of /v1/chat/completions."""

    prefix = "chatcmpl-"
    chunk_object = "chat.completion.chunk"
    whole_object = "chat.completion"

    def __init__(self, answer: Answer, reader: AnswerReader, origin: Origin, showing: Showing) -> None:
        super().__init__(answer, origin, showing)
        self._reader = reader

    @property
    def _reasoning_tokens(self) -> int:
        return self._reader.reasoning_tokens

    def opening(self) -> bytes:
        """The first chunks of a stream: the role of every choice."""
        role = Delta(role="assistant", content="", refusal=None)
        first, *others = [ChunkChoice(choice.index, role) for choice in self._answer.choices]
        return self._chunk(first, self._prompt_ids(self._answer.choices[0])) + b"".join(map(self._chunk, others))

    def piece(self, piece: Piece) -> bytes:
        """The chunks for one piece: none where it has no text yet."""
        choice = piece.choice
        chunks: list[bytes] = []
        for each in cut(piece, self._take(piece)):
            parts = self._reader.push(choice, each.text, each.tokens, each.finish)
            self._show(choice, each.text, self._reader.held(choice))
            deltas = [delta for part in parts if (delta := _delta(choice, part)) is not None]
            chunks += [self._chunk(self._added(choice, delta)) for delta in deltas]
        if piece.finish is not Finish.NONE:
            chunks.append(self._chunk(self._finish(choice)))
        return b"".join(chunks)

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The answer of a request that is no stream."""
        parts = zip(self._answer.choices, texts, tokens, scores, strict=True)
        body = self._body(self.whole_object, [self._choice(*part) for part in parts], self._whole_usage)
        prompt = self._answer.choices[0]
        return encode(
            msgspec.structs.replace(
                body, prompt_logprobs=self._prompt_logprobs(prompt), prompt_token_ids=self._prompt_ids(prompt)
            )
        )

    def _added(self, choice: Choice, delta: Delta) -> ChunkChoice:
        tokens = self._due(choice)
        logprobs = chat_logprobs(tokens, self._names, self._showing.scores)
        return ChunkChoice(choice.index, delta, logprobs, token_ids=self._ids(tokens))

    def _finish(self, choice: Choice) -> ChunkChoice:
        tokens = self._rest(choice)
        logprobs = chat_logprobs(tokens, self._names, self._showing.scores)
        stops = self._stop_reason(choice), choice.matched
        return ChunkChoice(choice.index, Delta(), logprobs, self._reason(choice), *stops, self._ids(tokens))

    def _reason(self, choice: Choice) -> str:
        return self._reader.finish_reason(choice) or FINISH_REASONS[choice.finish]

    def _choice(self, choice: Choice, text: str, tokens: Sequence[int], scores: Scores | None) -> ChatChoice:
        reply = self._reader.whole(choice, text, tokens)
        message = ReplyMessage(
            "assistant",
            reply.content or (None if reply.calls or reply.reasoning else ""),
            reasoning_content=reply.reasoning or UNSET,
            tool_calls=tool_calls(choice, reply.calls) or UNSET,
        )
        shown = self._all(choice, tokens, scores)
        return ChatChoice(
            choice.index,
            message,
            chat_logprobs(shown, self._names, self._showing.scores),
            self._reason(choice),
            self._stop_reason(choice),
            choice.matched,
            self._ids(shown),
        )


def _delta(choice: Choice, part: Part) -> Delta | None:
    match part:
        case Content(text):
            return Delta(content=text)
        case Reasoning(text):
            return Delta(reasoning_content=text)
        case Started() | Arguments():
            return Delta(tool_calls=(call_delta(choice, part),))
        case Ended():
            return None


class CompletionAnswers(OpenAIAnswers):
    """Answers of /v1/completions."""

    prefix = "cmpl-"
    chunk_object = "text_completion"
    whole_object = "text_completion"

    def __init__(self, answer: Answer, origin: Origin, showing: Showing) -> None:
        super().__init__(answer, origin, showing)
        self._begun: set[int] = set()  # choices that had a chunk
        self._prompts: dict[int, str] = {}  # as they are echoed

    def opening(self) -> bytes:
        """Completions have no roles: a stream starts with text."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """The chunks for one piece: none where it has no text yet."""
        choice = piece.choice
        first = b""
        if self._showing.echo is not None and choice.index not in self._begun:
            first = self._chunk(self._text(choice, self._prompt(choice), self._echo(choice), ()))
        self._take(piece)
        self._show(choice, piece.text)
        chunks: list[TextChoice] = []
        if piece.text:
            due = self._due(choice)
            chunks.append(self._text(choice, piece.text, self._placed(choice, due), due))
        if piece.finish is not Finish.NONE:
            rest = self._rest(choice)
            last = self._text(choice, "", self._placed(choice, rest), rest)
            stops = {"stop_reason": self._stop_reason(choice), "matched_stop": choice.matched}
            reason = FINISH_REASONS[piece.finish]
            chunks.append(msgspec.structs.replace(last, finish_reason=reason, **stops))
        return first + b"".join(map(self._chunk, chunks))

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The answer of a request that is no stream."""
        parts = zip(self._answer.choices, texts, tokens, scores, strict=True)
        choices = [self._choice(*part) for part in parts]
        return encode(self._body(self.whole_object, choices, self._whole_usage))

    def _text(self, choice: Choice, text: str, tokens: Sequence[Shown], own: Sequence[Shown]) -> TextChoice:
        """A chunk's part of a choice: ``own`` are the tokens of the answer among those that it shows."""
        prompt_ids = UNSET if choice.index in self._begun else self._prompt_ids(choice)
        self._begun.add(choice.index)
        return TextChoice(
            choice.index,
            text,
            text_logprobs(tokens, self._names, self._showing.scores),
            prompt_token_ids=prompt_ids,
            token_ids=self._ids(own),
        )

    def _choice(self, choice: Choice, text: str, tokens: Sequence[int], scores: Scores | None) -> TextChoice:
        own = self._all(choice, tokens, scores)
        return TextChoice(
            choice.index,
            self._prompt(choice) + text,
            text_logprobs([*self._echo(choice), *self._placed(choice, own)], self._names, self._showing.scores),
            FINISH_REASONS[choice.finish],
            self._stop_reason(choice),
            choice.matched,
            self._prompt_logprobs(choice),
            self._prompt_ids(choice),
            self._ids(own),
        )

    # --- the prompt, where it is echoed

    def _echo(self, choice: Choice) -> Sequence[Shown]:
        """Its tokens, where they are shown."""
        if self._showing.echo is None or self._showing.scores.answer is None:
            return ()
        stream = self._showing.tokenizer.stream((), False)
        return echoed(prompt_ids(choice), self._prompt(choice), choice.prompt_scores, stream)

    def _prompt(self, choice: Choice) -> str:
        """Its text; none where it is not echoed."""
        if self._showing.echo is None:
            return ""
        known = self._prompts.get(choice.prompt)
        if known is None:
            known = self._showing.echo[choice.prompt]
            if known is None:
                known = self._showing.tokenizer.decode(prompt_ids(choice), skip_special_tokens=False)
            self._prompts[choice.prompt] = known
        return known

    def _placed(self, choice: Choice, tokens: Sequence[Shown]) -> Sequence[Shown]:
        """Tokens of an answer by their places in the text that has the prompt before it."""
        if not tokens or not (before := len(self._prompt(choice))):
            return tokens
        return [token._replace(offset=before + token.offset) for token in tokens]
