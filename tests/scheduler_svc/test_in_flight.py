"""Who waits for whose prefill, and how long."""

from __future__ import annotations

from array import array

from scheduler_svc.in_flight import InFlight
from scheduler_svc.node import Node
from scheduler_svc.request import Request
from shared import columns
from tests.scheduler_svc.simulated import generate

PAGE = 4


def request(id: int, tokens: list[int]) -> Request:
    made = Request(generate(id, tokens), 0.0, id)
    made.input_ids = columns.int32(tokens)
    return made


def owner_of(tokens: list[int], in_flight: InFlight, node: Node) -> Request:
    owner = request(1, tokens)
    owner.node = node
    in_flight.advance(owner)
    return owner


def test_only_a_request_that_continues_the_same_path_with_the_same_page_waits() -> None:
    in_flight = InFlight(PAGE)
    root, elsewhere = Node(b"", array("i"), None), Node(b"", array("i"), None)
    owner = owner_of([1, 2, 3, 4, 5, 6, 7, 8], in_flight, root)

    def found(tokens: list[int], node: Node | None = root, pages: int = 0) -> Request | None:
        return in_flight.owner(node, request(2, tokens), pages)

    assert found([1, 2, 3, 4, 9]) is owner
    assert found([1, 2, 3, 9, 9]) is None
    assert found([1, 2, 3, 4, 9], elsewhere) is None
    assert found([1, 2, 3, 4, 9], None) is None
    assert found([1, 2, 3, 4]) is None, "its last token is computed in any case, so the page cannot be shared"


def test_it_waits_only_as_far_as_they_agree() -> None:
    in_flight = InFlight(PAGE)
    owner = owner_of([1] * 40, in_flight, Node(b"", array("i"), None))
    short, long, whole = request(2, [1] * 9 + [2] * 9), request(3, [1] * 21 + [2] * 9), request(4, [1] * 40)
    for waiting in (short, long, whole):
        in_flight.park(waiting, owner)
    woken: dict[int, int] = {}
    for shared in range(1, 11):
        owner.shared = shared
        for waiting in in_flight.advance(owner):
            woken[waiting.id] = shared
    assert woken == {2: 2, 3: 5, 4: 9}


def test_all_wait_no_longer_when_the_prefill_ends_early() -> None:
    in_flight = InFlight(PAGE)
    root = Node(b"", array("i"), None)
    owner = owner_of([1] * 40, in_flight, root)
    waiting = [request(id, [1] * 40) for id in (2, 3)]
    for each in waiting:
        in_flight.park(each, owner)
    assert in_flight.end(owner) == waiting
    assert in_flight.end(owner) == []
    assert in_flight.owner(root, request(4, [1] * 40), 0) is None
