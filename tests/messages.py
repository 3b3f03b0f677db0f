"""Random messages of every kind: well typed, with values from anywhere, and with columns that fit together or do not.

For tests of whoever reads them: of what :func:`shared.protocol.decode` lets through, nothing may harm a reader.
"""

from __future__ import annotations

import itertools
import typing
from typing import Any

import msgspec
from hypothesis import strategies as st

from shared import columns, protocol
from shared.layout import UINT8, UINT64

KINDS: tuple[type[Any], ...] = typing.get_args(protocol.Message)

_EDGES = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**63 - 1, 2**64 - 1)
_INTS = st.sampled_from(_EDGES) | st.integers(-5, 100)
_INT32 = st.sampled_from((-1, 2**31 - 1, -(2**31))) | st.integers(0, 9)
_FLOATS = st.floats() | st.integers(-3, 3).map(float)


def messages(kind: type[Any], ids: list[int]) -> st.SearchStrategy[Any]:
    """Messages of one kind, often about these requests."""
    return _struct(kind, ids)


def _struct(kind: type[Any], ids: list[int]) -> st.SearchStrategy[Any]:
    tables = protocol.TABLES.get(kind, ())
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    packed = {name for table in tables for name in (*table.rows, *table.cells, *itertools.chain(*table.wide))}
    fields = {field.encode_name: _value(field.type, field.encode_name, ids) for field in info.fields}
    loose = st.fixed_dictionaries(fields)
    if not tables:
        return loose.map(lambda values: kind(**values))
    plain = st.fixed_dictionaries({name: value for name, value in fields.items() if name not in packed})
    tight = st.builds(
        lambda values, parts: values | {name: column for part in parts for name, column in part.items()},
        plain,
        st.tuples(*(_table(table, ids) for table in tables)),
    )
    return (tight | tight | loose).map(lambda values: kind(**values))


@st.composite
def _table(draw: st.DrawFn, table: Any, ids: list[int]) -> dict[str, Any]:
    """Columns that fit together; their values need not make sense."""
    size = draw(st.integers(0, 4) if len(table.rows) > 1 else st.sampled_from((0, 1, 2, 3, 70)))
    found: dict[str, Any] = {}
    for name, width in table.rows.items():
        if name == table.counts:
            found[name] = columns.int32(draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
        elif name == "texts":
            found[name] = tuple(draw(st.lists(st.text(max_size=3), min_size=size, max_size=size)))
        elif name == "matched":
            found[name] = tuple(draw(st.lists(st.none() | st.text(max_size=2), min_size=size, max_size=size)))
        elif name in table.optional and draw(st.booleans()):
            found[name] = b""
        else:
            found[name] = draw(_column(width, size, ids))
    for group in table.wide:
        count = size * draw(st.integers(0, 2))
        found |= {name: draw(_column(width, count, ids)) for name, width in group.items()}
    cells = sum(columns.ints(found[table.counts])) if table.cells else 0
    for name, width in table.cells.items():
        found[name] = b"" if name in table.optional and draw(st.booleans()) else draw(_column(width, cells, ids))
    return found


def _column(width: int, size: int, ids: list[int]) -> st.SearchStrategy[bytes]:
    if width == UINT64:
        value = st.sampled_from(ids) | st.sampled_from((0, 2**64 - 1))
        return st.lists(value, min_size=size, max_size=size).map(columns.uint64)
    if width == UINT8:
        return st.lists(st.integers(0, 3), min_size=size, max_size=size).map(columns.uint8)
    values = st.integers(0, 3) | st.integers(0, 319) | st.just(2**31 - 1)
    return st.lists(values, min_size=size, max_size=size).map(columns.int32)


def _value(kind: Any, name: str, ids: list[int]) -> st.SearchStrategy[Any]:
    """Anything of a type, bounds or not."""
    inspect = msgspec.inspect
    match kind:
        case inspect.IntType():
            match name:
                case "id":
                    return st.sampled_from(ids) | _INTS
                case "epoch":
                    return st.just(1) | st.just(1) | _INTS
                case _:
                    return _INTS
        case inspect.FloatType():
            return _FLOATS
        case inspect.BoolType():
            return st.booleans()
        case inspect.StrType():
            return st.sampled_from(("", "t", "d")) | st.text(max_size=5)
        case inspect.BytesType():
            return st.binary(max_size=24) | st.lists(_INT32, max_size=5).map(columns.int32)
        case inspect.NoneType():
            return st.none()
        case inspect.EnumType(cls=members):
            return st.sampled_from(tuple(members))
        case inspect.VarTupleType(item_type=item):
            return st.lists(_value(item, "id", ids), max_size=3).map(tuple)
        case inspect.TupleType(item_types=items):
            return st.tuples(*(_value(item, "id", ids) for item in items))
        case inspect.UnionType(types=options):
            return st.one_of(*(_value(option, name, ids) for option in options))
        case inspect.StructType(cls=cls):
            return _struct(cls, ids)
        case _:
            raise TypeError(kind)
