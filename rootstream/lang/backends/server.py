"""Our own server as who answers: deltas against contexts that it keeps.

A call goes over the wire once: text before it is named by its parent. Where the server has lost a parent, what was
said up to it is sent again, once for all who go on from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rootstream.lang.backends import wire
from rootstream.lang.backends.asking import Asker
from rootstream.lang.backends.connection import Answer, OnData
from rootstream.lang.backends.events import EventReader, TooLong
from rootstream.lang.backends.pieces import Pieces
from rootstream.lang.backends.refusals import of_error
from rootstream.lang.backends.retrying import Passing
from rootstream.lang.calls import Call, CallError, OnPiece, Outcome
from shared.config import client_environment

_PATH = "/v1/contexts"
_LOST = "context_not_found"
_LOSSES = 5  # of one call's parent, after which the server is taken to keep nothing
_RELEASE_S = 0.5  # how long a release waits for a call that takes it along
_RELEASE_IDS = 100  # in one request
_PENDING = 10_000  # ids; the server forgets them by itself
_FAREWELL_S = 2.0

OnAnswer = Callable[[bytes, bytes], None]
"""Told the body of each request and of its answer, as they are on the wire."""
