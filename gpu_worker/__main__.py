"""``python -m gpu_worker``."""

from shared.config import Settings, set_default_environment
from shared.registry import Role, State
from shared.service import Context, main


def prepare(settings: Settings) -> None:
    """Bind torch's threads to cores, before torch is imported.

    Otherwise the kernel may put two of them on one core while another process has the other one, and each of a
    step's 240 barriers then costs a time slice: beside one busy process a step of 20 ms took 75 ms on average free,
    40 bound, and 28 bound with :mod:`gpu_worker.kernels.thread_policy`. A worker with fewer threads than cores stays
    free to move: its neighbours may be workers too.
    """
    if settings.threads is None:
        set_default_environment("OMP_PROC_BIND", "true")


async def serve(context: Context) -> None:
    """Say that there is a process before torch is imported, which takes a second or two."""
    await context.announce(State.LOADING, "importing torch")
    from gpu_worker.service import serve as serve_model

    await serve_model(context)


if __name__ == "__main__":
    main(Role.WORKER, serve, prepare)
