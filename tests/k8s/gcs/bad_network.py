"""What stands before the object store in the cluster: bursts of 503, cuts, and silence."""

import threading
from time import monotonic

from faulty_proxy import Fault, FaultyProxy, Request

BURST, BURSTS_APART = 3, 40  # seconds
SINGLE: dict[int, Fault] = {50: "reset", 75: "cut", 100: "lost"}
SINGLE_EVERY = 200  # requests
SILENT = 500  # the number of a request; a client waits 20 s


def rule(request: Request) -> Fault:
    """By the clock and by the number of the request; the kubelet's own, if it is ready, passes."""
    fault: Fault = SINGLE.get(request.number % SINGLE_EVERY, "pass")
    if request.path == "/storage/v1/b":
        fault = "pass"
    elif monotonic() % BURSTS_APART < BURST:
        fault = "503"
    elif request.number == SILENT:
        fault = "silent"
    if fault != "pass":
        print(fault, request.method, request.path, flush=True)
    return fault


if __name__ == "__main__":
    with FaultyProxy("http://127.0.0.1:4443", host="0.0.0.0", port=8080) as proxy:
        proxy.rule = rule
        threading.Event().wait()
