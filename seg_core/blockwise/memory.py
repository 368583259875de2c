"""The most memory that this process took since a moment: a measurement."""

import resource
from pathlib import Path

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def reset_peak() -> None:
    """Count from now on; where that is not permitted, the peak is that since the process began."""
    try:
        _RESET.write_text("5")
    except OSError:
        return


def peak_megabytes() -> float:
    """MB of memory (resident set) at its highest."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
