"""What a person looks at: a page for a run on a volume, and small pictures for the web UI.

Loading this package imports no torch: pictures and charts are drawn where there is none.
"""

from typing import Any

from seg_core.run import Run
from seg_core.volumes.declared import Volume


def make_report(run: Run, volume: Volume) -> dict[str, Any]:
    """Write `report.json` and `report.html` of a run on a volume.

    Returns:
        What `report.json` says.

    Raises:
        NotReady: segmentation blocks are not up to date; they are named.
    """
    from seg_core.report.making import make  # late: it asks every step, and with them torch

    return make(run, volume)
