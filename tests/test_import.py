"""Import: what it stores, what it refuses, and what is left when it is killed or asked again."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile
import zarr
from numpy.typing import NDArray
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Multiscales, Reader
from PIL import Image
from small_imports import CHUNK, SHAPE, SIZE, imported, volume

from seg_core.errors import SegError
from seg_core.geometry import Box
from seg_core.volumes.importing import import_array
from seg_core.volumes.ome_zarr import ZarrArray, open_array


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*") if p.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("uint8", "uint32"), ("int32", "uint32"), ("int64", "uint64"), ("uint64", "uint64")],
)
def test_labels_are_stored_wide_enough(tmp_path: Path, dtype: str, stored: str) -> None:
    data = volume(dtype)
    data[-1, -1, -1] = np.iinfo(dtype).max
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"] = data
    array = imported(f"{tmp_path}/a.h5:labels", tmp_path, labels=True, voxel_size=SIZE)
    assert array.dtype == stored
    np.testing.assert_array_equal(array.read(), data.astype(stored))


def test_roi_keeps_its_place(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=volume())
    array = imported(tmp_path / "a.zarr", tmp_path, voxel_size=SIZE, roi="2:9, :, -5:")
    assert array.box == Box((2, 0, 9), (9, 20, 14))
    np.testing.assert_array_equal(array.read(), volume()[2:9, :, -5:])


def broken_sources(folder: Path) -> dict[str, str]:
    """Sources that cannot be imported, with a part of the sentence that says why."""
    (folder / "notes.txt").write_text("no image")
    (folder / "empty").mkdir()
    with h5py.File(folder / "a.h5", "w") as file:
        file["volumes/raw"] = volume()
        file["line"] = np.arange(5)
        file["complex"] = np.zeros((3, 3, 3), complex)
        file["none"] = np.zeros((0, 3, 3))
        file["five"] = np.zeros((2, 2, 2, 2, 2))
    zarr.open_group(folder / "group.zarr", mode="w").create_array("in/raw", data=volume())
    (folder / "slices").mkdir()
    for i in range(2):
        tifffile.imwrite(folder / f"slices/{i}.tif", np.zeros((5, 6 + i), "u1"))
    (folder / "mixed").mkdir()
    tifffile.imwrite(folder / "mixed/0.tif", np.zeros((5, 6), "u1"))
    Image.fromarray(np.zeros((5, 6), "u1")).save(folder / "mixed/1.png")
    (folder / "stacks").mkdir()
    tifffile.imwrite(folder / "stacks/0.tif", volume())
    with tifffile.TiffWriter(folder / "pages.tif") as tiff:
        tiff.write(np.zeros((5, 6), "u1"))
        tiff.write(np.zeros((7, 6), "u1"))
    tifffile.imwrite(folder / "time.ome.tif", volume(shape=(2, *SHAPE)), metadata={"axes": "TZYX"})
    tifffile.imwrite(folder / "cut.tif", volume(), compression="zlib")
    os.truncate(folder / "cut.tif", 900)
    tifffile.imwrite(folder / "short.tif", volume(), imagej=True, metadata={"axes": "ZYX"})
    os.truncate(folder / "short.tif", 2000)
    (folder / "half.h5").write_bytes((folder / "a.h5").read_bytes()[:200])
    place = {"driver": "file", "path": f"{folder}/a.n5/raw/"}
    metadata = {"dimensions": [3], "blockSize": [3], "dataType": "uint8"}
    metadata["compression"] = {"type": "raw"}
    ts.open({"driver": "n5", "kvstore": place, "metadata": metadata}, create=True).result()
    return {
        "missing.tif": "is not there; expected a TIFF",
        "missing.h5:raw": "is not there; expected a TIFF",
        "notes.txt": "is of no known format; expected a TIFF",
        "empty": "is of no known format; expected a TIFF",
        "a.h5": "needs a dataset; .* one of: complex, five, none, volumes/raw",
        "a.h5:raw": "has no dataset 'raw'; .* volumes/raw",
        "a.h5:volumes": "has no dataset 'volumes'",
        "a.h5:line": "expected .y, x., .z, y, x.",
        "a.h5:complex": "holds complex128",
        "a.h5:none": "no voxel",
        "a.h5:five": "expected .y, x., .z, y, x.",
        "half.h5:volumes/raw": "cannot be read",
        "group.zarr": "without OME-Zarr metadata; expected .*/ARRAY of: in/raw",
        "slices": "1.tif: has shape .5, 7. .* 0.tif, has .5, 6.",
        "mixed": "TIFFs and PNGs",
        "stacks": "expected one slice",
        "pages.tif": "expected one stack of equal pages",
        "time.ome.tif": "expected .y, x., .z, y, x.",
        "cut.tif": "is a broken TIFF: .*offset",
        "short.tif": "is a broken TIFF: .*corrupted",
        "a.n5": "needs a dataset; .* of: raw",
        "a.n5/raw": "expected .y, x., .z, y, x.",
        "volume.tif/raw": "is not there",
    }


def test_broken_sources_are_told_in_one_sentence(tmp_path: Path) -> None:
    for name, reason in broken_sources(tmp_path).items():
        with pytest.raises(SegError, match=reason) as caught:
            imported(tmp_path / name, tmp_path, voxel_size=SIZE)
        assert re.match(re.escape(str(tmp_path)), str(caught.value)), name
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out.zarr").exists(), name


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (volume(), {"voxel_size": None}, "--voxel-size"),
        (volume(), {"voxel_size": (50, 0, 4.6)}, "above 0"),
        (volume(), {"voxel_size": (50, -1, 4.6)}, "above 0"),
        (volume(), {"voxel_size": (50, float("nan"), 4.6)}, "above 0"),
        (volume(), {"roi": "0:4,:"}, "three slices"),
        (volume(), {"roi": "0:99,:,:"}, "outside"),
        (volume("float32"), {"labels": True}, "integers in one channel, found float32"),
        (volume(shape=(2, *SHAPE)), {"labels": True}, "in 2 channels"),
        (np.zeros(SHAPE, "u4"), {"labels": True}, "has no object"),
        (volume("int16") - 1, {"labels": True}, "label -1"),
    ],
)
def test_wrong_requests_write_nothing(
    tmp_path: Path, data: NDArray[Any], options: dict[str, Any], reason: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = data
    with pytest.raises(SegError, match=reason):
        imported(f"{tmp_path}/a.h5:data", tmp_path, **{"voxel_size": SIZE, **options})
    assert not (tmp_path / "out.zarr").exists()


def test_labels_without_object_in_the_roi(tmp_path: Path) -> None:
    data = np.zeros(SHAPE, "u1")
    data[0, 0, 0] = 1
    tifffile.imwrite(tmp_path / "a.tif", data)
    with pytest.raises(SegError, match="no object"):
        imported(tmp_path / "a.tif", tmp_path, labels=True, voxel_size=SIZE, roi="1:,:,:")


def test_another_array_is_left_alone(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume())
    imported(tmp_path / "a.tif", tmp_path, voxel_size=SIZE)
    before = stamps(tmp_path)
    tifffile.imwrite(tmp_path / "b.tif", volume("uint16"))
    with pytest.raises(SegError, match="another array"):
        imported(tmp_path / "b.tif", tmp_path, voxel_size=SIZE)
    with pytest.raises(SegError, match="the source itself"):
        import_array(f"{tmp_path}/out.zarr", f"{tmp_path}/out.zarr/", voxel_size=None)
    for other in (tmp_path, tmp_path / "a.tif"):
        with pytest.raises(SegError, match="no array of this project"):
            import_array(f"{tmp_path}/b.tif", str(other), voxel_size=SIZE)
    assert stamps(tmp_path).items() >= before.items()
    assert not (tmp_path / "zarr.json").exists()


KILLED = """
import os, signal, sys
from seg_core.volumes import importing, ome_zarr
write, count = ome_zarr.ZarrArray.write, 0
def killing(self, box, data):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, box, data)
ome_zarr.ZarrArray.write = killing
importing.import_array(sys.argv[1], sys.argv[2], voxel_size=(50, 4.6, 8), chunk=(4, 8, 8))
"""


def test_killed_import_is_completed_by_the_next(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume())
    command = [sys.executable, "-c", KILLED, f"{tmp_path}/a.tif", f"{tmp_path}/out.zarr"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    part = stamps(tmp_path / "out.zarr/0")
    assert len(part) == 1 + 2 * 6  # zarr.json and two slabs of 1 x 3 x 2 chunks
    with pytest.raises(SegError, match="its import did not end"):
        open_array(f"{tmp_path}/out.zarr")
    array = imported(tmp_path / "a.tif", tmp_path, voxel_size=SIZE)
    np.testing.assert_array_equal(array.read(), volume())
    assert stamps(tmp_path / "out.zarr").items() >= part.items()  # what was done is kept
    (tmp_path / "whole").mkdir()
    imported(tmp_path / "a.tif", tmp_path / "whole", voxel_size=SIZE)
    assert contents(tmp_path / "out.zarr") == {
        name: content.replace(b"whole/", b"")
        for name, content in contents(tmp_path / "whole/out.zarr").items()
    }


def test_import_again_touches_no_file(tmp_path: Path) -> None:
    data = volume("float32")
    data[3] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", data)
    imported(tmp_path / "a.tif", tmp_path, voxel_size=SIZE)
    before = stamps(tmp_path)
    imported(tmp_path / "a.tif", tmp_path, voxel_size=SIZE)
    assert stamps(tmp_path) == before


def test_import_of_changed_data_writes_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume())
    imported(tmp_path / "a.tif", tmp_path, voxel_size=SIZE)
    before = stamps(tmp_path / "out.zarr/0")
    changed = volume()
    changed[5, 5, 5] += 1
    tifffile.imwrite(tmp_path / "a.tif", changed)
    with monkeypatch.context() as patch:
        patch.setattr(ZarrArray, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            imported(tmp_path / "a.tif", tmp_path, voxel_size=SIZE)
    with pytest.raises(SegError, match="did not end"):  # neither the old nor the new data
        open_array(f"{tmp_path}/out.zarr")
    array = imported(tmp_path / "a.tif", tmp_path, voxel_size=SIZE)
    np.testing.assert_array_equal(array.read(), changed)
    touched = {p for p, stamp in stamps(tmp_path / "out.zarr/0").items() if before[p] != stamp}
    assert {p.relative_to(tmp_path / "out.zarr/0/c").parts[0] for p in touched} == {"1"}


def test_slabs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seg_core.volumes.importing._SLAB_BYTES", 4 * 8 * 14)
    shapes = []
    write = ZarrArray.write

    def watched(array: ZarrArray, box: Box, data: NDArray[Any]) -> None:
        shapes.append(box.shape)
        write(array, box, data)

    monkeypatch.setattr(ZarrArray, "write", watched)
    tifffile.imwrite(tmp_path / "a.tif", volume())
    array = imported(tmp_path / "a.tif", tmp_path, voxel_size=SIZE)
    assert max(shapes) == (4, 8, 14)
    np.testing.assert_array_equal(array.read(), volume())


@pytest.mark.parametrize("labels", [False, True])
def test_viewers_can_read_what_is_written(tmp_path: Path, labels: bool) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume())
    imported(tmp_path / "a.tif", tmp_path, voxel_size=SIZE, labels=labels)
    location = parse_url(tmp_path / "out.zarr")
    assert location is not None
    (node,) = Reader(location)()
    assert Multiscales.matches(location)
    assert Label.matches(location) is labels
    np.testing.assert_array_equal(node.data[0].compute(), volume())
    assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"]
    assert node.metadata["coordinateTransformations"][0][0]["scale"] == list(SIZE)


@pytest.mark.parametrize("path", ["out.zarr", "a b%20#.zarr", "./x/../out.zarr"])
def test_local_paths_of_any_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", volume())
    import_array("a.tif", path, voxel_size=SIZE, chunk=CHUNK)
    np.testing.assert_array_equal(open_array(path).read(), volume())
