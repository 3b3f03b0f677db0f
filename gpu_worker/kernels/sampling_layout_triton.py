"""The layout of a row's columns as Triton knows constants, and the arithmetic that several sampling kernels share."""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl

from gpu_worker.kernels import sampling as s

FLAGS = tl.constexpr(s.FLAGS)
TOP_K = tl.constexpr(s.TOP_K)
PROMPT_LEN = tl.constexpr(s.PROMPT_LEN)
MIN_TOKENS = tl.constexpr(s.MIN_TOKENS)
FIRST_STOP = tl.constexpr(s.FIRST_STOP)
INTS = tl.constexpr(s.INTS)
SEED = tl.constexpr(s.SEED)
LEFT_OUT = tl.constexpr(s.LEFT_OUT)
LONGS = tl.constexpr(s.LONGS)
TEMPERATURE = tl.constexpr(s.TEMPERATURE)
LOG_MIN_P = tl.constexpr(s.LOG_MIN_P)
REPETITION = tl.constexpr(s.REPETITION)
FLOATS = tl.constexpr(s.FLOATS)
FREQUENCY = tl.constexpr(s.FREQUENCY)
PRESENCE = tl.constexpr(s.PRESENCE)
DOUBLES = tl.constexpr(s.DOUBLES)
GREEDY = tl.constexpr(s.GREEDY)
MARKED = tl.constexpr(s.MARKED)
COUNTED = tl.constexpr(s.COUNTED)
IMPOSSIBLE = tl.constexpr(s.IMPOSSIBLE)
COUNT_MASK = tl.constexpr(s.COUNT_MASK)
PROMPT_BIT = tl.constexpr(s.PROMPT_BIT)
SEEN_MASK = tl.constexpr(s.COUNT_MASK | s.PROMPT_BIT)
ENTRY_SHIFT = tl.constexpr(s.ENTRY_SHIFT)
ENTRY_MASK = tl.constexpr((1 << (32 - s.ENTRY_SHIFT)) - 1)
ENTRIES = tl.constexpr(s.MOST_ENTRIES + 1)
ONE = tl.constexpr(float(1 << s.WEIGHT_BITS))
LAST = tl.constexpr(0x7FFFFFFF)


@triton.jit
def scaled_of(logits, top, temperature):
    """Logits relative to the best one, in the host sampler's own roundings."""
    return tl.div_rn(logits - top, temperature + tl.zeros_like(logits))


@triton.jit
def weight_of(scaled):
    """Whole multiples of 2**-WEIGHT_BITS, int64; the best token's is ONE."""
    return (tl.exp(scaled) * ONE).to(tl.int64)


@triton.jit
def best_key(logits, tokens):
    """int64 keys in the order of the logits, the lowest token first among equals; not-a-number is above all."""
    bits = tl.where(logits == 0, 0.0, logits).to(tl.int32, bitcast=True)  # the two zeros are equal
    key = tl.where(logits != logits, LAST, bits ^ ((bits >> 31) & LAST))
    return (key.to(tl.int64) << 32) | (tokens ^ LAST).to(tl.int64)


@triton.jit
def logit_of(key):
    """The logit of a key."""
    high = (key >> 32).to(tl.int32)
    return (high ^ ((high >> 31) & LAST)).to(tl.float32, bitcast=True)


@triton.jit
def token_of(key):
    """The token of a key, int64."""
    return (key & LAST) ^ LAST


@triton.jit
def best_of(best, row, SPLITS: tl.constexpr):  # noqa: N803
    """The key of a row's best token. best int64 [L, SPLITS]."""
    return tl.max(tl.load(best + row * SPLITS + tl.arange(0, SPLITS)), axis=0)


@triton.jit
def is_finite(logit):
    return tl.abs(logit) < float("inf")


@triton.jit
def part_of(parts, total):
    """floor(parts * total / 2**53) of int64 up to 2**53 - 1 and below 2**62, exactly."""
    return tl.umulhi(parts.to(tl.uint64) << 11, total.to(tl.uint64)).to(tl.int64)


@triton.jit
def uniform_bits(seed, index):
    """2**53 times sampler.uniform, int64: the second round of SplitMix64, of the SEED column and a token's index."""
    state = seed.to(tl.uint64) + index.to(tl.uint64) * 0x9E3779B97F4A7C15 + 1
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB
    return ((state ^ (state >> 31)) >> 11).to(tl.int64)
