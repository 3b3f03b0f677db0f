"""Reads server-sent events from stdin and checks that they came one by one, as a stream of chat completion chunks."""

import json
import sys
import time

chunks: list[dict] = []
times: list[float] = []
ended = False
for line in sys.stdin:
    data = line.removeprefix("data: ").strip()
    if not data or data == line.strip():
        continue
    if data == "[DONE]":
        ended = True
        continue
    chunks.append(json.loads(data))
    times.append(time.monotonic())

text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
moments = len({round(at, 2) for at in times})
sys.stdout.write(f"{text!r}\n{len(chunks)} chunks at {moments} moments over {times[-1] - times[0]:.2f} s" + "\n")
assert ended, "no [DONE]"
assert text, "no text"
assert moments > 3, "the stream came in one piece: something buffers it"
