"""A volume that has a mask: what is made again when it changes, and what is no mask."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masked_stores import SIZE, masked_volume, write_array
from numpy.typing import NDArray
from stores import read
from test_exact_prediction import image
from tiny_run import VOLUME, make_due, opened

from seg_core.errors import NotReady, SegError
from seg_core.lut import read_table
from seg_core.report import make_report
from seg_core.run import add_run
from seg_core.segment import (
    lut_of_volume,
    output_of,
    states_of,
    unfinished,
)
from seg_core.store import Store
from seg_core.train import train
from seg_core.validate import validate
from seg_core.volumes.declared import add_volume

# A mask that changes


def mask_phantom(store: Store, mask: NDArray[Any] | None) -> None:
    text = VOLUME
    if mask is not None:
        write_array(store, "volumes/phantom/mask.zarr", mask, (10.0, 10.0, 10.0))
        text += "mask: mask.zarr\n"
    add_volume(store, "phantom", text.encode(), "phantom.yaml")


def bring_up(store: Store) -> dict[str, list[str]]:
    """Make what is due, and nothing else; what each step made."""
    run, volume = opened(store)
    made = make_due(store, unfinished(run, volume))
    assert unfinished(run, volume).whole in ([], ["report"])
    return made


def arrays(store: Store) -> dict[str, NDArray[Any]]:
    output = output_of(*opened(store))
    return {name: read(output, name) for name in ("prediction", "fragments", "segmentation")}


WHOLE = (120, 48, 48)
OUT = "z0002y0000x0000"  # its affinities are read by none; those of its lower neighbour reach it
REACH_INTO_IT = ["z0001y0000x0000", OUT]


def test_a_mask_around_everything_changes_nothing(store: Store) -> None:
    mask_phantom(store, np.ones(WHOLE, bool))
    assert bring_up(store) == {"prediction": [], "fragments": [], "segmentation": []}


@pytest.mark.slow
def test_what_a_mask_touches_is_made_again_and_no_more(store: Store) -> None:
    before = arrays(store)
    out = opened(store)[1].grid.box(OUT).slices
    mask = np.ones(WHOLE, np.uint8)
    mask[out] = 0
    mask_phantom(store, mask)
    states = states_of(*opened(store))
    assert {k: s.state for k, s in states["prediction"].items() if s.state != "done"} == (
        dict.fromkeys(REACH_INTO_IT, "stale")
    )
    assert states["segmentation"][OUT].reason == "outside the mask now, and not emptied yet"
    with pytest.raises(NotReady, match=OUT):
        lut_of_volume(*opened(store))
    made = bring_up(store)
    assert (made["prediction"], made["fragments"]) == (REACH_INTO_IT, REACH_INTO_IT)
    assert OUT in made["segmentation"]
    now = arrays(store)
    for name, array in now.items():
        assert not array[(..., *out)].any(), name
        assert before[name][(..., *out)].any(), name
    for step, of in states_of(*opened(store)).items():
        assert {s.state for s in of.values()} == {"done", "skipped"}, step
        assert (of[OUT].state, of[OUT].reason) == ("skipped", "outside the mask")
    table = read_table(output_of(*opened(store)))
    assert table
    assert OUT not in table.slices
    assert make_report(*opened(store))["segments"]["background_voxels"] >= 24**3
    # and as if it had never been otherwise
    fresh = Store(f"{store.uri}/fresh")
    shutil.copytree(f"{store.uri}/volumes", f"{fresh.uri}/volumes")
    shutil.copytree(f"{store.uri}/runs", f"{fresh.uri}/runs")
    fresh.remove("runs/tiny/phantom")
    every = set(opened(store)[1].grid)
    assert set(bring_up(fresh)["segmentation"]) == every - {OUT}
    again = arrays(fresh)
    for name in ("prediction", "fragments"):
        np.testing.assert_array_equal(again[name], now[name])
    both = np.stack([again["segmentation"].ravel(), now["segmentation"].ravel()])
    pairs = np.unique(both, axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))
    # the mask opens again: the block is missing, and comes back as it was
    mask_phantom(store, None)
    states = states_of(*opened(store))
    assert states["prediction"][OUT].state == "missing"
    assert bring_up(store)["prediction"] == REACH_INTO_IT
    for name in ("prediction", "fragments"):
        np.testing.assert_array_equal(arrays(store)[name], before[name])


def test_a_voxel_of_the_mask_concerns_those_who_see_it(store: Store) -> None:
    mask = np.ones(WHOLE, np.uint8)
    mask[36, 12, 12] = 0  # in the middle of a block
    mask_phantom(store, mask)
    made = bring_up(store)
    assert made["prediction"] == made["fragments"] == ["z0001y0000x0000"]
    assert arrays(store)["segmentation"][36, 12, 12] == 0
    touched = Path(store.path("volumes/phantom/mask.zarr/0"))
    for path in touched.rglob("*"):
        path.touch()
    assert not any(bring_up(store).values())


def test_a_volume_of_which_a_part_is_inside_is_validated_on_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    shape = (16, 16, 16)
    labels = np.ones(shape, np.uint8)
    labels[:, 8:] = 2
    write_array(store, "volumes/v/labels.zarr", labels)
    mask = np.zeros(shape, np.uint8)
    mask[:, :, :5] = 1
    masked_volume(store, image(shape), mask)
    text = store.read_bytes("volumes/v.yaml") + b"labels: labels.zarr\n"
    add_volume(store, "v", text, "v.yaml")
    config = b"""
