"""``python -m scheduler_svc``."""

from scheduler_svc.service import serve
from shared.registry import Role
from shared.service import main

main(Role.SCHEDULER, serve)
