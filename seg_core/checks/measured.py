"""What was measured of blocks, kept so that a second check reads only what was written since."""

import json
import time
from collections.abc import Callable
from typing import Any

from seg_core.blockwise.output import Output
from seg_core.fingerprint import fingerprint
from seg_core.volumes.contents import Index
from seg_core.volumes.ome_zarr import ZarrArray
from seg_core.volumes.stamps import chunk_stamps, region_stamp

Figures = dict[str, Any]
SAVE_SECONDS = 30.0  # at most so much is measured again when the process is killed


class Measured:
    """Figures of blocks (and of faces between them) by name, in a file beside the verdicts."""

    def __init__(self, output: Output, step: str, version: int) -> None:
        self._index = Index(output.store, output.path(f"checks/measured/{step}.json"))
        self._version = version
        self.stamps: dict[str, str] = {}
        self._saved = time.monotonic()

    def of(self, name: str, stamp: str, measure: Callable[[], Figures]) -> Figures:
        """The figures of what has this stamp; measured unless they are kept."""
        self.stamps[name] = fingerprint(stamp, self._version)
        text = self._index.digest(name, self.stamps[name], lambda: _text(measure))
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._save()
        return dict(json.loads(text))

    def _save(self) -> None:
        self._index.save()
        self._saved = time.monotonic()

    def made_from(self) -> str:
        """A fingerprint of all that was asked for; writes what was measured."""
        self._save()
        return fingerprint(self.stamps)


def _text(measure: Callable[[], Figures]) -> str:
    return json.dumps(measure())


def written(array: ZarrArray, output: Output) -> dict[str, str]:
    """A stamp of the chunks of every block, as they are stored now: one listing of the array."""
    stamps = chunk_stamps(array)
    return {key: region_stamp(array, stamps, output.grid.box(key)) for key in output.grid}
