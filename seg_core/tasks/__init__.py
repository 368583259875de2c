"""What is learnt: one file per task."""

from typing import Annotated

from seg_core.plugin import by_kind
from seg_core.tasks.task import Task

TASKS = {
    "affinities": "seg_core.tasks.affinities:Affinities",
    "one_hot": "seg_core.tasks.one_hot:OneHot",
}

AnyTask = Annotated[Task, *by_kind(TASKS, Task)]
