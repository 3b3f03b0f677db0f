"""The two loops of attention with bfloat16 dot products: twice the multiply-adds of float32 an instruction.

Pairs are made on the way: of two successive dimensions of a key's lanes, and of two successive values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gpu_worker.kernels.simd import blocks, dot_pairs, loop, spread, sums_of_rows
from gpu_worker.kernels.vector_width import ACCUMULATORS, LANES

_f32, _i16, _i32, _i64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_floats, _ints, _halves = (ir.VectorType(kind, LANES) for kind in (_f32, _i32, _i16))


@intrinsic(prefer_literal=True)
def score_pairs(_context: Any, q: Any, k: Any, k_stride: Any, out: Any, out_stride: Any, rows: Any, dim: Any) -> Any:
    """``out[r][lane] = sum_d q[d][r] * k[d][lane]`` for LANES keys at once.

    q is [dim / 2, rows] pairs of bfloat16, k bfloat16 with rows of ``k_stride`` (a run-time value), out float32 with
    rows of ``out_stride``.
    """
    row_count, depth, stride = rows.literal_value, dim.literal_value // 2, out_stride.literal_value

    def emit(codegen: Any, builder: Any, _: Any, args: Any) -> Any:
        q_at, k_at, step, out_at = args[:4]
        row_bytes = builder.mul(step, _i64(2))

        def keys_of(d: Any) -> Any:
            first = builder.add(k_at, builder.mul(builder.mul(d, _i64(2)), row_bytes))
            return _pairs(builder, first, builder.add(first, row_bytes))

        def add(total: Any, keys: Any, d: Any, row: int) -> Any:
            at = builder.add(builder.mul(d, _i64(4 * row_count)), _i64(4 * row))
            return dot_pairs(builder, total, keys, _spread(builder, builder.add(q_at, at)))

        for row, total in sums_of_rows(builder, row_count, depth, keys_of, add):
            _store(builder, total, builder.add(out_at, _i64(4 * row * stride)))
        return codegen.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, out_stride, rows, dim), emit


@intrinsic(prefer_literal=True)
def add_weighted_pairs(_context: Any, p: Any, v: Any, count: Any, out: Any, p_stride: Any, rows: Any, dim: Any) -> Any:
    """``out[r] += sum_t p[r][t] * v[t]`` over ``count`` pairs of tokens.

    p is bfloat16 with rows of ``p_stride``, v an int64 array of the addresses of vectors [dim] of bfloat16, out float32
    [rows, dim]; dim is a multiple of LANES.
    """
    row_count, depth, stride = rows.literal_value, dim.literal_value, p_stride.literal_value
    widths = depth // LANES

    def emit(codegen: Any, builder: Any, _: Any, args: Any) -> Any:
        p_at, v_at, pairs, out_at = args[:4]
        addresses = builder.inttoptr(v_at, _i64.as_pointer())
        for block in blocks(row_count, max(1, ACCUMULATORS // widths)):
            places = [4 * (row * depth + LANES * n) for row in block for n in range(widths)]
            start = [_load(builder, builder.add(out_at, _i64(place)), _floats) for place in places]

            def body(pair: Any, sums: Sequence[Any], block: range = block) -> list[Any]:
                t = builder.mul(pair, _i64(2))
                first, second = (builder.load(builder.gep(addresses, [builder.add(t, _i64(n))])) for n in (0, 1))
                values = [
                    _pairs(builder, builder.add(first, _i64(2 * LANES * n)), builder.add(second, _i64(2 * LANES * n)))
                    for n in range(widths)
                ]
                after: list[Any] = []
                for n, row in enumerate(block):
                    at = builder.add(p_at, builder.mul(builder.add(t, _i64(row * stride)), _i64(2)))
                    weight = _spread(builder, at)
                    after += [dot_pairs(builder, sums[n * widths + m], value, weight) for m, value in enumerate(values)]
                return after

            sums = loop(builder, pairs, start, body)
            for place, total in zip(places, sums, strict=True):
                _store(builder, total, builder.add(out_at, _i64(place)))
        return codegen.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, p_stride, rows, dim), emit


def _load(builder: Any, address: Any, kind: Any) -> Any:
    loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
    loaded.align = 2
    return loaded


def _store(builder: Any, value: Any, address: Any) -> None:
    stored = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    stored.align = 4


def _pairs(builder: Any, first: Any, second: Any) -> Any:
    """LANES pairs of the bfloat16 at two addresses, as words."""
    order = [n + side * LANES for n in range(LANES) for side in (0, 1)]
    both = builder.shuffle_vector(
        _load(builder, first, _halves),
        _load(builder, second, _halves),
        ir.Constant(ir.VectorType(_i32, 2 * LANES), order),
    )
    return builder.bitcast(both, _ints)


def _spread(builder: Any, address: Any) -> Any:
    """The word at an address in every lane."""
    return spread(builder, _load(builder, address, _i32), _ints)
