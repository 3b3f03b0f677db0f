"""The verdict on one stream: does it say exactly what a run without faults said?

Pure, in the manner of Jepsen: histories in, violations out. A stream whose connection lasted must equal its
reference; one whose connection died or was cut must be a beginning of it. Diagnoses (gap, duplicate) are for
people; that something differs at all is what counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import jsonschema

from tests.chaos.faults import Kind
from tests.chaos.history import RETRIED, Ask, Connection, Injected, Outcome, Stream
from tests.chaos.reading import Reading, Seen, Violation, Wrong, read_events

_SHOWN = 24
_EXCUSED_S = 1.0  # how long after a front door's death its clients may still notice
_COPIED_S = 5.0  # within which an answer is taken over, or its log written again: until then there is one copy
_GONE = 404


def check(ask: Ask, stream: Stream, reference: Reading, faults: Sequence[Injected]) -> list[Violation]:
    """Everything that is wrong with a stream."""
    found = [
        violation
        for each in stream.connections
        for violation in check_connection(each, faults)
        if each.status != _GONE or not was_lost_twice(stream, faults)
    ]
    reading = read_events(ask.path, stream.events)
    found += check_order([event.id for event in stream.events])
    if _says_not_found(reading) and was_lost_twice(stream, faults):
        return found + check_beginning(ask, reading, reference)
    found += reading.wrong
    if stream.last.outcome is Outcome.ENDED:
        found += check_whole(ask, reading, reference)
    else:
        found += check_beginning(ask, reading, reference)
    return found


def check_connection(connection: Connection, faults: Sequence[Injected]) -> list[Violation]:
    """A connection may end by itself, by our hand, or with the process that held it."""
    match connection.outcome:
        case Outcome.ENDED | Outcome.CUT:
            return []
        case Outcome.HUNG:
            return [Violation(Wrong.HUNG, f"silent until {connection.detail}")]
        case Outcome.REFUSED:
            if connection.status in RETRIED and any(_overlap(connection, fault) for fault in faults):
                return []
            return [Violation(Wrong.STATUS, f"{connection.status}: {connection.detail[:300]}")]
        case Outcome.DIED | Outcome.UNREACHABLE:
            if any(_explains(fault, connection) for fault in faults):
                return []
            detail = f"{connection.detail or 'the connection died'}, and no front door did"
            return [Violation(Wrong.DISCONNECTED, detail)]


def _says_not_found(reading: Reading) -> bool:
    """Did it end in this error, and in no other?"""
    return bool(reading.wrong) and all(
        each.wrong is Wrong.ERROR and "not_found" in each.detail for each in reading.wrong
    )


def was_lost_twice(stream: Stream, faults: Sequence[Injected]) -> bool:
    """Had its front door died when the data of Redis went, or the other way round? Then both copies were gone."""
    since = [fault for fault in faults if _over(fault) >= stream.began and fault.at <= stream.last.ended]
    deaths = [fault for fault in since if fault.front_doors]
    losses = [fault for fault in since if fault.kind == Kind.EMPTY]
    return any(
        death.at <= _over(loss) + _COPIED_S and loss.at <= _over(death) + _COPIED_S
        for death in deaths
        for loss in losses
    )


def _over(fault: Injected) -> float:
    """When everything was back."""
    return max([fault.at, *(outage.until or float("inf") for outage in fault.outages)])


def _explains(fault: Injected, connection: Connection) -> bool:
    """Did this fault kill the process at the other end, or all who could have been there?"""
    if not fault.front_doors:
        return False
    if connection.port is not None and connection.status is not None:
        return connection.port in fault.severed
    return _overlap(connection, fault)  # never accepted: nobody knows whose it was


def _overlap(connection: Connection, fault: Injected) -> bool:
    """Was the fault, or what it did, under way while this connection was?"""
    return fault.at <= connection.ended and connection.began <= _over(fault) + _EXCUSED_S


def check_order(ids: Sequence[str | None]) -> list[Violation]:
    """Events that carry ids carry those of one answer, counting up: none twice, none left out."""
    found: list[Violation] = []
    previous: tuple[str, int] | None = None
    for id in ids:
        if id is None:
            continue
        answer, _, number = id.rpartition(":")
        current = (answer, int(number))
        if previous is not None and current != (previous[0], previous[1] + 1):
            wrong = Wrong.DUPLICATE if current[1] <= previous[1] else Wrong.GAP
            found.append(Violation(wrong, f"event {id} after {previous[0]}:{previous[1]}"))
        previous = current
    return found


def check_whole(ask: Ask, reading: Reading, reference: Reading) -> list[Violation]:
    """A stream that the server ended: everything is there, once, and as it should be."""
    if any(violation.wrong is Wrong.ERROR for violation in reading.wrong):
        return []  # said already; what is missing after it is no news
    found = [] if reading.done else [Violation(Wrong.SHORT, "the response ended without [DONE]")]
    for index in range(ask.choices):
        seen, expected = reading.choices.get(index, Seen()), reference.choices.get(index, Seen())
        found += _differences(index, seen, expected)
        if seen.finish is None:
            found.append(Violation(Wrong.SHORT, f"choice {index} has no finish"))
        elif (seen.finish, seen.matched) != (expected.finish, expected.matched):
            detail = f"choice {index}: {seen.finish} {seen.matched!r}, not {expected.finish} {expected.matched!r}"
            found.append(Violation(Wrong.FINISH, detail))
        if seen.prompt_tokens != expected.prompt_tokens:
            detail = f"choice {index} has {seen.prompt_tokens} prompt tokens, not {expected.prompt_tokens}"
            found.append(Violation(Wrong.USAGE, detail))
    if extra := set(reading.choices) - set(range(ask.choices)):
        found.append(Violation(Wrong.ORDER, f"choices {sorted(extra)} were not asked for"))
    if reading.usage != reference.usage:
        found.append(Violation(Wrong.USAGE, f"{reading.usage}, not {reference.usage}"))
    return found + check_promises(ask, reading)


def check_promises(ask: Ask, reading: Reading) -> list[Violation]:
    """What is true of a whole answer without any reference: numbers of tokens, and the grammar."""
    found: list[Violation] = []
    if ask.tokens is not None:
        counts = [seen.tokens for seen in reading.choices.values() if seen.tokens is not None]
        if any(count != ask.tokens for count in counts):
            found.append(Violation(Wrong.USAGE, f"{counts} tokens, not {ask.tokens}"))
        if reading.usage is not None and reading.usage["completion_tokens"] != ask.tokens * ask.choices:
            detail = f"usage has {reading.usage['completion_tokens']} tokens, not {ask.tokens * ask.choices}"
            found.append(Violation(Wrong.USAGE, detail))
    for index, seen in reading.choices.items():
        if ask.pattern is not None and re.fullmatch(ask.pattern, seen.text, re.DOTALL) is None:
            found.append(Violation(Wrong.GRAMMAR, f"choice {index} does not match {ask.pattern}: {seen.text[:200]!r}"))
        if ask.schema is not None and (why := _disobeys(seen.text, ask.schema)):
            found.append(Violation(Wrong.GRAMMAR, f"choice {index}: {why}: {seen.text[:200]!r}"))
    return found


def _disobeys(text: str, schema: dict[str, object]) -> str | None:
    try:
        jsonschema.validate(json.loads(text), schema)
    except (json.JSONDecodeError, jsonschema.ValidationError) as error:
        return str(error).partition("\n")[0]
    return None


def check_beginning(ask: Ask, reading: Reading, reference: Reading) -> list[Violation]:
    """A stream that was cut: what came is how the reference begins."""
    found: list[Violation] = []
    for index, seen in reading.choices.items():
        expected = reference.choices.get(index)
        if expected is None or index >= ask.choices:
            found.append(Violation(Wrong.ORDER, f"choice {index} was not asked for"))
            continue
        if seen.finish is not None:
            found += _differences(index, seen, expected)
            if seen.finish != expected.finish:
                found.append(Violation(Wrong.FINISH, f"choice {index}: {seen.finish}, not {expected.finish}"))
            continue
        beginning = Seen(expected.text[: len(seen.text)])
        if seen.ids is not None and expected.ids is not None:
            beginning.ids = expected.ids[: len(seen.ids)]
        found += _differences(index, seen, beginning)
    return found


def _differences(index: int, seen: Seen, expected: Seen) -> list[Violation]:
    """How a choice's text and ids differ from what they should be."""
    found: list[Violation] = []
    if seen.ids != expected.ids:
        wrong, at = diagnose(seen.ids or [], expected.ids or [])
        here = slice(max(0, at - 3), at + 6)
        detail = f"choice {index}, token {at}: {(seen.ids or [])[here]}, not {(expected.ids or [])[here]}"
        found.append(Violation(wrong, detail))
    if seen.text != expected.text:
        wrong, at = diagnose(seen.text, expected.text)
        here = slice(max(0, at - _SHOWN // 2), at + _SHOWN)
        detail = f"choice {index}, character {at}: {seen.text[here]!r}, not {expected.text[here]!r}"
        found.append(Violation(wrong, detail))
    return found


def diagnose(seen: Sequence[object], expected: Sequence[object]) -> tuple[Wrong, int]:
    """What most likely happened where two unequal sequences part, and where."""
    at = next(
        (i for i, (a, b) in enumerate(zip(seen, expected, strict=False)) if a != b), min(len(seen), len(expected))
    )
    rest = seen[at:]
    if not rest:
        return Wrong.SHORT, at
    window = min(len(rest), 8)
    piece = rest[:window]
    for skipped in range(at + 1, len(expected) - window + 1):
        if expected[skipped : skipped + window] == piece:
            return Wrong.GAP, at
    for again in range(at):
        if expected[again : again + window] == piece:
            return Wrong.DUPLICATE, at
    return Wrong.CHANGED, at
