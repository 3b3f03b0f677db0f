"""Which kernels a device gets."""

from __future__ import annotations

import sys
from pathlib import Path

import structlog
import torch

from gpu_worker.grammar.vocabulary import Vocabulary
from gpu_worker.kernels.interface import Kernels
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from gpu_worker.kernels.masks import MaskKernels
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kernels.sampling import SamplingKernels
from gpu_worker.kernels.sampling_reference import PlainSamplingKernels

log = structlog.get_logger("kernels")


def kernels_for(device: torch.device, dtype: torch.dtype, cache_dir: Path | None = None) -> Kernels:
    """The fastest kernels there are for this device and dtype; machine code is kept under ``cache_dir``."""
    if _runs_triton(device):
        try:
            from gpu_worker.kernels.triton_kernels import TritonKernels
        except ImportError as error:
            log.warning("triton is not installed, plain torch is many times slower", error=str(error))
            return PlainKernels()
        return TritonKernels(device, dtype)
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return PlainKernels()
    try:
        from gpu_worker.kernels.compiling import cache_in
        from gpu_worker.kernels.cpu import CpuKernels
    except ImportError as error:
        log.warning("kernels cannot be compiled, plain torch is several times slower", error=str(error))
        return PlainKernels()
    if cache_dir is not None and not cache_in(cache_dir / "kernels"):
        log.warning("kernels are compiled at every start: the cache directory cannot be written", path=str(cache_dir))
    return CpuKernels(dtype)


def _runs_triton(device: torch.device) -> bool:
    """On a GPU, and anywhere in Triton's interpreter, which whoever wants it has imported: it is not imported here."""
    triton = sys.modules.get("triton")
    return device.type == "cuda" or (triton is not None and bool(triton.knobs.runtime.interpret))


def mask_kernels_for(device: torch.device, vocabulary: Vocabulary, cache_dir: Path | None = None) -> MaskKernels:
    """The fastest mask kernels there are for this device; machine code is kept under ``cache_dir``."""
    try:
        if device.type == "cpu":
            return _compiled_masks(vocabulary, cache_dir)
        if device.type == "cuda":
            from gpu_worker.kernels.mask_kernels_triton import TritonMaskKernels

            return TritonMaskKernels(vocabulary, device)
    except ImportError as error:
        log.warning("mask kernels cannot be compiled, plain torch is many times slower", error=str(error))
    return PlainMaskKernels(vocabulary, device)


def sampling_kernels_for(device: torch.device) -> SamplingKernels:
    """The fastest kernels there are for sampling on this device. On a CPU that is :func:`gpu_worker.sampler.sample`."""
    if device.type == "cuda":
        try:
            from gpu_worker.kernels.sampling_kernels_triton import TritonSamplingKernels
        except ImportError as error:
            log.warning("sampling kernels cannot be compiled, plain torch waits for them", error=str(error))
        else:
            return TritonSamplingKernels()
    return PlainSamplingKernels()


def _compiled_masks(vocabulary: Vocabulary, cache_dir: Path | None) -> MaskKernels:
    from gpu_worker.kernels.compiling import cache_in
    from gpu_worker.kernels.mask_kernels_cpu import CpuMaskKernels

    if cache_dir is not None and not cache_in(cache_dir / "kernels"):
        log.warning("kernels are compiled at every start: the cache directory cannot be written", path=str(cache_dir))
    return CpuMaskKernels(vocabulary)
