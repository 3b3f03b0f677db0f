"""The innermost loop of a matrix product, as LLVM IR for numba: a few rows times one panel of weights.

The layouts are those of :mod:`gpu_worker.kernels.panels`. Where the machine has dot-product instructions (AVX-512 VNNI
and BF16) they are used; elsewhere the same layouts are widened to float32, with float32 activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpu_worker.grouped import GROUP
from gpu_worker.kernels.panels import PANEL, VECTORS, Format, group_bytes
from gpu_worker.kernels.simd import dot_pairs, loop, spread
from gpu_worker.kernels.vector_width import BFLOAT16_DOTS, INT8_DOTS, LANES

_f32, _f16 = ir.FloatType(), ir.HalfType()
_i8, _i32, _i64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_FAST = ("fast",)
_floats = ir.VectorType(_f32, LANES)
_ints = ir.VectorType(_i32, LANES)
_bytes = ir.VectorType(_i8, 4 * LANES)
_VECTOR = 4 * LANES  # bytes of a register


ROWS = 6 if LANES >= 16 else 3  # of one block, so that sums and operands fit into the registers


@intrinsic(prefer_literal=True)
def multiply_panel(
    _context: Any,
    weights: Any,
    inputs: Any,
    x: Any,
    x_stride: Any,
    scales: Any,
    scales_stride: Any,
    sums: Any,
    rows: Any,
    form: Any,
) -> Any:
    """``sums[r][n] = sum_k x[r][k] * w[n][k]`` for ``rows`` rows and the PANEL outputs of the panel at ``weights``.

    ``inputs`` is K; ``x`` the address of the first row, rows ``x_stride`` bytes apart. For int8 activations ``scales``
    is the address of float32 pairs (scale, scale * sum of the values) per group, rows ``scales_stride`` bytes apart.
    sums is float32 [rows, PANEL].
    """
    count, kind = rows.literal_value, Format(form.literal_value)

    def emit(codegen: Any, builder: Any, _: Any, args: Any) -> Any:
        block = _Block(builder, count, *args[:7])
        match kind:
            case Format.F32:
                block.float32()
            case Format.BF16:
                block.bfloat16()
            case Format.Q8 | Format.Q4:
                block.grouped(kind)
        return codegen.get_dummy_value()

    int64 = types.int64
    return types.void(int64, int64, int64, int64, int64, int64, int64, rows, form), emit


class _Block:
    """Code that multiplies ``rows`` rows by a panel."""

    def __init__(self, builder: Any, rows: int, *arguments: Any) -> None:
        self.b = builder
        self.rows = rows
        self.weights, self.inputs, self.x, self.x_stride, self.scales, self.scales_stride, self.sums = arguments
        self.zero = ir.Constant(_floats, [0.0] * LANES)

    # addresses and operands

    def _at(self, base: Any, offset: Any, kind: Any) -> Any:
        return self.b.inttoptr(self.b.add(base, offset), kind.as_pointer())

    def _load(self, base: Any, offset: Any, kind: Any, align: int) -> Any:
        loaded = self.b.load(self._at(base, offset, kind))
        loaded.align = align
        return loaded

    def _row(self, row: int) -> Any:
        return self.b.add(self.x, self.b.mul(self.x_stride, _i64(row)))

    def _multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        return self.b.fadd(self.b.fmul(x, y, flags=_FAST), z, flags=_FAST)

    def _store(self, totals: list[Any]) -> None:
        for n, total in enumerate(totals):
            stored = self.b.store(total, self._at(self.sums, _i64(n * _VECTOR), _floats))
            stored.align = 4

    # formats

    def float32(self) -> None:
        rows = [self._row(r) for r in range(self.rows)]

        def body(k: Any, sums: Sequence[Any]) -> list[Any]:
            at = self.b.mul(k, _i64(4 * PANEL))
            w = [self._load(self.weights, self.b.add(at, _i64(v * _VECTOR)), _floats, 4) for v in range(VECTORS)]
            x_at = self.b.mul(k, _i64(4))
            after: list[Any] = []
            for r in range(self.rows):
                x = spread(self.b, self._load(rows[r], x_at, _f32, 4), _floats)
                after += [self._multiply_add(x, w[v], sums[r * VECTORS + v]) for v in range(VECTORS)]
            return after

        self._store(loop(self.b, self.inputs, [self.zero] * (self.rows * VECTORS), body))

    def bfloat16(self) -> None:
        rows = [self._row(r) for r in range(self.rows)]
        size = 2 if BFLOAT16_DOTS else 4  # bytes of an activation

        def body(pair: Any, sums: Sequence[Any]) -> list[Any]:
            at = self.b.mul(pair, _i64(4 * PANEL))
            w = [self._load(self.weights, self.b.add(at, _i64(v * _VECTOR)), _ints, 4) for v in range(VECTORS)]
            x_at = self.b.mul(pair, _i64(2 * size))
            after: list[Any] = []
            if BFLOAT16_DOTS:
                for r in range(self.rows):
                    x = spread(self.b, self._load(rows[r], x_at, _i32, 4), _ints)
                    after += [dot_pairs(self.b, sums[r * VECTORS + v], w[v], x) for v in range(VECTORS)]
                return after
            high = ir.Constant(_ints, [0xFFFF0000] * LANES)
            shift = ir.Constant(_ints, [16] * LANES)
            even = [self.b.bitcast(self.b.shl(v, shift), _floats) for v in w]
            odd = [self.b.bitcast(self.b.and_(v, high), _floats) for v in w]
            for r in range(self.rows):
                first = spread(self.b, self._load(rows[r], x_at, _f32, 4), _floats)
                second = spread(self.b, self._load(rows[r], self.b.add(x_at, _i64(4)), _f32, 4), _floats)
                for v in range(VECTORS):
                    total = self._multiply_add(first, even[v], sums[r * VECTORS + v])
                    after.append(self._multiply_add(second, odd[v], total))
            return after

        pairs = self.b.lshr(self.inputs, _i64(1))
        self._store(loop(self.b, pairs, [self.zero] * (self.rows * VECTORS), body))

    def grouped(self, kind: Format) -> None:
        rows = [self._row(r) for r in range(self.rows)]
        scale_rows = [self.b.add(self.scales, self.b.mul(self.scales_stride, _i64(r))) for r in range(self.rows)]
        halves = ir.VectorType(_f16, LANES)
        weight_bytes = group_bytes(kind) - 4 * PANEL

        def body(group: Any, sums: Sequence[Any]) -> list[Any]:
            at = self.b.add(self.weights, self.b.mul(group, _i64(group_bytes(kind))))
            quads = self._quads(at, kind)
            scale = [
                self.b.fpext(self._load(at, _i64(weight_bytes + v * 2 * LANES), halves, 2), _floats)
                for v in range(VECTORS)
            ]
            least = [
                self.b.fpext(self._load(at, _i64(weight_bytes + 2 * PANEL + v * 2 * LANES), halves, 2), _floats)
                for v in range(VECTORS)
            ]
            if not INT8_DOTS:
                return self._widened(group, rows, quads, scale, least, sums)
            dot = cgutils.get_or_insert_function(
                self.b.module, ir.FunctionType(_ints, [_ints, _bytes, _bytes]), "llvm.x86.avx512.vpdpbusd.512"
            )
            x_at = self.b.mul(group, _i64(GROUP))
            totals: list[Any] = [ir.Constant(_ints, [0] * LANES)] * (self.rows * VECTORS)
            for quad, vectors in enumerate(quads):
                for r in range(self.rows):
                    word = self._load(rows[r], self.b.add(x_at, _i64(4 * quad)), _i32, 4)
                    x = self.b.bitcast(spread(self.b, word, _ints), _bytes)
                    for v in range(VECTORS):
                        n = r * VECTORS + v
                        totals[n] = self.b.call(dot, [totals[n], self.b.bitcast(vectors[v], _bytes), x])
            scale_at = self.b.mul(group, _i64(8))
            after: list[Any] = []
            for r in range(self.rows):
                x_scale = spread(self.b, self._load(scale_rows[r], scale_at, _f32, 4), _floats)
                x_sum = spread(self.b, self._load(scale_rows[r], self.b.add(scale_at, _i64(4)), _f32, 4), _floats)
                for v in range(VECTORS):
                    n = r * VECTORS + v
                    product = self.b.fmul(self.b.sitofp(totals[n], _floats), scale[v], flags=_FAST)
                    total = self._multiply_add(x_sum, least[v], sums[n])
                    after.append(self._multiply_add(product, x_scale, total))
            return after

        groups = self.b.lshr(self.inputs, _i64(5))
        self._store(loop(self.b, groups, [self.zero] * (self.rows * VECTORS), body))

    def _quads(self, at: Any, kind: Format) -> list[list[Any]]:
        """For each four successive inputs: registers of bytes, 0 to 255, four per output."""
        quads: list[list[Any]] = []
        low = ir.Constant(_ints, [0x0F0F0F0F] * LANES)
        four = ir.Constant(_ints, [4] * LANES)
        if kind is Format.Q8:
            for quad in range(GROUP // 4):
                offset = quad * VECTORS * _VECTOR
                quads.append([self._load(at, _i64(offset + v * _VECTOR), _ints, 4) for v in range(VECTORS)])
            return quads
        for pair in range(GROUP // 8):
            offset = pair * VECTORS * _VECTOR
            both = [self._load(at, _i64(offset + v * _VECTOR), _ints, 4) for v in range(VECTORS)]
            quads.append([self.b.and_(v, low) for v in both])
            quads.append([self.b.and_(self.b.lshr(v, four), low) for v in both])
        return quads

    def _widened(
        self,
        group: Any,
        rows: list[Any],
        quads: list[list[Any]],
        scale: list[Any],
        least: list[Any],
        sums: Sequence[Any],
    ) -> list[Any]:
        """A group with float32 activations."""
        sums = list(sums)
        x_at = self.b.mul(group, _i64(4 * GROUP))
        mask = ir.Constant(_ints, [255] * LANES)
        for quad, vectors in enumerate(quads):
            for byte in range(4):
                shift = ir.Constant(_ints, [8 * byte] * LANES)
                values: list[Any] = []
                for v in range(VECTORS):
                    whole = self.b.uitofp(self.b.and_(self.b.lshr(vectors[v], shift), mask), _floats)
                    values.append(self._multiply_add(whole, scale[v], least[v]))
                for r in range(self.rows):
                    offset = self.b.add(x_at, _i64(4 * (4 * quad + byte)))
                    x = spread(self.b, self._load(rows[r], offset, _f32, 4), _floats)
                    for v in range(VECTORS):
                        n = r * VECTORS + v
                        sums[n] = self._multiply_add(x, values[v], sums[n])
        return sums
