"""What latencies are good enough, and which requests were. Pure.

Goodput is the rate of requests that keep every bound, after Zhong et al. (DistServe, 2024).
"""

from __future__ import annotations

from typing import NamedTuple

from shared.errors import UserError

_NAMES = {"ttft": "ttft", "itl": "itl", "tpot": "itl", "e2e": "e2e", "e2el": "e2e"}


class Slo(NamedTuple):
    """Bounds in milliseconds; None where any value is good enough."""

    ttft: float | None = None  # from sending to the first piece of text
    itl: float | None = None  # mean time between tokens after that, of one request
    e2e: float | None = None  # from sending to the end

    def keeps(self, ttft: float, itl: float, e2e: float) -> bool:
        """Whether a request with these milliseconds kept all bounds; NaN keeps any."""
        return not any(bound is not None and value > bound for bound, value in zip(self, (ttft, itl, e2e), strict=True))


ANY = Slo()


def parse(text: str) -> Slo:
    """`ttft:500,itl:50`. Raises UserError."""
    bounds: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition(":")
        try:
            bound = float(value)
            if not bound > 0:  # nan is no number to keep within, either
                raise ValueError(value)
            bounds[_NAMES[name.strip().lower()]] = bound
        except (KeyError, ValueError):
            raise UserError(
                f"--slo {text}: {part!r} is no bound: write milliseconds of ttft, itl or e2e, such as ttft:500,itl:50"
            ) from None
    return Slo(**bounds)
