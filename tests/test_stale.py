"""What was made from data that has changed since is named, and made again: that and no more."""

from pathlib import Path

import numpy as np
import pytest
from tiny_run import BLOCK, make_run, make_volume

from seg_core.blockwise.engine import Options
from seg_core.errors import NotReady
from seg_core.segment import lut_of_volume, predict_volume, segment_volume, states_of
from seg_core.store import Store
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import load_volume


def test_no_table_over_predictions_that_are_stale(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    volume, run = make_volume(store), make_run(store)
    train(run)
    validate(run)
    predict_volume(run, volume, None, Options())
    segment_volume(run, volume, Options())
    key = "z0002y0001x0000"
    middle = volume.grid.box(key).grow([-BLOCK // 3] * 3)  # no other block's halo reaches it
    mended = volume.raw.read(middle)[::-1]
    volume.raw.write(middle, np.ascontiguousarray(mended))

    changed = load_volume(store, volume.name)
    with pytest.raises(NotReady, match=r"1 prediction block\(s\)") as refused:
        lut_of_volume(run, changed)
    assert f"{key} (changed since: raw data)" in str(refused.value)
    assert "seg predict tiny phantom" in str(refused.value)
    stale = [k for k, s in states_of(run, changed)["prediction"].items() if s.state == "stale"]
    assert stale == [key]

    assert predict_volume(run, changed, None, Options()).made == [key]
    done = segment_volume(run, changed, Options())
    assert done.fragments.made == [key]
    assert done.table_made
