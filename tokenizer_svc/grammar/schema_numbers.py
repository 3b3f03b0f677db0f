"""Numbers between bounds, as languages of digits.

Whole numbers have at most 19 digits, others also at most 15 after the point, so that a model cannot go on for ever;
numbers without bounds may have an exponent of at most two digits. Whole numbers are written without a fraction, and
there is no -0 among them. Bounds are exact, and near a bound no number has more than 15 digits in all: two such numbers
are two different doubles, so that what is above an excluded bound stays above it wherever it is read.
"""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, Context, Decimal
from typing import NamedTuple

from tokenizer_svc.grammar.nodes import EMPTY, Chars, Concat, Graph, Literal, Node, Repeat, concat, optional, union
from tokenizer_svc.grammar.schema_shapes import Numbers

WHOLE_DIGITS = 19
FRACTION_DIGITS = 15
MOST_REMAINDERS = 1000  # of a multipleOf, leading zeros left out
_EXACT = Context(prec=100, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])  # for whatever has our digits

DIGIT = Chars(((0x30, 0x39),))
_NONZERO = Chars(((0x31, 0x39),))
_MINUS = Literal("-")
_POINT = Literal(".")
_WHOLE = union([Literal("0"), Concat((_NONZERO, Repeat(DIGIT, 0, WHOLE_DIGITS - 1)))])
_EXPONENT = concat(
    Chars(((0x45, 0x45), (0x65, 0x65))), optional(Chars(((0x2B, 0x2B), (0x2D, 0x2D)))), Repeat(DIGIT, 1, 2)
)
ANY_NUMBER = concat(
    optional(_MINUS), _WHOLE, optional(concat(_POINT, Repeat(DIGIT, 1, FRACTION_DIGITS))), optional(_EXPONENT)
)


