"""A lease: one process at a time makes a thing; that of a dead process is taken over."""

import json
import os
import socket
import threading
import time
import uuid
from types import TracebackType
from typing import Any

from seg_core.errors import Busy
from seg_core.store import Store

BEAT_SECONDS = 10.0
EXPIRY_SECONDS = 45.0


class Lease:
    """Hold `path` in the store while the body runs.

    The holder renews it every 10 s. A holder on this machine whose process has gone is passed
    over at once; one elsewhere when it was not renewed for 45 s.
    """

    def __init__(self, store: Store, path: str, what: str) -> None:
        self.store, self.path, self.what = store, path, what
        self._owner = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Lease":
        """Take it.

        Raises:
            Busy: a living process holds it.
        """
        while not self.store.create_bytes(self.path, self._content(0)):
            self._remove_if_dead()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.store.remove(self.path)

    def _content(self, beat: int) -> bytes:
        holder = {"owner": self._owner, "host": socket.gethostname(), "pid": os.getpid()}
        return json.dumps(holder | {"beat": beat}).encode()

    def _beat(self) -> None:
        beat = 0
        while not self._stop.wait(BEAT_SECONDS):
            beat += 1
            self.store.write_bytes(self.path, self._content(beat))

    def _remove_if_dead(self) -> None:
        holder = self.store.read_json(self.path)
        if holder is None:
            return
        if holder["host"] == socket.gethostname():
            alive = _process_lives(holder["pid"])
        else:
            alive = self._beats(holder)
        if alive:
            raise Busy(
                f"{self.what}: process {holder['pid']} on {holder['host']} is at it; wait for its "
                "end, or stop it first"
            )
        self.store.remove(self.path)

    def _beats(self, holder: dict[str, Any]) -> bool:
        # clocks of machines differ, so what counts is whether the lease changes while we look
        until = time.monotonic() + EXPIRY_SECONDS
        while time.monotonic() < until:
            if self._stop.wait(1.0) or self.store.read_json(self.path) != holder:
                return True
        return False


def _process_lives(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
