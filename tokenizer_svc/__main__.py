"""``python -m tokenizer_svc``: one front door."""

from shared.registry import Role
from shared.service import main
from tokenizer_svc.service import serve

main(Role.TOKENIZER, serve)
