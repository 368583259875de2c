"""Ctrl-C and SIGTERM at a place where everything is consistent."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Stop:
    """While the body runs, a signal to stop is only noted; it takes effect when the body ends.

    An optimizer that was stopped between two of its parameters could never be resumed exactly.
    Elsewhere than in the main thread signals are not ours, and nothing is changed.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        self._take()
        return self

    def _take(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Let signals stop the work at once for a while, also one that was noted before."""
        self._give_back()
        if self.asked is not None:
            asked, self.asked = self.asked, None
            signal.raise_signal(asked)
        yield
        self._take()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked = number

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()
        if self.asked is not None and kind is None:
            signal.raise_signal(self.asked)
