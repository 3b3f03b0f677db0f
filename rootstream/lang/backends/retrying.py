"""When a call that failed may be made again. Pure: the caller measures, waits and says what happened."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from rootstream.lang.calls import CallError

FIRST_S = 0.1
LONGEST_S = 5.0
NEVER_THERE_S = 1.5  # how long a server is waited for that has not answered once: the address may be wrong
_AFTER = 0.25  # of Retry-After, at most on top: not everybody at the same moment


class Passing(CallError):
    """A failure that may be over the next time: the same call again is worth it."""

    def __init__(
        self, message: str, status: int | None = None, code: str | None = None, after_s: float | None = None
    ) -> None:
        super().__init__(message, status, code)
        self.after_s = after_s  # as the server says

    def final(self, attempts: int = 1) -> CallError:
        """What it is once nobody tries again."""
        tried = f" (tried {attempts} times)" if attempts > 1 else ""
        return CallError(f"{self}{tried}", self.status, self.code)


class Patience:
    """What one call has been through. Times are seconds of any one clock."""

    def __init__(self, most_s: float, until: float | None, rng: random.Random) -> None:
        """``most_s``: from the first failure on; ``until``: when the call itself must be over."""
        self._most_s = most_s
        self._until = until
        self._rng = rng
        self._first: float | None = None
        self.failures = 0

    def wait(self, now: float, error: Passing, *, known: bool) -> float | None:
        """Seconds to wait before the next attempt, or None: it is over.

        Back-off with jitter (Brooker, "Exponential backoff and jitter", 2015), never before the server wants it.
        ``known``: the server has answered before.
        """
        if self._first is None:
            self._first = now
        most_s = self._most_s if known or error.status is not None else min(self._most_s, NEVER_THERE_S)
        delay = self._rng.uniform(0.5, 1.0) * min(FIRST_S * 2.0**self.failures, LONGEST_S)
        if error.after_s is not None:
            delay = max(delay, error.after_s * self._rng.uniform(1.0, 1.0 + _AFTER))
        self.failures += 1
        again = now + delay
        if again > self._first + most_s or (self._until is not None and again >= self._until):
            return None
        return delay


def retry_after(headers: Mapping[bytes, bytes], now: datetime) -> float | None:
    """Seconds, from Retry-After as a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get(b"retry-after", b"").decode("latin-1").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return None if math.isnan(seconds) else max(seconds, 0.0)
