"""The least that following a stream and writing another costs: no messages, no decisions, a socket and hiredis.

    python -m benchmarks.bare_client SOCKET STREAM STEPS

Started by scheduler_process, as its floor: blocks in XREAD on the stream, and after every eighth entry adds 800
bytes to another one, as a scheduler with the default lease does. Prints its CPU time per entry in
microseconds. Blocks in the kernel, without an event loop: no asyncio process can do as little.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import hiredis


def follow(path: str, stream: str, steps: int) -> float:
    """Microseconds of CPU per entry, the first hundred not counted."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    parser = hiredis.Reader()

    def call(*command: Any) -> Any:
        connection.sendall(hiredis.pack_command(command))
        while (reply := parser.gets()) is False:
            parser.feed(connection.recv(1 << 16))
        return reply

    cursor, seen, began = "$", 0, 0.0
    while seen < steps + 100:
        if seen == 100:
            began = time.process_time()
        reply = call("XREAD", "BLOCK", 10_000, "COUNT", 1, "STREAMS", stream, "nothing", cursor, "0")
        if reply is None:
            raise SystemExit("nothing comes")
        cursor = reply[0][1][-1][0]
        seen += 1
        if seen % 8 == 0:
            call("XADD", "floor", "*", "m", bytes(800))
    return (time.process_time() - began) / steps * 1e6


if __name__ == "__main__":
    print(follow(sys.argv[1], sys.argv[2], int(sys.argv[3])))
