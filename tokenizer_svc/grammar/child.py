"""``python -m tokenizer_svc.grammar.child PARENT``: compiles one grammar after the other until its pipe closes.

What a client sends may take any time and memory, so it happens where it can be killed, at low priority and
in a bounded address space. Whatever goes wrong in here ends this process, and the front door starts another.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

from shared.grammar import Dfa, Guidance, Rejected, encode
from shared.parent import end_with_parent
from tokenizer_svc.grammar.compile import compile_spec
from tokenizer_svc.grammar.frames import OUT_OF_MEMORY, Outcome, Ready, Reply, frame, read
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.spec import GrammarSpec

_NICENESS = 10  # the model's threads go first
_TIDY_KB = 192 * 1024  # a child that needed more ends after its answer, and a small one takes its place


def main() -> None:
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who closes the pipe
    os.nice(_NICENESS)
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
            answers.write(frame(_reply(spec, limits)))
            answers.flush()
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > _TIDY_KB:
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
        case Rejected(message):
            return Reply(Outcome.REJECTED, data, message)


if __name__ == "__main__":
    main()
