"""Parameters of the agglomeration on one volume: the best, unless a person set others there."""

import math

import pydantic

from seg_core.errors import SegError
from seg_core.postprocess.postprocess import Joined, Parameters
from seg_core.run import Run
from seg_core.validation.best import read_best
from seg_core.volumes.declared import Volume


def own_parameters(run: Run, volume: Volume) -> Parameters:
    """Those that a person set for this volume otherwise than the best; empty where none are."""
    return dict(run.store.read_json(_path(run, volume)) or {})


def chosen_parameters(run: Run, volume: Volume) -> Parameters:
    """Those that the look-up table of this volume is made with.

    Raises:
        NotReady: the run was not validated.
    """
    return read_best(run).parameters | own_parameters(run, volume)


def set_parameters(run: Run, volume: Volume, settings: Parameters | None) -> None:
    """Set parameters for this volume from now on, beside those set before; None forgets all.

    Nothing is trained or predicted again: the table is, and the segmentation where it changes.

    Raises:
        NotReady: the run was not validated.
        SegError: the task has no such parameter, or it is out of its range; nothing was written.
    """
    given = _checked(run, settings or {})
    before, best = own_parameters(run, volume), read_best(run).parameters
    wanted = {} if settings is None else {**before, **given}
    own = {name: value for name, value in sorted(wanted.items()) if best.get(name) != value}
    if not own:
        run.store.remove(_path(run, volume))
    elif own != before:
        run.store.write_json(_path(run, volume), own)


def _path(run: Run, volume: Volume) -> str:
    return f"{run.folder}/{volume.name}/parameters.json"


def _checked(run: Run, settings: Parameters) -> Parameters:
    if not settings:
        return {}
    postprocess = run.frozen.task.postprocess
    if not isinstance(postprocess, Joined):
        raise SegError(
            f"run {run.name} has no parameter to set, as its {postprocess.kind} joins no fragments"
        )
    model = type(postprocess.agglomeration)
    for name, value in settings.items():
        if name not in model.model_fields:
            known = ", ".join(model.model_fields)
            raise SegError(f"run {run.name} has no parameter {name!r}; it has {known}")
        try:
            # of a number JSON can hold: a list would be a sweep, and nothing is above infinity
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError
            model.model_validate({name: float(value)})
        except ValueError as error:
            expected = "a number is expected"
            if isinstance(error, pydantic.ValidationError):
                expected = error.errors()[0]["msg"].lower().replace("input", "it")
            raise SegError(f"parameter {name}={value} of run {run.name}: {expected}") from None
    return {name: float(value) for name, value in settings.items()}
