"""Data: import, phantom, volumes, scores of files."""

from pathlib import Path
from typing import Any

import click

from seg_core.cli.options import JSON, STORE, numbers, show
from seg_core.errors import SegError
from seg_core.store import Store


@click.command("import")
@click.argument("source")
@click.argument("dest")
@click.option(
    "--voxel-size",
    metavar="Z,Y,X",
    callback=numbers(float, "nanometres"),
    help="Nanometres; needed where the file does not say.",
)
@click.option("--labels", is_flag=True, help="The voxels are object ids.")
@click.option("--roi", metavar="SLICES", help="A part only, in voxels: '0:160, :, :'.")
@click.option(
    "--chunk",
    metavar="Z,Y,X",
    default="64,64,64",
    show_default=True,
    callback=numbers(int, "voxels"),
    help="Voxels of a chunk.",
)
@JSON
def import_(
    source: str,
    dest: str,
    voxel_size: Any,
    labels: bool,
    roi: str | None,
    chunk: Any,
    as_json: bool,
) -> None:
    """Bring SOURCE in as the OME-Zarr DEST.

    SOURCE is a TIFF, a folder of TIFF or PNG slices, HDF5 (file.h5:dataset), NIfTI, N5, or Zarr.
    """
    from seg_core.volumes.importing import import_array

    array = import_array(source, dest, voxel_size=voxel_size, labels=labels, roi=roi, chunk=chunk)
    result = {
        "uri": array.uri,
        "shape": list(array.box.shape),
        "dtype": array.dtype,
        "voxel_size": list(array.voxel_size),
    }
    show(
        result,
        as_json,
        lambda: [f"{array.uri}: {array.box.shape} {array.dtype}, {array.voxel_size} nm"],
    )


@click.command()
@click.argument("dest")
@click.option(
    "--shape",
    metavar="Z,Y,X",
    default="96,128,128",
    show_default=True,
    callback=numbers(int, "voxels"),
)
@click.option("--seed", default=0, show_default=True)
@JSON
def phantom(dest: str, shape: Any, seed: int, as_json: bool) -> None:
    """Make an EM-like volume with its ground truth: DEST/raw.zarr and DEST/labels.zarr."""
    from seg_core.phantom import write_phantom

    if min(shape) < 1:
        raise SegError(f"--shape {shape}: every side needs at least one voxel")
    raw, labels = write_phantom(dest, shape, seed)
    show({"raw": raw.uri, "labels": labels.uri}, as_json, lambda: [raw.uri, labels.uri])


@click.group()
def volume() -> None:
    """Declare and list volumes."""


@volume.command("add")
@click.argument("file", type=click.Path())
@STORE
def volume_add(file: str, store: str | None) -> None:
    """Declare the volume of a YAML file; its name is the file's."""
    from seg_core.schema import read_file
    from seg_core.volumes.declared import add_volume

    added = add_volume(Store(store), Path(file).stem, read_file(file), file)
    click.echo(f"volume {added.name}: {added.roi.shape} voxels in {len(added.grid)} blocks")


@volume.command("list")
@STORE
@JSON
def volume_list(store: str | None, as_json: bool) -> None:
    """Every declared volume."""
    from seg_core.volumes.declared import volume_names

    names = volume_names(Store(store))
    show(names, as_json, lambda: names)


@volume.command("show")
@click.argument("name")
@STORE
@JSON
def volumeshow(name: str, store: str | None, as_json: bool) -> None:
    """What a volume is: arrays, voxel size, ROI, blocks."""
    from seg_core.volumes.declared import load_volume

    found = load_volume(Store(store), name)
    result = {
        "name": name,
        "raw": found.raw.uri,
        "labels": found.labels.uri if found.labels else None,
        "mask": found.config.mask,
        "rois": found.config.rois,
        "dtype": found.raw.dtype,
        "voxel_size": list(found.voxel_size),
        "roi": str(found.roi),
        "block": list(found.config.block),
        "blocks": len(found.grid),
        "blocks outside the mask": len(found.outside()),
    }
    show(result, as_json, lambda: [f"{k}: {v}" for k, v in result.items()])


@click.command(short_help="Score a segmentation against labels.")
@click.argument("segmentation")
@click.argument("labels")
@click.option("--roi", metavar="SLICES", help="A part only, in voxels of both.")
@click.option("--classes", metavar="NAME,...", help="Score classes 1, 2, ... and not objects.")
@JSON
def evaluate(
    segmentation: str, labels: str, roi: str | None, classes: str | None, as_json: bool
) -> None:
    """Score SEGMENTATION against LABELS (OME-Zarr, or whatever `seg import` reads)."""
    from seg_core.evaluate.files import evaluate_files

    scores = evaluate_files(segmentation, labels, roi, classes.split(",") if classes else None)
    show(scores, as_json, lambda: [f"{name:32} {score:.6f}" for name, score in scores.items()])
