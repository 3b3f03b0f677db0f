"""The conversation of a person with a server, from greeting to goodbye; or one question from a pipe.

Ctrl-C stops an answer and not the chat. What an answer had said by then stays in the conversation.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from rootstream.chat.answering import Answer, Lost, Show, stream
from rootstream.chat.commands import Command, help_text, parse
from rootstream.chat.conversation import Conversation
from rootstream.chat.interrupts import Interrupts
from rootstream.chat.keyboard import Keyboard
from rootstream.chat.screen import Plain, Screen
from rootstream.client import Client, NoServer, Refused, explained
from shared.errors import UserError


class Server(NamedTuple):
    """Whom to talk to."""

    url: str
    api_key: str | None

    def client(self) -> Client:
        return Client(self.url, self.api_key)


def run(server: Server, system: str | None, options: Mapping[str, Any], prompt: str | None = None) -> int:
    """Talk until the questions end; the exit code. Raises UserError where there is no server."""
    fields = {name: value for name, value in options.items() if name != "model"}
    model = options.get("model") or asyncio.run(_models(server))[0]
    conversation = Conversation(model, system, fields)
    if prompt is None and sys.stdin.isatty():
        return Session(server, conversation, Screen(Console(highlight=False)), Keyboard()).run()
    piped = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    question = "\n\n".join(part for part in (prompt, piped) if part)
    return _answer_one(server, conversation, question) if question else 0


def _answer_one(server: Server, conversation: Conversation, question: str) -> int:
    conversation.ask(question)
    console = Console()
    try:
        answer = asyncio.run(_answered(server, conversation, Plain(console)))
    except (Refused, Lost) as error:
        print(f"rootstream: {explained(error) if isinstance(error, Refused) else error}", file=sys.stderr)
        return 1
    if not answer.text.endswith("\n"):
        print()
    return 0


class Session:
    """A person's chat."""

    def __init__(self, server: Server, conversation: Conversation, screen: Screen, keyboard: Keyboard) -> None:
        self._server = server
        self._talk = conversation
        self._screen = screen
        self._keyboard = keyboard
        self._spent: list[Mapping[str, Any]] = []  # usage of each answer
        self._commands: Mapping[str, Callable[[str], None]] = {
            "help": lambda _: screen.say(help_text()),
            "clear": self._clear,
            "system": self._system,
            "history": self._history,
            "undo": self._undo,
            "retry": self._retry,
            "save": self._save,
            "load": self._load,
            "model": self._model,
            "set": self._set,
            "unset": self._unset,
            "tokens": self._tokens,
            "multiline": self._multiline,
        }

    def run(self) -> int:
        talk, screen = self._talk, self._screen
        screen.figures(f"{talk.model} at {self._server.url}: Ctrl-C stops an answer, Ctrl-D ends, /help lists commands")
        goes_on = True
        while goes_on:
            try:
                goes_on = self._turn(self._keyboard.ask())
            except UserError as error:
                screen.error(str(error))
            except KeyboardInterrupt:  # between two turns, or in a command
                screen.figures("stopped")
        return 0

    def _turn(self, line: str | None) -> bool:
        """Whether another one follows."""
        match None if line is None else parse(line):
            case None | Command("quit"):
                return False
            case Command(name, argument):
                self._commands[name](argument)
            case question if question.strip():
                self._ask(question)
            case _:
                pass
        return True

    def _ask(self, question: str) -> None:
        screen, talk = self._screen, self._talk
        answer = Answer()
        try:
            with Interrupts() as interrupts:
                talk.ask(question)
                is_whole = asyncio.run(_interruptible(self._server, talk, answer, screen, interrupts))
        except Refused as error:
            screen.error(explained(error))
            talk.messages.pop()
            return
        except Lost as error:
            screen.note(f"{error}: /retry asks again")
            is_whole = True
        if answer.text:
            talk.answer(answer.text)
        elif not is_whole:
            talk.messages.pop()
        self._spent.append(answer.usage)
        screen.figures(answer.figures() if is_whole else "stopped")

    # --- commands

    def _clear(self, _: str) -> None:
        self._talk.clear()
        self._screen.figures("forgotten")

    def _system(self, text: str) -> None:
        if text:
            self._talk.system = None if text == "off" else text
        self._screen.say(f"system prompt: {self._talk.system or 'none'}")

    def _history(self, _: str) -> None:
        for message in self._talk.messages:
            self._screen.figures(message["role"])
            self._screen.text(message["content"])
            self._screen.figures("")

    def _undo(self, _: str) -> None:
        question = self._talk.undo()
        self._screen.say("nothing was said yet" if question is None else f"taken back: {question}")

    def _retry(self, _: str) -> None:
        question = self._talk.undo()
        if question is None:
            raise UserError("nothing was asked yet")
        self._ask(question)

    def _save(self, name: str) -> None:
        path = _path(name, "/save chat.json")
        try:
            path.write_text(self._talk.as_json())
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from None
        self._screen.say(f"{len(self._talk.messages)} messages in {path}")

    def _load(self, name: str) -> None:
        path = _path(name, "/load chat.json")
        try:
            self._talk.load(path.read_text())
        except UnicodeDecodeError:
            raise UserError(f"{path} is no text") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        self._screen.say(f"{len(self._talk.messages)} messages from {path}")

    def _model(self, name: str) -> None:
        models = asyncio.run(_models(self._server))
        if name and name not in models:
            raise UserError(f"the server has no {name}: it has {', '.join(models)}")
        self._talk.model = name or self._talk.model
        self._screen.say("\n".join(f"{'*' if model == self._talk.model else ' '} {model}" for model in models))

    def _set(self, text: str) -> None:
        name, _, value = text.replace("=", " ", 1).partition(" ")
        if name:
            self._talk.set(name, value.strip())
        options = self._talk.options
        self._screen.say(
            "\n".join(f"{name} = {value}" for name, value in options.items()) or "all as the server has it"
        )

    def _unset(self, name: str) -> None:
        if self._talk.options.pop(name, None) is None:
            raise UserError(f"{name or 'nothing'} is not set: /set shows what is")

    def _tokens(self, _: str) -> None:
        counted = [usage for usage in self._spent if usage]
        if not counted:
            raise UserError("no answer has been counted yet")
        totals = {
            name: sum(usage.get(name) or 0 for usage in counted) for name in ("prompt_tokens", "completion_tokens")
        }
        cached = sum((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0 for usage in counted)
        now = counted[-1].get("total_tokens") or sum(counted[-1].get(name) or 0 for name in totals)
        self._screen.say(
            f"the conversation is {now} tokens long; {len(counted)} answers took {totals['prompt_tokens']} prompt "
            f"tokens, {cached} of them cached, and {totals['completion_tokens']} generated ones"
        )

    def _multiline(self, _: str) -> None:
        self._keyboard.multiline = not self._keyboard.multiline
        self._screen.say(
            'a line with only "." ends a question' if self._keyboard.multiline else "one line, one question"
        )


async def _models(server: Server) -> list[str]:
    try:
        async with server.client() as client:
            return await client.models()
    except NoServer:
        message = f"no server answers at {server.url}: start one with `rootstream serve`, or give its --url"
        raise UserError(message) from None
    except Refused as error:
        raise UserError(f"{server.url} is no server to chat with: {explained(error)}") from None


async def _answered(server: Server, talk: Conversation, show: Show) -> Answer:
    answer = Answer()
    async with server.client() as client:
        await stream(client, talk.body(), answer, show)
    return answer


async def _interruptible(
    server: Server, talk: Conversation, answer: Answer, show: Show, interrupts: Interrupts
) -> bool:
    """Whether an answer came to its end, or to Ctrl-C."""
    async with server.client() as client:
        streaming = asyncio.create_task(stream(client, talk.body(), answer, show))
        interrupts.cancel(streaming)
        try:
            await streaming
        except asyncio.CancelledError:
            return False
    return True


def _path(name: str, example: str) -> Path:
    if not name:
        raise UserError(f"name a file, such as {example}")
    return Path(name).expanduser()
