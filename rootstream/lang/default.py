"""The backend of programs that name none."""

from __future__ import annotations

from rootstream.lang.calls import Backend

_chosen: list[Backend] = []  # at most one


def set_default(backend: Backend | None) -> None:
    """Programs that name no backend run on this one; None: on our server, as the environment has it."""
    _chosen[:] = [] if backend is None else [backend]


def default_backend() -> Backend:
    """The one that was set, or a Server at ROOTSTREAM_URL."""
    if not _chosen:
        from rootstream.lang.backends.server import Server

        _chosen.append(Server())
    return _chosen[0]
