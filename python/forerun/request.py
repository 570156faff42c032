"""A request among others: text as it comes, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from forerun import _core
from forerun.types import Completion


class Request(Iterator[str]):
    """Iterates over pieces of text, each valid UTF-8, as the engine's batch writes them. Made by `Engine.submit()`.

    Works with `for`, and with `async for` in an event loop. Work goes on whether or not anybody reads; `cancel()`,
    closing the engine, or dropping the object ends it at its next step. So do leaving an `async for` before the end and
    cancelling its task.
    """

    def __init__(self, native: _core.Request, logprobs: bool) -> None:
        self._native = native
        self._logprobs = logprobs

    def __next__(self) -> str:
        piece = self._native.next()
        if piece is None:
            raise StopIteration
        return piece

    def result(self, timeout: float | None = None) -> Completion:
        """Waits for the end and returns all of it, text already read included.

        Raises what ended the request, or TimeoutError after `timeout` seconds (it then still runs).
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._native.wait_for_end(_SLICE if until is None else min(_SLICE, until - time.monotonic())):
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"the request has not ended after {timeout} s")
        return self._completion()

    def cancel(self) -> None:
        """Ends it at its next step, with finish_reason "cancelled". May be called at any time."""
        self._native.cancel()

    @property
    def done(self) -> bool:
        """Whether it has ended; text may still be unread."""
        return self._native.ended()

    async def __aiter__(self) -> AsyncIterator[str]:
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Any]()
        threading.Thread(target=_pump, args=(self._native, loop, pieces), name="forerun-request", daemon=True).start()
        try:
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self.cancel()
            raise

    def __await__(self):
        return self._wait().__await__()

    async def _wait(self) -> Completion:
        async for _ in self:
            pass
        return self._completion()

    def _completion(self) -> Completion:
        return Completion.of(self._native.wait(self._logprobs))


_SLICE = 0.1  # seconds between looks at Ctrl-C


def _pump(native: _core.Request, loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[Any]) -> None:
    """Carries text from a waiting thread into the event loop; None is the end."""
    last: Any = ""
    while last is not None and not isinstance(last, BaseException):
        try:
            last = native.next()
        except BaseException as error:  # raised where it is awaited
            last = error
        try:
            loop.call_soon_threadsafe(pieces.put_nowait, last)
        except RuntimeError:  # the loop is closed: nobody waits any more
            native.cancel()
            return
