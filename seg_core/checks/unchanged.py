"""Whether what a run learnt from is still what it was."""

from seg_core.fingerprint import fingerprint
from seg_core.run import Run
from seg_core.run_states import run_states
from seg_core.verdicts import Verdict, write_verdicts

CHECK = "unchanged"


def check_unchanged(run: Run) -> Verdict:
    """The verdict on a run's datasplit, checkpoint and scores; it is kept in the store.

    A warning: what was made stays what it is, and the run is never trained again in place.
    """
    states = run_states(run)
    behind = [
        f"{step} is {s.state}: {s.reason}" for step, s in states.items() if s.state == "stale"
    ]
    verdict = Verdict(
        CHECK,
        not behind,
        "warning",
        "; ".join(behind) or "raw data, labels and settings are what the run was made from",
        {step: state.state for step, state in states.items()},
        fingerprint({step: [s.state, s.reason] for step, s in states.items()}),
    )
    write_verdicts(run.store, run.folder, [verdict])
    return verdict
