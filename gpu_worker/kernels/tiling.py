"""How large the tiles of attention are on a GPU, and how many programs it takes to fill one.

No tuning at run time: a launch within a CUDA graph must be the launch that was warmed up. The sizes follow from shared
memory and registers as the compiler reports them (tests/gpu_worker/kernels/compile_decoder_triton.py); no GPU was at
hand to choose among those that fit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from gpu_worker.kernels.interface import AttentionShape

WAVES = 4  # programs per multiprocessor that decode attention is split into: a straggler costs a quarter at most


class Target(NamedTuple):
    """What a GPU has."""

    processors: int  # streaming multiprocessors
    shared_bytes: int  # shared memory that one program may use


class Launch(NamedTuple):
    """One kernel's blocks. ``rows`` are query rows (tokens times heads of a group), ``keys`` those of one step."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int


class _Choice(NamedTuple):
    dim: int  # of heads, at most
    shared_kib: int  # of the GPU, at least: Hopper has 227, 8.0 has 163, 8.6 and 8.9 have 99
    extend: Launch
    decode: Launch


_SIXTEEN_BITS = (
    _Choice(64, 160, Launch(128, 128, 8, 3), Launch(64, 64, 4, 3)),
    _Choice(64, 0, Launch(128, 64, 8, 3), Launch(64, 64, 4, 3)),
    _Choice(128, 200, Launch(128, 128, 8, 3), Launch(64, 64, 4, 3)),
    _Choice(128, 160, Launch(128, 64, 8, 3), Launch(64, 64, 4, 3)),
    _Choice(128, 0, Launch(128, 64, 8, 2), Launch(64, 32, 4, 2)),
    _Choice(256, 160, Launch(128, 64, 8, 2), Launch(64, 32, 8, 3)),
    _Choice(256, 0, Launch(64, 32, 4, 2), Launch(64, 16, 4, 2)),
)
_THIRTY_TWO_BITS = (  # no tensor cores: operands are in registers
    _Choice(128, 0, Launch(32, 32, 8, 2), Launch(32, 32, 4, 2)),
    _Choice(256, 0, Launch(32, 16, 8, 2), Launch(32, 16, 8, 2)),
)


class Tiling(NamedTuple):
    """Tiles of one model's attention on one GPU.

    A decode item with at most ``own_rows`` query rows takes a tile of that size, any other one of ``decode.rows``.
    """

    extend: Launch
    decode: Launch
    own_rows: int
    group: int  # query heads that share a KV head
    programs: int  # decode programs per KV head that fill the GPU
    min_split: int  # tokens of the shortest piece of a row
    min_shared_split: int  # the same of a shared segment, whose partial results are larger

    @property
    def tile_tokens(self) -> int:
        """Queries of one KV head that fit one tile of an item."""
        return self.decode.rows // self.group

    @property
    def extend_tokens(self) -> int:
        """Tokens of one tile of a chunk."""
        return self.extend.rows // self.group


def target_of(device: torch.device) -> Target:
    """The GPU behind ``device``; for Triton's interpreter, which has none, a small one."""
    if device.type != "cuda":
        return Target(8, 227 * 1024)
    properties = torch.cuda.get_device_properties(device)
    return Target(properties.multi_processor_count, properties.shared_memory_per_block_optin)


def padded(size: int) -> int:
    """The power of two that a block of ``size`` takes."""
    return 1 << (size - 1).bit_length()


def tiling_for(shape: AttentionShape, dtype: torch.dtype, target: Target) -> Tiling:
    """Tiles for a model of ``shape`` whose KV has ``dtype``."""
    group = shape.num_heads // shape.num_kv_heads
    dim = max(16, padded(shape.head_dim))
    own_rows = max(16, padded(group))
    extend, decode = _launches(dim, dtype, target)
    return Tiling(
        extend=extend._replace(rows=max(extend.rows, own_rows)),
        decode=decode._replace(rows=max(decode.rows, own_rows)),
        own_rows=own_rows,
        group=group,
        programs=-(-WAVES * target.processors // shape.num_kv_heads),
        min_split=256,
        min_shared_split=512,
    )


def _launches(dim: int, dtype: torch.dtype, target: Target) -> tuple[Launch, Launch]:
    """Of chunks and of decoding, for heads padded to ``dim``."""
    for choice in _SIXTEEN_BITS if dtype.itemsize == 2 else _THIRTY_TWO_BITS:
        if dim <= choice.dim and target.shared_bytes >= choice.shared_kib * 1024:
            return choice.extend, choice.decode
    raise ValueError(f"attention has no tiles for heads of {dim} in {dtype}")
