"""``python -m tokenizer_svc.grammar.child PARENT``: compiles one grammar after the other until its pipe closes.

What a client sends may take any time and memory, so it happens where it can be killed, at low priority and
in a bounded address space. Whatever goes wrong in here ends this process, and the front door starts another.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from pathlib import Path

import msgspec

from shared.grammar import Dfa, Guidance, Rejected, Tokens, encode
from shared.parent import end_with_parent
from tokenizer_svc.grammar.compile import compile_spec
from tokenizer_svc.grammar.frames import OUT_OF_MEMORY, Outcome, Ready, Reply, frame, read
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.spec import GrammarSpec

_NICENESS = 19  # the model's threads go first


def main() -> None:
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who closes the pipe
    os.nice(_NICENESS)
    gc.disable()  # a fifth of the time of a compile; a child that has grown is replaced
    source = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever a library prints must not stand between answers
        limits = read(source, GrammarLimits)
        if limits is None:
            return
        resource.setrlimit(resource.RLIMIT_AS, (limits.compile_bytes, limits.compile_bytes))
        answers.write(frame(Ready()))
        answers.flush()
        while (spec := read(source, GrammarSpec)) is not None:
            signal.setitimer(signal.ITIMER_PROF, limits.compile_s)  # the end of this process, unless it is stopped
            reply = _reply(spec, limits)
            signal.setitimer(signal.ITIMER_PROF, 0)
            has_grown = _resident() > limits.child_bytes
            answers.write(frame(msgspec.structs.replace(reply, is_last=has_grown)))
            answers.flush()
            if has_grown:
                return


def _reply(spec: GrammarSpec, limits: GrammarLimits) -> Reply:
    try:
        compiled = compile_spec(spec, limits)
        data = encode(compiled)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    match compiled:
        case Dfa():
            return Reply(Outcome.DFA, data)
        case Guidance():
            return Reply(Outcome.GUIDANCE, data)
        case Tokens():
            return Reply(Outcome.TOKENS, data)
        case Rejected(message):
            return Reply(Outcome.REJECTED, data, message)


def _resident() -> int:
    """Bytes of memory in use now. Not ru_maxrss, which a child inherits from its parent."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
