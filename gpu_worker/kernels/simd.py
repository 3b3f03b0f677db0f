"""Vector instructions for numba: what LLVM needs to be told to keep a kernel's values in registers.

Each intrinsic emits LLVM IR; addresses are plain int64, elements are float32 or bfloat16. Shapes are
compile-time constants, so that loops over rows unroll and accumulators never touch memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpu_worker.kernels.vector_width import ACCUMULATORS, LANES

FLOAT32 = 0
BFLOAT16 = 1

_f32 = ir.FloatType()
_i8, _i16, _i32, _i64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_FAST = ("fast",)
_LINE = 64  # bytes of a cache line
_IS_X86 = binding.get_default_triple().startswith(("x86_64", "i386", "i686"))


@intrinsic
def claim(_context: Any, address: Any) -> Any:
    """Atomically read and increment the int64 at ``address``: the next task is yours."""

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        counter = builder.inttoptr(args[0], _i64.as_pointer())
        return builder.atomic_rmw("add", counter, _i64(1), "acq_rel")

    return types.int64(address), emit


@intrinsic
def published(_context: Any, address: Any) -> Any:
    """The int64 at ``address``; whatever was written before others raised it is visible afterwards."""

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], _i64.as_pointer()), "acquire", 8)

    return types.int64(address), emit


@intrinsic
def pause(_context: Any) -> Any:
    """Tell the core that this is a spinning wait."""

    def emit(codegen: Any, builder: Any, _: Any, __: Any) -> Any:
        if _IS_X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return codegen.get_dummy_value()

    return types.void(), emit


@intrinsic
def call(_context: Any, function: Any, argument: Any) -> Any:
    """Call a kernel at an address with an address."""

    def emit(codegen: Any, builder: Any, _: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_i8.as_pointer()])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [builder.inttoptr(args[1], _i8.as_pointer())])
        return codegen.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def call_for_int(_context: Any, function: Any) -> Any:
    """What a C function of no arguments at an address returns, an int."""

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        kind = ir.FunctionType(_i32, [])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [])

    return types.int32(types.int64), emit


@intrinsic(prefer_literal=True)
def stack(_context: Any, size: Any) -> Any:
    """Address of ``size`` uninitialised bytes on this thread's stack."""
    count = size.literal_value

    def emit(_: Any, builder: Any, __: Any, ___: Any) -> Any:
        with builder.goto_entry_block():
            room = builder.alloca(ir.ArrayType(_i8, count))
            room.align = _LINE
        return builder.ptrtoint(room, _i64)

    return types.int64(size), emit


@intrinsic
def pointer(_context: Any, address: Any) -> Any:
    """An address as what numba's carray takes."""
    return types.voidptr(address), lambda _, builder, __, args: builder.inttoptr(args[0], _i8.as_pointer())


@intrinsic
def widen(_context: Any, x: Any) -> Any:
    """Float32 of a stored element: bfloat16 bits (uint16), or float32 as it is."""
    if x == types.float32:
        return x(x), lambda _, __, ___, args: args[0]

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(args[0], _i32), _i32(16)), _f32)

    return types.float32(types.uint16), emit


@intrinsic
def narrow(_context: Any, x: Any, like: Any) -> Any:
    """A float32 as the element type of ``like``, rounded to nearest even."""
    if like == types.float32:
        return like(types.float32, like), lambda _, __, ___, args: args[0]

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _i32)
        odd = builder.and_(builder.lshr(bits, _i32(16)), _i32(1))
        rounded = builder.add(builder.add(bits, _i32(0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, _i32(16)), _i16)

    return types.uint16(types.float32, like), emit


@intrinsic
def widen_half(_context: Any, bits: Any) -> Any:
    """Float32 of the bits of a float16."""

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), _f32)

    return types.float32(types.uint16), emit


@intrinsic
def float_of_bits(_context: Any, bits: Any) -> Any:
    """The float32 whose bits these are."""
    return types.float32(types.int32), lambda _, builder, __, args: builder.bitcast(args[0], _f32)


