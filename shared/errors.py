"""Errors that cross a module border with a meaning."""

from __future__ import annotations


class UserError(RuntimeError):
    """Something only the person who started the process can mend; shown without a traceback.

    The message says what is wrong, where, and what to do about it.
    """
