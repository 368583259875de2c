"""Where torch computes: what a run asked for, against what is there."""

import os
import shutil
from typing import TYPE_CHECKING

from seg_core.errors import SegError
from seg_core.run import ComputeConfig

if TYPE_CHECKING:
    import torch


def check_device(compute: ComputeConfig) -> None:
    """Refuse a GPU where there is none.

    Raises:
        SegError: the run asks for one.
    """
    import torch

    if compute.device == "cuda" and not torch.cuda.is_available():
        built = "this torch is built for CPUs" if torch.version.cuda is None else "torch sees none"
        raise SegError(
            f"compute.device is cuda, but there is no GPU here ({built}); run it where there is "
            "one, or set compute.device to auto or cpu"
        )


def open_device(compute: ComputeConfig) -> "torch.device":
    """Check and prepare the device: threads, deterministic algorithms."""
    import torch

    check_device(compute)
    if compute.threads:
        torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    gpu = compute.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def crop_processes(device: "torch.device", batch: int) -> int:
    """Processes that cut crops for a device; 0 is a thread, which is enough for a CPU.

    Args:
        device: what they are cut for.
        batch: bytes of one batch. Each process has up to three in /dev/shm, which is 64 MB in a
            container that was given no more.
    """
    if device.type != "cuda":
        return 0
    cores = len(os.sched_getaffinity(0))
    return min(4, max(1, cores - 1), shutil.disk_usage("/dev/shm").free // (3 * batch))
