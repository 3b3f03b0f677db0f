"""Ctrl-C at the moments that a terminal hits only by chance."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

from rootstream.chat.interrupts import Interrupts


async def waits(interrupts: Interrupts) -> str:
    task = asyncio.create_task(asyncio.sleep(30))
    interrupts.cancel(task)
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    return "over"


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_before_there_is_a_loop() -> None:
    with Interrupts() as interrupts:
        press()
        assert asyncio.run(waits(interrupts)) == "cancelled"


def test_while_nothing_happens() -> None:
    with Interrupts() as interrupts:
        timer = threading.Timer(0.1, press)
        timer.start()
        assert asyncio.run(waits(interrupts)) == "cancelled"
        timer.join()


def test_after_the_answer() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        task: asyncio.Task[None] | None = None

        async def short() -> None:
            nonlocal task
            task = asyncio.create_task(asyncio.sleep(0))
            interrupts.cancel(task)
            await task

        asyncio.run(short())
        press()
    assert signal.getsignal(signal.SIGINT) is before
