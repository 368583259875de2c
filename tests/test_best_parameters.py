"""The best checkpoint and parameters, chosen from tables of scores by hand."""

import math

import pandas as pd
import pytest

from seg_core.errors import SegError
from seg_core.validation.best import choose


def table(*rows: tuple[int, str, str, str, float]) -> pd.DataFrame:
    names = ["iteration", "dataset", "parameters", "criterion", "score"]
    return pd.DataFrame(rows, columns=names)


LOW, HIGH = '{"threshold": 0.2}', '{"threshold": 0.6}'


def test_the_lowest_error_and_the_highest_share_win() -> None:
    rows = [
        (500, "a", LOW, "voi_sum", 2.0),
        (500, "a", HIGH, "voi_sum", 1.5),
        (1000, "a", LOW, "voi_sum", 1.0),
        (1000, "a", HIGH, "voi_sum", 3.0),
        (500, "a", LOW, "f1_50", 0.2),
        (500, "a", HIGH, "f1_50", 0.9),
        (1000, "a", LOW, "f1_50", 0.5),
        (1000, "a", HIGH, "f1_50", 0.1),
    ]
    best = choose(table(*rows), "voi_sum")
    assert (best.iteration, best.parameters) == (1000, {"threshold": 0.2})
    assert (best.criterion, best.score) == ("voi_sum", 1.0)
    assert best.scores == {"voi_sum": 1.0, "f1_50": 0.5}
    best = choose(table(*rows), "f1_50")
    assert (best.iteration, best.parameters, best.score) == (500, {"threshold": 0.6}, 0.9)
    assert best.scores["voi_sum"] == 1.5


def test_the_mean_over_datasets_counts() -> None:
    rows = [
        (1, "a", LOW, "voi_sum", 0.0),
        (1, "b", LOW, "voi_sum", 3.0),  # mean 1.5, and the best of all on a
        (1, "a", HIGH, "voi_sum", 1.0),
        (1, "b", HIGH, "voi_sum", 1.5),
    ]
    best = choose(table(*rows), "voi_sum")
    assert (best.parameters, best.score) == ({"threshold": 0.6}, 1.25)


@pytest.mark.parametrize("nothing", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("criterion", ["mean/hausdorff", "mean/dice"])
def test_what_is_no_number_never_wins(criterion: str, nothing: float) -> None:
    rows = [
        (1, "a", LOW, criterion, nothing),
        (1, "a", HIGH, criterion, 0.4),
        (2, "a", LOW, criterion, nothing),
        (2, "a", HIGH, criterion, nothing),
    ]
    best = choose(table(*rows), criterion)
    assert (best.iteration, best.parameters, best.score) == (1, {"threshold": 0.6}, 0.4)
    with pytest.raises(SegError, match=f"no checkpoint has a finite {criterion}"):
        choose(table(rows[0], *rows[2:]), criterion)


def test_what_has_no_score_on_one_dataset_does_not_win_by_the_others() -> None:
    rows = [
        (1, "a", LOW, "mean/dice", 1.0),
        (1, "b", LOW, "mean/dice", math.nan),
        (1, "a", HIGH, "mean/dice", 0.3),
        (1, "b", HIGH, "mean/dice", 0.2),
    ]
    best = choose(table(*rows), "mean/dice")
    assert (best.parameters, best.score) == ({"threshold": 0.6}, 0.25)


def test_other_scores_may_be_none() -> None:
    rows = [(1, "a", "{}", "mean/dice", 0.5), (1, "a", "{}", "mean/hausdorff", math.nan)]
    best = choose(table(*rows), "mean/dice")
    assert best.parameters == {}
    assert math.isnan(best.scores["mean/hausdorff"])


def test_of_equal_ones_the_earliest_is_chosen() -> None:
    rows = [(i, "a", p, "voi_sum", 1.0) for i in (1000, 200) for p in (HIGH, LOW)]
    best = choose(table(*rows), "voi_sum")
    assert (best.iteration, best.parameters) == (200, {"threshold": 0.2})


def test_a_criterion_of_another_task_is_named() -> None:
    rows = table((1, "a", LOW, "voi_sum", 1.0), (1, "a", LOW, "f1_50", 1.0))
    with pytest.raises(SegError, match="no score 'mean/dice'; it has f1_50, voi_sum"):
        choose(rows, "mean/dice")
