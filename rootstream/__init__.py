"""rootstream: an LLM serving engine cut into processes over Redis streams.

This package is what users touch: the command line, the local launcher, and the frontend language, whose names are
imported when they are first used: `import rootstream as rs; rs.gen`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootstream.lang.backends.openai import OpenAI as OpenAI
    from rootstream.lang.backends.server import Server as Server
    from rootstream.lang.branch import Misplaced as Misplaced
    from rootstream.lang.calls import Backend as Backend
    from rootstream.lang.calls import CallError as CallError
    from rootstream.lang.calls import Result as Result
    from rootstream.lang.calls import Unsupported as Unsupported
    from rootstream.lang.calls import Usage as Usage
    from rootstream.lang.deadlines import DeadlineExceeded as DeadlineExceeded
    from rootstream.lang.deadlines import deadline as deadline
    from rootstream.lang.default import default_backend as default_backend
    from rootstream.lang.default import set_default as set_default
    from rootstream.lang.forks import Forks as Forks
    from rootstream.lang.function import Function as Function
    from rootstream.lang.function import function as function
    from rootstream.lang.mapping.items import Item as Item
    from rootstream.lang.mapping.items import Items as Items
    from rootstream.lang.parts import Parts as Parts
    from rootstream.lang.program import Cancelled as Cancelled
    from rootstream.lang.program import Ended as Ended
    from rootstream.lang.says import assistant as assistant
    from rootstream.lang.says import developer as developer
    from rootstream.lang.says import gen as gen
    from rootstream.lang.says import image as image
    from rootstream.lang.says import message as message
    from rootstream.lang.says import select as select
    from rootstream.lang.says import system as system
    from rootstream.lang.says import tools as tools
    from rootstream.lang.says import user as user
    from rootstream.lang.schemas import Unreadable as Unreadable
    from rootstream.lang.state import NotReady as NotReady
    from rootstream.lang.state import Running as Running
    from rootstream.lang.state import State as State
    from rootstream.lang.tools import ToolCall as ToolCall
    from rootstream.lang.tools import tool_result as tool_result
    from rootstream.lang.tracing.graph import Graph as Graph
    from rootstream.lang.tracing.observing import trace as trace
    from rootstream.lang.waiting import wait as wait

__version__ = "0.1.0"

_HOMES = {
    "branch": ("Misplaced",),
    "calls": ("Backend", "CallError", "Result", "Unsupported", "Usage"),
    "deadlines": ("DeadlineExceeded", "deadline"),
    "backends.openai": ("OpenAI",),
    "backends.server": ("Server",),
    "default": ("default_backend", "set_default"),
    "forks": ("Forks",),
    "function": ("Function", "function"),
    "mapping.items": ("Item", "Items"),
    "parts": ("Parts",),
    "program": ("Cancelled", "Ended"),
    "says": ("assistant", "developer", "gen", "image", "message", "select", "system", "tools", "user"),
    "schemas": ("Unreadable",),
    "state": ("NotReady", "Running", "State"),
    "tools": ("ToolCall", "tool_result"),
    "tracing.graph": ("Graph",),
    "tracing.observing": ("trace",),
    "waiting": ("wait",),
}
_LANGUAGE = {name: f"rootstream.lang.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _LANGUAGE.get(name)
    if home is None:
        raise AttributeError(f"module 'rootstream' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LANGUAGE})
