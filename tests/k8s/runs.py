"""The runs of these tests, by name."""

from tiny_run import RUN

SMALL = RUN.replace("threads: 1", "threads: 1, memory: 1")
# with a class of a user's own
OWN = SMALL.replace("warm_up: 2", "warm_up: 2, augment: [{kind: 'own:Still'}]")
# some seconds of training and of prediction: time to be killed in
LONG = (
    SMALL.replace("[4, 6, 8]", "[96, 96, 96]")
    .replace("iterations: 12", "iterations: 60")
    .replace("60:120", "96:120")
)
# the same bytes, by two processes in each pod
PAIR = LONG.replace("threads: 1", "threads: 1, workers: 2")
RUNS = {
    "tiny": OWN,
    "other": SMALL,
    "third": SMALL,
    "long": LONG,
    "pair": PAIR,
    "endless": SMALL.replace("iterations: 12", "iterations: 1000000"),
    "cuda": SMALL.replace("device: cpu", "device: cuda"),
    "vast": SMALL.replace("memory: 1", "memory: 100"),
}