datasplit: {train: [{volume: v, roi: '0:8, :, :'}], validate: [{volume: v, roi: '8:16, :, :'}]}
architecture:
  {kind: unet, features: [4, 4, 4], kernels: [[3, 3, 3], [1, 1, 1], [1, 1, 1]],
   strides: [[1, 2, 2], [1, 1, 1]]}
trainer: {iterations: 2, crop: [8, 8, 8]}
compute: {device: cpu, threads: 1}
"""
    run = add_run(store, "r", config, "r.yaml")
    train(run)
    assert validate(run)[1] == 1
    assert validate(run)[1] == 0
    mask[:, :, 5] = 1
    write_array(store, "volumes/v/mask.zarr", mask)
    assert validate(run)[1] == 1


# What is no mask


@pytest.mark.parametrize(
    ("mask", "size", "more", "words"),
    [
        (np.ones((8, 8, 9)), SIZE, "", "expected the same voxels, or coarser ones by a whole"),
        (np.ones((4, 4, 8)), (80.0, 16.0, 9.0), "", "raw data (8, 8, 16)"),
        (np.ones((4, 4, 4), np.float32), (80.0, 16.0, 32.0), "", "integers or booleans"),
        (np.zeros((8, 8, 16)), SIZE, "", "nothing of 0:8, 0:8, 0:16, its ROI, is inside"),
        (None, SIZE, "rois: ['0:9, :, :']", "reaches outside the volume, which is 0:8"),
        (None, SIZE, "rois: []", "at least 1 item"),
        (None, SIZE, "rois: ['6:8, :, :']\nroi: '0:4, :, :'", "nothing of 0:4"),
        (None, SIZE, "mask: nowhere.zarr", "no OME-Zarr is there"),
    ],
)
def test_what_is_no_mask_is_refused(
    mask: NDArray[Any] | None,
    size: tuple[float, float, float],
    more: str,
    words: str,
    tmp_path: Path,
) -> None:
    store = Store(str(tmp_path))
    write_array(store, "volumes/v/raw.zarr", np.zeros((8, 8, 16), np.uint8))
    if mask is not None:
        data = mask if mask.dtype == np.float32 else mask.astype(np.uint8)
        write_array(store, "volumes/v/mask.zarr", data, size)
        more = "mask: mask.zarr"
    text = f"raw: raw.zarr\nblock: [8, 8, 8]\nchunk: [4, 4, 4]\n{more}\n"
    with pytest.raises(SegError) as refused:
        add_volume(store, "v", text.encode(), "v.yaml")
    assert words in str(refused.value)
    assert not store.exists("volumes/v.yaml")
