"""Fills the image's cache: the default model's tokenizer, converted, and the CPU kernels, compiled.

Kernels are compiled for the processor that builds the image; another one compiles its own at the first
start and keeps them in the cache volume.
"""

import sys
from pathlib import Path

import torch

from gpu_worker.startup import load
from shared.config import DEFAULT_MODEL, Settings
from shared.model_files import locate
from shared.tokenizer import Tokenizer

cache = Path(sys.argv[1])
Tokenizer.load(locate(DEFAULT_MODEL, cache), cache)
if torch.version.cuda is None:
    load(Settings(cache_dir=cache, kv_memory="64MiB"), print)