@intrinsic(prefer_literal=True)
def prefetch(_context: Any, address: Any, size: Any) -> Any:
    """Ask for ``size`` bytes to be brought into the second-level cache."""
    count = size.literal_value

    def emit(codegen: Any, builder: Any, _: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_i8.as_pointer(), _i32, _i32, _i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch")
        base = builder.inttoptr(args[0], _i8.as_pointer())
        for offset in range(0, count, _LINE):
            builder.call(function, [builder.gep(base, [_i64(offset)]), _i32(0), _i32(2), _i32(1)])
        return codegen.get_dummy_value()

    return types.void(types.int64, size), emit


@intrinsic(prefer_literal=True)
def score_lanes(
    _context: Any, q: Any, k: Any, k_stride: Any, out: Any, out_stride: Any, rows: Any, dim: Any, kind: Any
) -> Any:
    """``out[r][lane] = sum_d q[d][r] * k[d][lane]`` for LANES keys at once.

    q is float32 [dim, rows]; k has ``kind`` elements, rows of ``k_stride`` (a run-time value); out is float32 with
    rows of ``out_stride``.
    """
    row_count, depth, element, stride = (x.literal_value for x in (rows, dim, kind, out_stride))

    def emit(codegen: Any, builder: Any, _: Any, args: Any) -> Any:
        q_at, k_at, step, out_at = args[:4]

        def keys_of(d: Any) -> Any:
            return _load(builder, k_at, builder.mul(d, step), element, LANES)

        def add(total: Any, keys: Any, d: Any, row: int) -> Any:
            at = builder.add(builder.mul(d, _i64(row_count)), _i64(row))
            return _multiply_add(builder, _broadcast(builder, q_at, at, LANES), keys, total)

        for row, total in sums_of_rows(builder, row_count, depth, keys_of, add):
            _store(builder, total, out_at, _i64(row * stride))
        return codegen.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, out_stride, rows, dim, kind), emit


