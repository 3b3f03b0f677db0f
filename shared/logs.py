"""Structured logs on stderr: lines for people on a terminal, JSON otherwise. Never prompts or keys."""

from __future__ import annotations

import logging
import sys

import structlog

from shared.config import Settings


def for_people(settings: Settings) -> bool:
    """Whether lines are to be read by people rather than machines."""
    return settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())


def configure(settings: Settings, **context: str) -> None:
    """Set up structlog for this process; ``context`` is bound to every line."""
    people = for_people(settings)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if people else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**context)
