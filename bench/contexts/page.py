"""The page: one table of all contexts, and the same carried to a petabyte on paper."""

from collections.abc import Iterator

from contexts.figures import BUSY, Figures
from contexts.measurements import About, Context
from contexts.petabyte import petabyte
from contexts.rows import GIGA, rows
from contexts.table import number, table

LOCAL, LOCAL_STORE = "local folder", "local process, object store"
PODS, PODS_STORE = "pods, shared claim", "pods, object store"
NO_PODS = (
    "**Pods were not measured here:** there was no cluster (`KUBECONFIG`, or `SEG_K8S_CLUSTER`, a "
    "command that brings one up), or `--no-pods` was given."
)


def page(contexts: dict[str, Context], about: About) -> str:
    """Markdown."""
    columns = {name: Figures(context, about) for name, context in contexts.items()}
    workers = sorted(next(iter(contexts.values())).steps)
    return "\n".join(
        [
            "# Contexts compared",
            "",
            "Made by `make contexts`; to write on it, change `bench/contexts/`.",
            "",
            *_told(columns, about),
            "",
            *_warned(columns),
            *table(columns, rows(about, workers)),
            "",
            "## A petabyte on paper",
            "",
            *petabyte(columns),
            "",
        ]
    )


def _told(columns: dict[str, Figures], about: About) -> Iterator[str]:
    figures, size = next(iter(columns.values())), " x ".join(map(str, about.shape))
    same = [found.work("predict") / found.voxels * GIGA for found in columns.values()]
    yield (
        f"{size} voxels in {figures.blocks} blocks of {about.block}^3 and chunks of "
        f"{about.chunk}^3, default network and task, on {about.machine}; load in the minute "
        f"before: {about.load:.1f}. All contexts share this machine, also those of pods (a "
        "cluster of one node, whose claims are folders of it), one after the other. Workers are "
        "processes of one command, in a pod processes of that pod. To compute a prediction is the "
        f"same work everywhere; it took {number(min(same))} to {number(max(same))} CPU seconds a "
        "gigavoxel: so much of a difference is the machine's."
    )
    yield ""
    yield (
        "The object store is a fake-gcs-server in memory: its figures hold no time on a network, "
        "while its own CPU takes a share of the same cores. Blocks are small here, so what a "
        "block costs shows, and halos are large. What a command takes that has nothing to do "
        "(its start) is not in the other rows; what further workers take to start is in the rows "
        "that say so, and weighs nothing where there is more to do. Bytes are those of files, or "
        "of bodies of requests; "
        f"a core and the {about.memory:g} GB that a step's pod asks for cost the same everywhere."
    )


def _warned(columns: dict[str, Figures]) -> Iterator[str]:
    busy = [name for name, figures in columns.items() if figures.others() > BUSY]
    if busy:
        yield (
            f"**Others used the machine meanwhile ({', '.join(busy)}), so what the clock says is "
            "left out there: make the page again on a machine of your own.**"
        )
        yield ""
    if PODS not in columns:
        yield NO_PODS
        yield ""
