"""Parts of a volume that have labels: what a segmentation is compared with."""

from seg_core.run import Run
from seg_core.source import Source, open_source
from seg_core.volumes.declared import Volume

BYTES_PER_VOXEL = 40  # segmentation, labels, ids, and what a score makes of them


def labelled_parts(run: Run, volume: Volume) -> tuple[list[Source], str]:
    """The validation sources on this volume, and if there is nothing to compare with, why.

    Where there are no such sources, all of the volume's labels, if they fit into the run's memory.
    """
    parts, why = fitting_parts(run, volume)
    if parts and not validation_sources(run, volume):
        ids, known = run.frozen.task.prepare(parts[0].labels.read(volume.roi))
        if not (ids[known] > 0).any():
            return [], "The labels of this volume hold nothing that the task knows."
    return parts, why


def fitting_parts(run: Run, volume: Volume) -> tuple[list[Source], str]:
    """As `labelled_parts`, whatever the labels hold: no voxel is read."""
    if parts := validation_sources(run, volume):
        return parts, ""
    if volume.labels is None:
        return [], "This volume has no labels to compare the segmentation with."
    need, memory = volume.roi.voxels * BYTES_PER_VOXEL / 1e9, run.frozen.compute.memory
    if need > memory:
        return [], (
            f"All labels of this volume at once take about {need:.1f} GB, compute.memory is "
            f"{memory:g} GB; seg evaluate scores a part of them."
        )
    return [Source(volume, volume.labels, volume.roi, 1)], ""


def validation_sources(run: Run, volume: Volume) -> list[Source]:
    """Those of the volume's raw data, each once."""
    sources = [open_source(run, c) for c in run.config.datasplit.validate_]
    here = {
        s.name: s
        for s in sources
        if s.volume.raw.uri == volume.raw.uri and volume.roi.contains(s.roi)
    }
    return list(here.values())


def seen_in_training(run: Run, source: Source) -> bool:
    """Whether a part shares voxels with what the run was trained on."""
    trained = [open_source(run, c) for c in run.config.datasplit.train]
    same = [t for t in trained if t.volume.raw.uri == source.volume.raw.uri]
    return any(t.roi.clip(source.roi).voxels for t in same)
