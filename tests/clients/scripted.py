"""A model that says what a script says: real weights and a real template, served like any other.

Small models seldom call a tool by themselves, and no test can rely on it. This one does: its weights hold a table of
which token follows which, and its template ends prompts in a token that stands for a line of the script. So a client's
loop (the model calls a tool, gets the result, answers) runs through everything that a larger model's would.

Run as a program in rootstream's own environment: ``python -m tests.clients.scripted DIRECTORY``.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.clients.serving import PLACES

_END = "<|im_end|>"
_CALL = '<tool_call>\n{{"name": "get_weather", "arguments": {{"location": "{place}"}}}}\n</tool_call>'

SCRIPT = {
    "<|says|>": "Hello, I am a model with a script.",
    "<|calls|>": _CALL.format(place=PLACES[0]),
    "<|calls-twice|>": _CALL.format(place=PLACES[1]) + "\n" + _CALL.format(place=PLACES[2]),
    "<|answers|>": "It is sunny there, the tool says.",
    "<|reports|>": '{"place": "Oslo", "sky": "sunny"}',
    "<|thinks|>": "<think>\nThis needs a thought.\n</think>\n\nI have thought about it.",
}
"""The token at the end of a prompt, and what follows it."""

TEMPLATE = (
    "{%- for message in messages -%}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{%- for call in message.tool_calls or [] %}\n<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor -%}"
    "<|im_end|>\n"
    "{%- endfor -%}"
    "{%- if tools -%}<tools>{{ tools | tojson }}</tools>\n{%- endif -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n"
    "{%- if messages[-1].role == 'tool' and 'report' in messages | map(attribute='content') | join -%}<|reports|>"
    "{%- elif messages[-1].role == 'tool' -%}<|answers|>"
    "{%- elif tools and 'both' in messages[-1].content -%}<|calls-twice|>"
    "{%- elif tools -%}<|calls|>"
    "{%- elif 'think' in messages[-1].content -%}<|thinks|>"
    "{%- else -%}<|says|>{%- endif -%}"
    "{%- endif -%}"
)


def make_scripted_model(directory: Path) -> None:
    """Write the model in Hugging Face's layout."""
    directory.mkdir(parents=True, exist_ok=True)
    special = ("<|endoftext|>", "<|im_start|>", _END, *SCRIPT)
    pieces = _pieces()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(special_tokens=list(special), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([], trainer)
    tokenizer.add_tokens([AddedToken(p, normalized=False) for parts in pieces.values() for p in parts])
    size = tokenizer.get_vocab_size()
    config = _config(size, tokenizer.token_to_id(_END))
    follows = np.zeros((size, config["hidden_size"]), np.float32)
    for start, parts in pieces.items():
        for token, following in pairwise((start, *parts, _END)):
            follows[tokenizer.token_to_id(following), tokenizer.token_to_id(token)] = 4
    save_file(_weights(config, follows), directory / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(directory / "tokenizer.json"))
    _write(directory / "config.json", config)
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": _END, "chat_template": TEMPLATE}
    _write(directory / "tokenizer_config.json", described)


def _pieces() -> dict[str, list[str]]:
    """Every line of the script, cut so that no piece occurs twice: a piece alone says what follows."""
    used: set[str] = set()
    pieces: dict[str, list[str]] = {}
    for start, line in SCRIPT.items():
        cuts = ([line[at : at + width] for at in range(0, len(line), width)] for width in range(4, len(line)))
        pieces[start] = next(cut for cut in cuts if len(set(cut)) == len(cut) and used.isdisjoint(cut))
        used.update(pieces[start])
    return pieces


def _config(size: int, end: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": size,
        "hidden_size": -(-size // 128) * 128,  # what CPU kernels pack
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "eos_token_id": end,
        "dtype": "float32",
        "attention_bias": False,
    }


def _weights(config: dict[str, Any], follows: np.ndarray) -> dict[str, np.ndarray]:
    """A token is its own dimension; attention and MLP add nothing; the head has the table."""
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], 32
    layer = "model.layers.0."
    sizes = {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (heads, hidden),
        "self_attn.v_proj": (heads, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    one = np.ones(hidden, np.float32)
    return {
        "model.embed_tokens.weight": np.eye(config["vocab_size"], hidden, dtype=np.float32),
        "lm_head.weight": follows,
        "model.norm.weight": one,
        f"{layer}input_layernorm.weight": one.copy(),
        f"{layer}post_attention_layernorm.weight": one.copy(),
        **{f"{layer}{name}.weight": np.zeros(size, np.float32) for name, size in sizes.items()},
    }


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


if __name__ == "__main__":
    make_scripted_model(Path(sys.argv[1]))
