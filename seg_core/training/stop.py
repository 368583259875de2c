"""Ctrl-C and SIGTERM at a place where everything is consistent."""

import signal
import threading
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
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked = number

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.asked is not None and kind is None:
            signal.raise_signal(self.asked)
