"""Text as it is generated: native work on a thread of its own, pieces through a queue.

The thread knows only the queue and the stop flag, not the Stream: when the consumer drops the Stream, its
generator is closed, the flag rises, and the native side ends at its next step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from typing import Any

from forerun.types import Completion

OnText = Callable[[str], bool]
Work = Callable[[OnText], dict[str, Any]]

_DONE = object()


class Stream(Iterator[str]):
    """Iterates over pieces of text, each valid UTF-8, whose concatenation is `completion.text`.

    `close()`, leaving a `with` block, an exception or dropping the object stops the native work. After the
    last piece, or after `close()`, `completion` holds the Completion ("cancelled" when it was cut short);
    before that it is None, also when the first piece was never asked for.
    """

    def __init__(self, work: Work, stop: threading.Event) -> None:
        self._stop = stop
        self._reader: int | None = None  # the thread that waits for a piece
        self._result: list[dict[str, Any]] = []
        self._pieces = _pieces(work, stop, self._result)

    @property
    def completion(self) -> Completion | None:
        return Completion.of(self._result[0]) if self._result else None

    def __next__(self) -> str:
        self._reader = threading.get_ident()
        return next(self._pieces)

    def close(self) -> None:
        """Stops generating and waits until the native side has ended its step. May be called twice, and by any thread:
        one that waits for a piece then comes to the end.
        """
        self._stop.set()
        while True:
            try:
                return self._pieces.close()
            except ValueError:  # it is being read
                if self._reader == threading.get_ident():  # by this thread, in a signal's handler: nobody to wait for
                    return None
                time.sleep(0.002)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pieces(work: Work, stop: threading.Event, result: list[dict[str, Any]]) -> Generator[str, None, None]:
    queue: SimpleQueue = SimpleQueue()
    failure: list[BaseException] = []

    def on_text(piece: str) -> bool:
        if piece:
            queue.put(piece)
        return not stop.is_set()

    def run() -> None:
        try:
            result.append(work(on_text))
        except BaseException as error:  # carried over to the consumer's thread
            failure.append(error)
        finally:
            queue.put(_DONE)

    thread = threading.Thread(target=run, name="forerun-generate", daemon=True)
    thread.start()
    try:
        while (piece := queue.get()) is not _DONE:
            yield piece
        if failure:
            raise failure[0]
    finally:
        stop.set()
        thread.join()
