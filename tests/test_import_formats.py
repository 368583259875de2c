"""Every format, written by its own library, is read, imported, or opened where it is."""

import json
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tensorstore as ts
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image
from small_imports import CHUNK, SHAPE, SIZE, imported, volume

from seg_core.errors import SegError
from seg_core.geometry import Box
from seg_core.volumes.formats import open_source
from seg_core.volumes.ome_zarr import ZarrArray, create, open_array


def check(source: Path | str, dest: Path, data: NDArray[Any], size: Any = SIZE) -> None:
    """The source reads as `data`, whole and in part, says `size`, and is imported so."""
    opened = open_source(str(source))
    assert opened.voxel_size == (None if size is None else pytest.approx(size, rel=1e-5))
    box = Box((0, 3, 2), (opened.shape[0], 9, 14))
    np.testing.assert_array_equal(opened.read(box), data[..., 3:9, 2:14])
    array = imported(source, dest, voxel_size=SIZE if size is None else None)
    assert array.voxel_size == pytest.approx(SIZE, rel=1e-5)
    assert array.dtype == data.dtype.name
    np.testing.assert_array_equal(array.read(), data)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"tile": (16, 16)},
        {"metadata": None},
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff_stack(tmp_path: Path, options: dict[str, Any], dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(dtype), photometric="minisblack", **options)
    check(tmp_path / "a.tif", tmp_path, volume(dtype), None)


def test_tiff_in_lzw(tmp_path: Path) -> None:
    Image.fromarray(volume()[0]).save(tmp_path / "a.tif", compression="tiff_lzw")
    check(tmp_path / "a.tif", tmp_path, volume()[:1], None)


def test_tiff_written_page_by_page(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in volume():
            file.write(page)
    check(tmp_path / "a.tif", tmp_path, volume(), None)


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
@pytest.mark.parametrize("truncate", [False, True])
def test_tiff_of_imagej(tmp_path: Path, unit: str, truncate: bool) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        volume("uint16"),
        imagej=True,
        truncate=truncate,
        resolution=(1 / 0.008, 1 / 0.0046),
        metadata={"spacing": 0.05, "unit": unit, "axes": "ZYX"},
    )
    check(tmp_path / "a.tif", tmp_path, volume("uint16"))


def test_tiff_of_imagej_without_axes_is_a_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(), imagej=True)
    check(tmp_path / "a.tif", tmp_path, volume(), None)