class Scale(NamedTuple):
    """Numbers in units of ``10 ** -places``: from low to high, both included, multiples of ``factor``."""

    low: int
    high: int
    places: int
    factor: int

    @property
    def is_empty(self) -> bool:
        return -(-self.low // self.factor) * self.factor > self.high


def scale(numbers: Numbers) -> Scale:
    """The bounds in whole units. A bound between two units is moved inwards."""
    factor, places = _units(numbers.step) if numbers.step is not None else (1, _places(numbers))
    most = 10 ** (WHOLE_DIGITS + places) - 1
    low = -most if numbers.low is None else _up(numbers.low, places, excluded=numbers.above_low)
    high = most if numbers.high is None else -_up(numbers.high.copy_negate(), places, excluded=numbers.below_high)
    return Scale(max(low, -most), min(high, most), places, factor)


def _places(numbers: Numbers) -> int:
    """How many digits after the point leave 15 in all near the bounds; those that we cannot reach do not matter."""
    sizes = [bound.adjusted() + 1 for bound in (numbers.low, numbers.high) if bound is not None]
    digits = max((size for size in sizes if 0 < size <= WHOLE_DIGITS), default=0)
    return max(0, FRACTION_DIGITS - digits)


def common_step(steps: list[Decimal]) -> Decimal | None:
    """The least number that is a multiple of all of them."""
    if not steps:
        return None
    units = [_units(step) for step in steps]
    places = max(unit.places for unit in units)
    factor = math.lcm(*(unit.factor * 10 ** (places - unit.places) for unit in units))
    return Decimal((0, tuple(map(int, str(factor))), -places))


class _Units(NamedTuple):
    factor: int
    places: int


def _units(step: Decimal) -> _Units:
    """The step as ``factor * 10 ** -places``, with as few places as there can be."""
    _, digits, exponent = step.as_tuple()
    assert isinstance(exponent, int), "schema_keywords.py admits numbers"
    factor, places = int("".join(map(str, digits))), -exponent
    while places > 0 and factor % 10 == 0:
        factor, places = factor // 10, places - 1
    return _Units(factor, places) if places >= 0 else _Units(factor * 10**-places, 0)


def _up(value: Decimal, places: int, *, excluded: bool) -> int:
    """The least whole number of units that is not below ``value``."""
    if value.adjusted() > WHOLE_DIGITS:
        return (10 ** (WHOLE_DIGITS + places)) * (1 if value > 0 else -1)
    rounded = value.quantize(Decimal((0, (1,), -places)), ROUND_CEILING, _EXACT)
    units = int(rounded.scaleb(places, _EXACT))
    return units + 1 if excluded and rounded == value else units


def number_node(numbers: Numbers) -> Node:
    """The numbers of a shape without remainders (see :func:`remainders`); not empty."""
    if numbers.low is None and numbers.high is None and numbers.step is None:
        return ANY_NUMBER
    low, high, places, _ = scale(numbers)
    options: list[Node] = []
    if high >= 0:
        options.append(_decimals(max(low, 0), high, places))
    if low < 0 and -high <= -low:
        options.append(concat(_MINUS, _decimals(max(-high, 1), -low, places)))
    return union(options)


def remainders(numbers: Numbers) -> Graph | None:
    """The numbers, whatever their size, that are multiples of the step; None where every numeral is one."""
    _, _, places, factor = scale(numbers)
    if factor == 1:
        return None
    # A state is the remainder of the units so far and how many places have been read (-1: the point has not).
    numbers_of: dict[tuple[int, int], int] = {(0, -1): 0}
    edges: list[tuple[int, tuple[tuple[int, int], ...], int]] = [(0, ((0x2D, 0x2D),), 0)]
    for (remainder, read), state in (pending := [((0, -1), 0)]):  # grows while it is read
        moves = [(0x30 + d, ((remainder * 10 + d) % factor, read if read < 0 else read + 1)) for d in range(10)]
        if read == places:
            moves = []
        elif read < 0 < places:
            moves.append((0x2E, (remainder, 0)))
        for char, target in moves:
            if target not in numbers_of:
                numbers_of[target] = len(numbers_of)
                pending.append((target, numbers_of[target]))
            edges.append((state, ((char, char),), numbers_of[target]))
    accepting = frozenset(
        state
        for (remainder, read), state in numbers_of.items()
        if remainder * 10 ** (places - max(read, 0)) % factor == 0
    )
    return Graph(len(numbers_of), tuple(edges), accepting)


def _decimals(low: int, high: int, places: int) -> Node:
    """The numerals from ``low`` to ``high``, not negative, in units of ``10 ** -places``."""
    unit = 10**places
    if not places:
        return _whole(low, high)
    any_fraction = optional(concat(_POINT, Repeat(DIGIT, 1, places)))
    first, first_fraction = divmod(low, unit)
    last, last_fraction = divmod(high, unit)
    if first == last:
        return concat(Literal(str(first)), _fraction(first_fraction, last_fraction, places))
    options = [concat(Literal(str(last)), _fraction(0, last_fraction, places))]
    if first_fraction:
        options.append(concat(Literal(str(first)), _fraction(first_fraction, unit - 1, places)))
        first += 1
    if first < last:
        options.append(concat(_whole(first, last - 1), any_fraction))
    return union(options)


def _fraction(low: int, high: int, places: int) -> Node:
    """The point and up to ``places`` digits, or nothing, for a fraction between two."""
    lows, highs = f"{low:0{places}}", f"{high:0{places}}"
    after = concat(_POINT, _digits(lows, highs, 0, started=False))
    return after if low else optional(after)


def _digits(low: str | None, high: str | None, index: int, *, started: bool = True) -> Node:
    """Digits from ``index`` on so that, zeros appended, they lie between those of low and high. None: no bound."""
    size = len(low or high or "")
    ended = started and (low is None or not low[index:].strip("0"))
    if index == size:
        return EMPTY
    if low is not None and not low[index:].strip("0"):
        low = None
    if high is not None and not high[index:].strip("9"):
        high = None
    if low is None and high is None:
        return Repeat(DIGIT, 0 if ended else 1, size - index)
    least, most = int(low[index]) if low else 0, int(high[index]) if high else 9
    options: list[Node] = []
    if low and high and least == most:
        options.append(concat(Literal(str(least)), _digits(low, high, index + 1)))
    else:
        inner_least, inner_most = least + bool(low), most - bool(high)
        if inner_least <= inner_most:
            options.append(concat(_range(inner_least, inner_most), Repeat(DIGIT, 0, size - index - 1)))
        if low:
            options.append(concat(Literal(str(least)), _digits(low, None, index + 1)))
        if high:
            options.append(concat(Literal(str(most)), _digits(None, high, index + 1)))
    if ended:
        options.append(EMPTY)
    return union(options)


def _whole(low: int, high: int) -> Node:
    """The numerals from ``low`` to ``high``, not negative."""
    options: list[Node] = []
    size = len(str(low))
    while size <= len(str(high)):
        first = max(low, 10 ** (size - 1) if size > 1 else 0)
        last = min(high, 10**size - 1)
        if first == 10 ** (size - 1) and last == 10**size - 1:
            while 10 ** (size + 1) - 1 <= high:
                size += 1
            options.append(concat(_NONZERO, Repeat(DIGIT, len(str(first)) - 1, size - 1)))
        else:
            options.append(_same_size(str(first), str(last)))
        size += 1
    return union(options)


def _same_size(low: str, high: str) -> Node:
    """The numerals of as many digits as both bounds that lie between them."""
    rest = len(low) - 1
    if low == high:
        return Literal(low)
    if not rest:
        return _range(int(low), int(high))
    if low[0] == high[0]:
        return concat(Literal(low[0]), _same_size(low[1:], high[1:]))
    options: list[Node] = []
    least, most = int(low[0]), int(high[0])
    if low[1:].strip("0"):
        options.append(concat(Literal(low[0]), _same_size(low[1:], "9" * rest)))
        least += 1
    if high[1:].strip("9"):
        options.append(concat(Literal(high[0]), _same_size("0" * rest, high[1:])))
        most -= 1
    if least <= most:
        options.append(concat(_range(least, most), Repeat(DIGIT, rest, rest)))
    return union(options)


def _range(low: int, high: int) -> Chars:
    return Chars(((0x30 + low, 0x30 + high),))
