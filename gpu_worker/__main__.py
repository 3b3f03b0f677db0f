"""``python -m gpu_worker``."""

from gpu_worker.service import serve
from shared.registry import Role
from shared.service import main

main(Role.WORKER, serve)