def test_tiff_with_ome_metadata(tmp_path: Path) -> None:
    size = {"PhysicalSizeZ": 0.05, "PhysicalSizeY": 4.6, "PhysicalSizeYUnit": "nm"}
    size |= {"PhysicalSizeX": 0.008, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", volume(), metadata={"axes": "ZYX", **size})
    check(tmp_path / "a.ome.tif", tmp_path, volume())


def test_images_of_one_section(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume()[0])
    check(tmp_path / "a.tif", tmp_path / "tiff", volume()[:1], None)
    Image.fromarray(volume()[0]).save(tmp_path / "a.png")
    check(tmp_path / "a.png", tmp_path / "png", volume()[:1], None)


def test_colours_come_first(tmp_path: Path) -> None:
    data = volume(shape=(5, *SHAPE[1:], 3))
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb")
    check(tmp_path / "a.tif", tmp_path / "tiff", np.moveaxis(data, -1, 0), None)
    (tmp_path / "slices").mkdir()
    for i, image in enumerate(data):
        Image.fromarray(image).save(tmp_path / f"slices/{i}.png")
    check(tmp_path / "slices", tmp_path / "png", np.moveaxis(data, -1, 0), None)


@pytest.mark.parametrize("suffix", ["tif", "png", "TIFF"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool"])
def test_slices_in_natural_order(tmp_path: Path, suffix: str, dtype: str) -> None:
    (tmp_path / "slices").mkdir()
    (tmp_path / "slices/readme.txt").write_text("of the microscope")
    for i, image in enumerate(volume(dtype)):
        file = tmp_path / f"slices/s{i}.{suffix}"
        if suffix == "png":
            Image.fromarray(image).save(file)
        else:
            tifffile.imwrite(file, image)
    expected = volume(dtype).astype("uint8" if dtype == "bool" else dtype)
    check(tmp_path / "slices", tmp_path, expected, None)


def test_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file["volumes/raw"] = volume()
        file["volumes/raw"].attrs["resolution"] = SIZE
        file["channels"] = volume("float32", (2, *SHAPE))
        file["channels"].attrs["element_size_um"] = [s / 1000 for s in SIZE]
    check(f"{tmp_path}/a.hdf:volumes/raw", tmp_path / "1", volume())
    check(f"{tmp_path}/a.hdf:/channels", tmp_path / "2", volume("float32", (2, *SHAPE)))


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize(("unit", "factor"), [("micron", 1e-3), ("mm", 1e-6), ("unknown", 1)])
def test_nifti(tmp_path: Path, suffix: str, unit: str, factor: float) -> None:
    image = nibabel.Nifti1Image(volume("int16").T, np.diag([*(s * factor for s in SIZE[::-1]), 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / f"a.{suffix}")
    size = None if unit == "unknown" else SIZE
    check(tmp_path / f"a.{suffix}", tmp_path, volume("int16"), size)


def test_nifti_of_scaled_values(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(volume("int16").T, np.diag([*SIZE[::-1], 1]))
    image.header.set_slope_inter(0.5, 1)
    nibabel.save(image, tmp_path / "a.nii")
    stored = open_source(str(tmp_path / "a.nii"))
    assert stored.read(Box.of_shape(SHAPE)).dtype == stored.dtype == np.float64


@pytest.mark.parametrize("channels", [(), (2,)])
@pytest.mark.parametrize(
    "attributes",
    [
        {"resolution": SIZE[::-1]},
        {"pixelResolution": {"dimensions": [s / 1000 for s in SIZE[::-1]], "unit": "um"}},
    ],
)
def test_n5(tmp_path: Path, channels: tuple[int, ...], attributes: dict[str, Any]) -> None:
    data = volume(shape=(*channels, *SHAPE))
    metadata = {
        "dimensions": data.T.shape,
        "blockSize": [5] * data.ndim,
        "dataType": "uint8",
        "compression": {"type": "gzip"},
    }
    place = {"driver": "file", "path": f"{tmp_path}/a.n5/volumes/raw/"}
    spec = {"driver": "n5", "kvstore": place, "metadata": metadata}
    ts.open(spec, create=True).result().write(data.T).result()
    (tmp_path / "a.n5/volumes/raw/attributes.json").write_text(
        json.dumps({**metadata, **attributes, "axes": "any form"})
    )
    check(tmp_path / "a.n5/volumes/raw", tmp_path, data)


@pytest.mark.parametrize("version", [2, 3])
def test_bare_zarr(tmp_path: Path, version: Any) -> None:
    for name, data in (("raw", volume()), ("channels", volume("float32", (3, *SHAPE)))):
        array = zarr.create_array(
            tmp_path / f"a.zarr/{name}", data=data, chunks=(5,) * data.ndim, zarr_format=version
        )
        check(tmp_path / f"a.zarr/{name}", tmp_path / name / "1", data, None)
        array.attrs.update({"voxel_size": SIZE, "units": ["nm", "nm", "nm"]})
        check(tmp_path / f"a.zarr/{name}", tmp_path / name / "2", data)


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_of_others(tmp_path: Path, version: Any) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    group.create_array("s0", data=volume("uint16")[None, None], chunks=(1, 1, 5, 5, 5))
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    scale = {"type": "scale", "scale": [1, 1, *(s / 1000 for s in SIZE)]}
    scales = [{"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": [scale]}]}]
    group.attrs.update(
        {"multiscales": scales} if version == 2 else {"ome": {"multiscales": scales}}
    )
    check(tmp_path / "a.zarr", tmp_path, volume("uint16"))


def test_own_ome_zarr_again(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=volume())
    imported(tmp_path / "a.zarr", tmp_path, voxel_size=SIZE)
    check(tmp_path / "out.zarr", tmp_path / "2", volume())


def test_arrays_of_others_are_opened_as_they_are(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("s0", data=volume(), chunks=CHUNK)
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    level = [{"type": "scale", "scale": [0.025, 0.0046, 0.008]}]
    both = [{"type": "scale", "scale": [2, 1, 1]}]
    both += [{"type": "translation", "translation": [0.1, 0, 0]}]
    datasets = [{"path": "s0", "coordinateTransformations": level}]
    group.attrs["multiscales"] = [
        {"axes": axes, "datasets": datasets, "coordinateTransformations": both}
    ]
    array = open_array(f"{tmp_path}/a.zarr")
    assert array.voxel_size == pytest.approx(SIZE)
    assert array.box == Box.of_shape(SHAPE, (2, 0, 0))
    np.testing.assert_array_equal(array.read(), volume())
    for uri in ("a.zarr/s0", "none.zarr"):
        with pytest.raises(SegError, match="seg import"):
            open_array(f"{tmp_path}/{uri}")


def test_a_voxel_size_of_zero_is_opened_for_the_volume_to_refuse(tmp_path: Path) -> None:
    array = ZarrArray(f"{tmp_path}/a.zarr", Box.of_shape(SHAPE), None, "uint8", (0, 1, 1), CHUNK)
    create(array)
    assert open_array(array.uri).voxel_size == (0, 1, 1)
