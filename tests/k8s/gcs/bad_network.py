"""What stands before the object store in the cluster: bursts of 503, cuts, and silence."""

import threading
from time import monotonic

from faulty_proxy import Fault, FaultyProxy, Request

BURST, BURSTS_APART = 3, 40  # seconds
SINGLE: dict[int, Fault] = {50: "reset", 75: "cut", 100: "lost"}
SINGLE_EVERY = 200  # requests
SILENT_AFTER = 500  # requests, once; a client waits 20 s


class BadNetwork:
    """Faults by the clock and by the number of the request; those of the kubelet pass."""

    def __init__(self) -> None:
        self.was_silent = False

    def rule(self, request: Request) -> Fault:
        """What happens to a request: printed, unless it passes."""
        fault = self._fault(request)
        if fault != "pass":
            print(fault, request.method, request.path, flush=True)
        return fault

    def _fault(self, request: Request) -> Fault:
        if request.path == "/storage/v1/b":
            return "pass"
        if request.number > SILENT_AFTER and not self.was_silent:
            self.was_silent = True
            return "silent"
        if monotonic() % BURSTS_APART < BURST:
            return "503"
        return SINGLE.get(request.number % SINGLE_EVERY, "pass")


if __name__ == "__main__":
    with FaultyProxy("http://127.0.0.1:4443", host="0.0.0.0", port=8080) as proxy:
        proxy.rule = BadNetwork().rule
        threading.Event().wait()
