"""Server-sent events over arbitrary cuts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream.lang.backends import events
from rootstream.lang.backends.events import EventReader, TooLong

lines = st.binary(max_size=20).filter(lambda line: not {10, 13} & set(line))
blocks = st.lists(st.tuples(st.sampled_from([b"data: ", b"data:", b": ", b"id: ", b"event: "]), lines), max_size=4)


@given(
    st.lists(blocks, max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 600), max_size=10),
    st.integers(0, 3),
)
def test_events_do_not_depend_on_where_they_are_cut(
    blocks: list[list[tuple[bytes, bytes]]], end: bytes, cuts: list[int], blank: int
) -> None:
    wire, expected = end * blank, list[bytes]()
    for block in blocks:
        wire += b"".join(name + value + end for name, value in block) + end * (1 + blank)
        data = [
            value[1:] if name == b"data:" and value.startswith(b" ") else value
            for name, value in block
            if name.startswith(b"data")
        ]
        if data:
            expected.append(b"\n".join(data))
    wire += b": the last word" + end  # else a \r at the very end waits for its \n
    reader, found = EventReader(), list[bytes]()
    ends = [*sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    for a, b in zip([0, *ends], ends, strict=False):
        found += reader.push(wire[a:b])
    assert found == expected


@pytest.mark.parametrize("piece", [b"data: " + b"a" * 300, b"data: " + b"a" * 50 + b"\n", b"data\n" * 50])
def test_an_event_has_a_bound(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENT_BYTES", 1000)
    reader = EventReader()

    def go_on() -> None:
        for _ in range(100):
            reader.push(piece)

    with pytest.raises(TooLong):
        go_on()


def test_many_events_are_not_one_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENT_BYTES", 1000)
    reader = EventReader()
    assert sum(len(reader.push(b"data: abc\n\ndata: d" + b"ef\n\n")) for _ in range(500)) == 1000


def test_bytes_of_one_chunk_do_not_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENT_BYTES", 1000)
    assert len(EventReader().push(b"data: abc\n\n" * 500)) == 500
