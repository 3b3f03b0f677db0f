"""What msgspec's decoders raise. Apart from the other errors, so that who only knows those need not load msgspec."""

from __future__ import annotations

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Whatever bytes from elsewhere may do to them."""
