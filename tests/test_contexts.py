"""The comparison of contexts, from a few measurements with figures worked out by hand."""

import json
from dataclasses import asdict

import pytest
from contexts.figures import Figures, Missing, dominant
from contexts.measurements import About, Context, DagsterRun, Moved, Step
from contexts.page import LOCAL, PODS, page
from contexts.petabyte import carried
from contexts.table import number

# 1,000,000 voxels in 8 blocks
ABOUT = About((100, 100, 100), 50, 25, 2, 4, "2 cores", 0.1, {"raw": 500_000, "labels": 250_000})
IDLE = {"idle": 3.0, "idle_cpu": 2.0, "memory": 10**9, "network": 1_000_000}
FOLDER = Context(
    pod=False,
    steps={
        1: {
            "predict": Step(23, 18, in_blocks=17, others=1, **IDLE),
            "segment": Step(8, 6, in_blocks=2, others=0.5, **IDLE),
        },
        2: {
            "predict": Step(15.5, 20, in_blocks=24, others=1, **IDLE),
            "segment": Step(7, 6, in_blocks=2, others=0.5, **IDLE),
        },
    },
    moved={"predict": Moved(0, 0, 0, 0, 6_000_000, 1_000_000), "segment": Moved(0, 0, 0, 0, 0, 0)},
)
BUCKET = Context(
    pod=True,
    steps=FOLDER.steps,
    moved={"predict": Moved(16, 32, 64, 48, 6, 1), "segment": Moved(0, 0, 0, 0, 0, 0)},
    dagster=[DagsterRun(1, 14, 2, 6.5), DagsterRun(7, 28, 14, None)],
)


def test_seconds_work_and_money_are_those_beyond_the_start() -> None:
    figures = Figures(FOLDER, ABOUT)
    assert (figures.voxels, figures.blocks) == (1_000_000, 8)
    assert figures.seconds("predict") == 20
    assert figures.seconds("predict", 2) == 12.5
    assert figures.work("predict") == 16
    assert figures.outside("predict") == 3
    assert figures.faster("predict", 2) == pytest.approx(2 * 17 / 24)
    assert figures.others() == pytest.approx(3 / 53.5)
    # a core and 4 GB: 0.0317 + 4 * 0.0042 = 0.0485 dollars an hour
    assert figures.rent(7200) == pytest.approx(0.097)
    # 80 that write, 80 that read
    requests = Figures(BUCKET, ABOUT).requests("predict")
    assert requests == pytest.approx((80 * 0.005 + 80 * 0.0004) / 1000)


def test_what_dominates_is_the_largest_part() -> None:
    figures = Figures(FOLDER, ABOUT)
    assert figures.time() == {
        "predict, computing in blocks": 16,
        "predict, waiting in blocks": 1,
        "predict, outside of blocks": 3,
        "predict, start": 3,
        "segment, computing in blocks": 2,
        "segment, waiting in blocks": 0,
        "segment, outside of blocks": 3,
        "segment, start": 3,
    }
    assert dominant(figures.time()) == "predict, computing in blocks: 52%"  # 16 of 31
    assert dominant(figures.money()) == "predict, core and memory: 80%"  # 20 of 25 seconds
    # 80 writes cost as much as half a minute of a core
    assert dominant(Figures(BUCKET, ABOUT).money()) == "predict, requests: 56%"


def test_pods_cost_a_block_what_is_beyond_its_making() -> None:
    figures = Figures(BUCKET, ABOUT)
    assert figures.pods_seconds("one") == 12
    assert figures.pods_seconds("many") == 2
    assert figures.pods_cpu("one") == 6.5 - 16 / 8
    assert dominant(figures.of_a_pod()) == "pods and Dagster: 86%"  # 12 of 14
    with pytest.raises(Missing):
        figures.pods_cpu("many")
    with pytest.raises(Missing):
        Figures(FOLDER, ABOUT).pods_seconds("one")


def test_nothing_of_the_clock_is_said_where_others_worked_meanwhile() -> None:
    busy = Context.of_json(json.loads(json.dumps(asdict(BUCKET))))
    assert busy == BUCKET
    for some in busy.steps.values():
        for step in some.values():
            step.others = step.seconds
    text = page({LOCAL: FOLDER, PODS: busy}, ABOUT)
    rows = dict(line[2:].split(" | ", 1) for line in text.splitlines() if line.startswith("| "))
    assert rows["seconds a gigavoxel, 1 worker"] == "5,000 | - |"  # the last: of segment
    assert rows["CPU seconds a gigavoxel"] == "4,000 | 4,000 |"
    assert rows["seconds of 1 worker, with its start"] == "predict, computing in blocks: 52% | - |"
    assert rows["bytes on the pod's network, a voxel"] == "- | 1 |"
    assert "**Others used the machine meanwhile (pods, shared claim)" in text
    assert "Pods were not measured" not in text
    assert "Pods were not measured" in page({LOCAL: FOLDER}, ABOUT)


def test_a_petabyte_is_as_many_times_as_large() -> None:
    found = carried(Figures(BUCKET, ABOUT), 50, 100)
    assert found["blocks"] == 1e9
    assert found["hours of cores, computing"] == pytest.approx((16 + 4) * 1e9 / 3600)
    # 48 requests of 8 blocks, 0.03 s each
    assert found["hours of cores, waiting for a block's own requests"] == pytest.approx(
        6 * 0.03 * 1e9 / 3600
    )
    assert found["requests for chunks"] == pytest.approx(112 * 1e9 / 8)
    assert found["terabytes stored, raw data and all results"] == pytest.approx(750)
    assert found["dollars, storage for a month"] == pytest.approx(15_000)
    assert found["hours of pods, were each block of each step a dagster run"] == pytest.approx(
        12 * 3 * 1e9 / 3600
    )


def test_numbers_have_three_digits() -> None:
    written = [number(value) for value in (0.012345, 1.0, 99.96, 123456.0)]
    assert written == ["0.0123", "1", "100", "123,000"]
