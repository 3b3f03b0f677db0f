"""``python -m detokenizer_svc``."""

from detokenizer_svc.service import serve
from shared.registry import Role
from shared.service import main

main(Role.DETOKENIZER, serve)
