"""Reasoning as the opaque token that clients keep who keep no text of it (``reasoning.encrypted_content``).

Any front door reads what any other wrote: there is no key. None is needed, because nothing is hidden (the item has the
same text in the clear) and nothing is trusted (whoever likes may send reasoning of their own). A digest tells what was
cut or comes from elsewhere. Knows nothing of items.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

_VERSION = b"\x01"
_DIGEST = 8  # bytes


def opaque(text: str) -> str:
    """The token of a text."""
    data = text.encode()
    return base64.urlsafe_b64encode(_VERSION + _digest(data) + data).decode()


def plain(token: str) -> str | None:
    """The text of a token, None where :func:`opaque` did not make it."""
    try:
        data = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        text = data[len(_VERSION) + _DIGEST :]
        return text.decode() if data == _VERSION + _digest(text) + text else None
    except (UnicodeError, binascii.Error):
        return None


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(_VERSION + data).digest()[:_DIGEST]
