"""From a prediction to fragments: one file per method."""

from typing import Annotated

from seg_core.plugin import by_kind
from seg_core.postprocess.postprocess import Postprocess

POSTPROCESS = {
    "argmax": "seg_core.postprocess.argmax:Argmax",
    "mutex_watershed": "seg_core.postprocess.mutex:MutexWatershed",
    "watershed": "seg_core.postprocess.watershed:Watershed",
}

AnyPostprocess = Annotated[Postprocess, *by_kind(POSTPROCESS, Postprocess)]
