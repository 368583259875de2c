"""A lease: one process at a time makes a thing; that of a dead process is taken over."""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from seg_core.errors import Busy
from seg_core.store import Store

BEAT_SECONDS = 10.0
EXPIRY_SECONDS = 45.0
LOOK_SECONDS = 1.0


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
        try:
            while not self.store.create_bytes(self.path, self._content(0)):
                self.pass_over()
            self._thread.start()
        except Exception:
            raise
        except BaseException:  # the end was asked for, maybe just when it had become ours
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._leave()
        except Exception:
            raise
        except BaseException:  # a signal in the middle of it leaves no lease behind
            self._leave()
            raise

    def _leave(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._is_ours():
            self.store.remove_file(self.path)

    def _content(self, beat: int) -> bytes:
        pid = os.getpid()
        holder = {"owner": self._owner, "host": socket.gethostname(), "pid": pid}
        return json.dumps(holder | {"started": _started(pid), "beat": beat}).encode()

    def _beat(self) -> None:
        beat = 0
        while not self._stop.wait(BEAT_SECONDS):
            # a store that cannot be reached for a moment is tried again at the next beat
            with suppress(Exception):
                if not self._is_ours():
                    return
                beat += 1
                self.store.write_bytes(self.path, self._content(beat))

    def _is_ours(self) -> bool:
        # a machine that slept for too long was passed over: what is there now is another's
        holder = self.store.read_json(self.path)
        return holder is not None and bool(holder["owner"] == self._owner)

    def pass_over(self) -> None:
        """Remove the lease of a dead process.

        Raises:
            Busy: its process lives.
        """
        holder = self.store.read_json(self.path)
        if holder is None:
            return
        if holder["host"] == socket.gethostname():
            alive = _started(holder["pid"]) == holder["started"] != ""
        else:
            alive = self._beats(holder)
        if alive:
            raise Busy(
                f"{self.what}: process {holder['pid']} on {holder['host']} is at it; wait for its "
                "end, or stop it first"
            )
        # others may have found the same: it is removed only if it is still that one's
        self.store.remove_json(self.path, holder)

    def _beats(self, holder: dict[str, Any]) -> bool:
        # clocks of machines differ, so what counts is whether the lease changes while we look
        until = time.monotonic() + EXPIRY_SECONDS
        while time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            if (now := self.store.read_json(self.path)) != holder:
                return now is not None
        return False


def refuse_held(store: Store, paths: Sequence[str], what: str) -> None:
    """Go on only where no living process holds one of these leases; those of the dead go.

    Raises:
        Busy: one does.
    """
    # one of another machine takes its time to be found dead, so all are looked at at once
    with ThreadPoolExecutor(min(32, len(paths)) or 1) as pool:
        for _ in pool.map(lambda path: Lease(store, path, what).pass_over(), paths):
            pass


def _started(pid: int) -> str:
    """When a living process of this machine began; "" where there is none.

    The number alone does not tell: a container that starts again gives it to another process.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass  # somebody else's
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "unknown"
    return "" if state in "ZX" else fields[18]
