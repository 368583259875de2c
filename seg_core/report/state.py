"""Whether the report of a run on a volume is still of what lies there."""

from dataclasses import asdict

from seg_core.blockwise.output import Output
from seg_core.blockwise.records import BlockState, Record
from seg_core.datasplit import contents_of
from seg_core.errors import SegError
from seg_core.fingerprint import fingerprint
from seg_core.lut import read_table
from seg_core.report.labelled import fitting_parts
from seg_core.run import Run
from seg_core.validation.best import read_best
from seg_core.volumes.contents import indexed

VERSION = 1

States = dict[str, BlockState]


def report_state(run: Run, output: Output, blocks: States, warnings: list[str]) -> BlockState:
    """Whether the report is missing, stale or done, and why.

    Args:
        run: a validated run.
        output: where the report lies.
        blocks: states of the segmentation's blocks.
        warnings: what a report made now would say of steps that are not up to date.
    """
    found = output.store.read_json(output.path("report.json"))
    if found is None:
        return BlockState("missing", "", Record("missing"))
    record = Record("done")
    if any(state.state not in ("done", "skipped") for state in blocks.values()):
        return BlockState("stale", "segmentation of some blocks is not up to date", record)
    try:
        now = report_made_from(run, output, blocks, warnings)
    except SegError as error:  # whoever makes the report comes upon it, and says how to mend it
        return BlockState("stale", str(error), record)
    if found.get("made_from") != now:
        return BlockState("stale", "changed since: segmentation, labels, best or warnings", record)
    return BlockState("done", "", record)


def report_made_from(run: Run, output: Output, blocks: States, warnings: list[str]) -> str:
    """A fingerprint of all that a report shows but measurements; arguments as `report_state`.

    Labels are read only where they were touched since.

    Raises:
        SegError: a source of validation cannot be opened, or its labels cannot be read.
    """
    table, index = read_table(output), contents_of(run)
    sources, _ = fitting_parts(run, output.volume)
    labels = [[source.name, indexed(index, source.labels, source.roi)] for source in sources]
    index.save()
    return fingerprint(
        table.made_from if table else "",
        {key: state.record.content for key, state in blocks.items()},
        labels,
        output.volume.voxel_size,
        asdict(read_best(run)),
        warnings,
        VERSION,
    )