@intrinsic(prefer_literal=True)
def add_weighted(
    _context: Any, p: Any, v: Any, count: Any, out: Any, p_stride: Any, rows: Any, dim: Any, kind: Any
) -> Any:
    """``out[r] += sum_t p[r][t] * v[t]`` over ``count`` tokens.

    p is float32 with rows of ``p_stride``, v an int64 array of the addresses of vectors [dim] with ``kind`` elements,
    out float32 [rows, dim].
    """
    row_count, depth, element, stride = (x.literal_value for x in (rows, dim, kind, p_stride))
    widths = [LANES] * (depth // LANES) + ([depth % LANES] if depth % LANES else [])
    offsets = [LANES * n for n in range(len(widths))]

    def emit(codegen: Any, builder: Any, _: Any, args: Any) -> Any:
        p_at, v_at, tokens, out_at = args[:4]
        addresses = builder.inttoptr(v_at, _i64.as_pointer())
        for block in blocks(row_count, max(1, ACCUMULATORS // len(widths))):
            places = [
                (row * depth + offset, width) for row in block for offset, width in zip(offsets, widths, strict=True)
            ]
            start = [_load(builder, out_at, _i64(place), FLOAT32, width) for place, width in places]

            def body(t: Any, sums: Sequence[Any], block: range = block) -> list[Any]:
                address = builder.load(builder.gep(addresses, [t]))
                values = [
                    _load(builder, address, _i64(offset), element, width)
                    for offset, width in zip(offsets, widths, strict=True)
                ]
                weights = [builder.add(t, _i64(row * stride)) for row in block]
                pairs = [(weight, value) for weight in weights for value in values]
                return [
                    _multiply_add(builder, _broadcast(builder, p_at, weight, value.type.count), value, total)
                    for (weight, value), total in zip(pairs, sums, strict=True)
                ]

            sums = loop(builder, tokens, start, body)
            for (place, _), total in zip(places, sums, strict=True):
                _store(builder, total, out_at, _i64(place))
        return codegen.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, p_stride, rows, dim, kind), emit


@intrinsic
def keep_lanes(_context: Any, address: Any, bits: Any) -> Any:
    """Of the 32 float32 at ``address``, minus infinity into those whose bit is 0."""

    def emit(codegen: Any, builder: Any, _: Any, args: Any) -> Any:
        vector = ir.VectorType(_f32, 32)
        place = builder.inttoptr(args[0], vector.as_pointer())
        values = builder.load(place)
        values.align = 4
        kept = builder.bitcast(args[1], ir.VectorType(ir.IntType(1), 32))
        nothing = ir.Constant(vector, [ir.Constant(_f32, float("-inf"))] * 32)
        stored = builder.store(builder.select(kept, values, nothing), place)
        stored.align = 4
        return codegen.get_dummy_value()

    return types.void(types.int64, types.int32), emit


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    null = "0.0"

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def dot_pairs(builder: Any, sums: Any, x: Any, y: Any) -> Any:
    """``sums`` float32 [LANES] plus products of pairs of bfloat16, words [LANES] each. Only with BFLOAT16_DOTS."""
    floats, pairs = sums.type, ir.VectorType(_BFloat(), 2 * LANES)
    kind = ir.FunctionType(floats, [floats, pairs, pairs])
    dot = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
    return builder.call(dot, [sums, builder.bitcast(x, pairs), builder.bitcast(y, pairs)])


def sums_of_rows(
    builder: Any,
    rows: int,
    depth: int,
    operand: Callable[[Any], Any],
    add: Callable[[Any, Any, Any, int], Any],
) -> Iterator[tuple[int, Any]]:
    """Each of ``rows`` with its sum, float32 [LANES], over ``depth``: of ``add(total, operand(d), d, row)``."""
    zero = ir.Constant(ir.VectorType(_f32, LANES), [0.0] * LANES)
    for block in blocks(rows, ACCUMULATORS):
        # few rows: several sums per row side by side, or each addition waits for the one before
        parts = 1
        while parts * len(block) < 6 and depth % (parts * 2) == 0:
            parts *= 2
        length = depth // parts

        def body(
            i: Any, sums: Sequence[Any], block: range = block, parts: int = parts, length: int = length
        ) -> list[Any]:
            sums = list(sums)
            for part in range(parts):
                d = builder.add(i, _i64(part * length))
                shared = operand(d)
                for n, row in enumerate(block):
                    at = part * len(block) + n
                    sums[at] = add(sums[at], shared, d, row)
            return sums

        sums = loop(builder, _i64(length), [zero] * (len(block) * parts), body)
        for n, row in enumerate(block):
            total = sums[n]
            for part in range(1, parts):
                total = builder.fadd(total, sums[part * len(block) + n], flags=_FAST)
            yield row, total


def blocks(count: int, size: int) -> list[range]:
    return [range(low, min(low + size, count)) for low in range(0, count, size)]


def loop(builder: Any, count: Any, start: list[Any], body: Callable[[Any, Sequence[Any]], list[Any]]) -> list[Any]:
    """``for i in range(count): values = body(i, values)``, values held in registers."""
    before = builder.block
    inside, after = builder.append_basic_block("inside"), builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed(">", count, _i64(0)), inside, after)
    builder.position_at_end(inside)
    i = builder.phi(_i64)
    i.add_incoming(_i64(0), before)
    carried: list[Any] = []
    for value in start:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        carried.append(phi)
    ends = body(i, carried)
    following = builder.add(i, _i64(1))
    i.add_incoming(following, builder.block)
    for phi, value in zip(carried, ends, strict=True):
        phi.add_incoming(value, builder.block)
    last = builder.block
    builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
    builder.position_at_end(after)
    results: list[Any] = []
    for value, end in zip(start, ends, strict=True):
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        phi.add_incoming(end, last)
        results.append(phi)
    return results


def _element_pointer(builder: Any, base: Any, index: Any, element: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(builder.inttoptr(base, element.as_pointer()), [index]), vector.as_pointer())


def _load(builder: Any, base: Any, index: Any, kind: int, width: int) -> Any:
    """``width`` elements as float32, from element ``index`` on."""
    if kind == FLOAT32:
        vector = ir.VectorType(_f32, width)
        loaded = builder.load(_element_pointer(builder, base, index, _f32, vector))
        loaded.align = 4
        return loaded
    loaded = builder.load(_element_pointer(builder, base, index, _i16, ir.VectorType(_i16, width)))
    loaded.align = 2
    wide = ir.VectorType(_i32, width)
    return builder.bitcast(
        builder.shl(builder.zext(loaded, wide), ir.Constant(wide, [16] * width)), ir.VectorType(_f32, width)
    )


def _store(builder: Any, value: Any, base: Any, index: Any) -> None:
    stored = builder.store(value, _element_pointer(builder, base, index, _f32, value.type))
    stored.align = 4


def _broadcast(builder: Any, base: Any, index: Any, width: int) -> Any:
    """The float32 at ``index`` in every lane."""
    scalar = builder.load(builder.gep(builder.inttoptr(base, _f32.as_pointer()), [index]))
    return spread(builder, scalar, ir.VectorType(_f32, width))


def spread(builder: Any, scalar: Any, vector: Any) -> Any:
    """A scalar in every lane of a ``vector`` type."""
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, scalar, _i32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_i32, vector.count), [0] * vector.count))


def _multiply_add(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return builder.fadd(builder.fmul(x, y, flags=_FAST), z, flags=_FAST)
