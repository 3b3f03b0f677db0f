"""Where the peers' environments, models, caches and logs lie: one folder that git ignores."""

from __future__ import annotations

from pathlib import Path

HOME = Path(__file__).parent / ".envs"
MODELS = HOME / "models"
CACHE = HOME / "cache"
LOGS = HOME / "logs"
HF_MODEL = MODELS / "smollm2-135m-bf16"
GGUF_BF16 = MODELS / "smollm2-135m-bf16.gguf"
GGUF_Q4 = MODELS / "smollm2-135m-q4_1.gguf"
"""A link to the packaged file."""
