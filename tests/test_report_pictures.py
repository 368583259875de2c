"""Pictures and charts: known colours by hand, and the small ones that the web UI keeps."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_project import copy_of
from tiny_run import opened as tiny

from seg_core.geometry import Box
from seg_core.report import charts, colours
from seg_core.report.pictures import draw_section, draw_sources, panels_of, section_through
from seg_core.run import Run
from seg_core.tasks.affinities import Affinities
from seg_core.tasks.one_hot import OneHot
from seg_core.train import training_rows
from seg_core.validation.best import read_scores
from seg_core.volumes.declared import Volume

CLASSES = OneHot(classes={"a": [5], "b": [7, 8]})


@pytest.fixture(scope="module")
def done(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Volume]:
    return tiny(copy_of(finished, tmp_path_factory.mktemp("store")))


def opened(picture: bytes) -> Image.Image:
    assert picture.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(picture))


def test_labels_have_the_colours_of_their_classes() -> None:
    picture = colours.of_labels(CLASSES, np.array([[5, 7], [8, 0]]))
    assert picture.tolist() == [
        [list(colours.GREEN), list(colours.ORANGE)],
        [list(colours.ORANGE), [0, 0, 0]],
    ]
    # an eighth class begins again with the first one's
    assert colours.of_classes(np.array([[8]])).tolist() == [[list(colours.GREEN)]]


def test_a_prediction_of_classes_is_as_bright_as_it_is_sure() -> None:
    values = np.zeros((3, 1, 2), np.float32)
    values[:, 0, 0] = 0, 1, 0
    values[:, 0, 1] = 0.5, 0, 0.5
    picture = colours.of_prediction(CLASSES, values)
    assert picture[0, 0].tolist() == list(colours.GREEN)
    assert picture[0, 1].tolist() == [round(c / 2) for c in colours.ORANGE]


def test_affinities_along_z_y_x_are_red_green_blue() -> None:
    values = np.zeros((6, 1, 3), np.float32)
    values[[0, 1, 2], 0, [0, 1, 2]] = 1
    values[3:] = 1  # long-range ones are not shown
    picture = colours.of_prediction(Affinities(), values)
    assert picture[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    flat = Affinities(offsets=[(0, 1, 0), (0, 0, 1)])
    assert colours.of_prediction(flat, values[:2]).tolist() == [[128, 128, 0]]


def test_an_object_keeps_its_colour_from_section_to_section() -> None:
    task = Affinities()
    one = colours.of_labels(task, np.array([[0, 70, 9]]))
    other = colours.of_labels(task, np.array([[9, 70, 12]]))
    assert one[0, 0].tolist() == [0, 0, 0]
    assert (one[0, 1] == other[0, 1]).all()
    assert (one[0, 2] == other[0, 0]).all()
    # of one value, which its connected components are the objects of, each has another
    parts = colours.of_labels(Affinities(objects=[9]), np.array([[9, 0, 9, 3]]))
    assert (parts[0, 0] != parts[0, 2]).any()
    assert parts[0, 3].tolist() == [0, 0, 0]


def test_grey_goes_from_dark_to_bright_whatever_the_dtype() -> None:
    for dtype in ("uint16", "float32"):
        ramp = np.arange(1000).reshape(20, 50).astype(dtype)
        picture = colours.of_values(ramp)
        assert (picture[0, 0], picture[-1, -1]) == (0, 255)
        assert abs(int(picture[10, 0]) - 128) <= 1
    assert colours.of_values(np.full((2, 2), np.nan)).tolist() == [[0, 0], [0, 0]]


def test_a_section_has_the_shape_of_the_world() -> None:
    volume = Box((10, 0, 0), (30, 1000, 100))
    across_z = section_through(volume, (40, 4, 8))
    assert (str(across_z.box), across_z.name) == ("20:21, 244:756, 0:100", "z = 20")
    panel = across_z.panel("", np.zeros((512, 100), np.uint8))
    assert (panel.height, panel.width) == (512 * 4, 100 * 8)
    across_x = section_through(volume, (40, 4, 8), 2, at=(11, 3, 99), largest=10)
    assert str(across_x.box) == "10:20, 0:10, 99:100"
    panel = across_x.panel("", np.zeros((10, 10), np.uint8))
    assert (panel.height, panel.width) == (10 * 40, 10 * 4)


def test_panels_are_what_is_in_the_arrays(done: tuple[Run, Volume]) -> None:
    run, volume = done
    for axis, shape in enumerate([(48, 48), (120, 48), (120, 48)]):
        panels = panels_of(run, volume, section_through(volume.roi, volume.voxel_size, axis))
        assert [p.title for p in panels] == ["raw", "labels", "prediction", "segmentation"]
        assert {p.image.shape[:2] for p in panels} == {shape}
    assert volume.labels is not None
    x = section_through(volume.roi, volume.voxel_size, 2)
    expected = colours.of_ids(volume.labels.read()[:, :, 24])
    assert (panels_of(run, volume, x)[1].image == expected).all()


def test_small_pictures_stay_small(done: tuple[Run, Volume]) -> None:
    run, volume = done
    rows, scores = training_rows(run), read_scores(run)
    pictures = [
        draw_section(run, volume),
        draw_sources(run),
        charts.draw_curve(rows),
        charts.draw_learning_rate(rows),
        charts.draw_sweep(scores, "voi_sum"),
    ]
    for picture in pictures:
        image = opened(picture)
        assert min(image.size) > 90
        assert len(picture) <= 60_000
        assert len(image.convert("RGB").getcolors(1 << 24)) > 5  # something is drawn
    assert draw_section(run, volume) == pictures[0]
    assert charts.draw_curve(rows) == pictures[2]


def test_the_circle_of_the_sweep_is_at_the_best() -> None:
    rows = [
        (iteration, dataset, f'{{"size_penalty": {penalty}, "threshold": {t}}}', "voi_sum", score)
        for iteration, penalty, t, scores in [
            (10, 0, 0.2, (3.0, 5.0)), (10, 0, 0.4, (2.0, 3.0)), (10, 1, 0.2, (2.0, 2.0)),
            (20, 0, 0.2, (1.0, 1.0)), (20, 0, 0.4, (0.0, np.nan)), (20, 1, 0.2, (4.0, 4.0)),
        ]
        for dataset, score in zip("ab", scores, strict=True)
    ]  # fmt: skip
    names = ["iteration", "dataset", "parameters", "criterion", "score"]
    axes = charts.sweep(pd.DataFrame(rows, columns=names), "voi_sum")
    first, second, circle = (line.get_xydata().tolist() for line in axes.get_lines())
    assert first == [[0.2, 2.0], [0.4, 2.5]]  # means over datasets, the best over the penalties
    assert second[0] == [0.2, 1.0]
    assert np.isnan(second[1][1])  # what has no score on one dataset has none
    assert circle == [[0.2, 1.0]]
    assert axes.get_xlabel() == "threshold"


def test_without_a_sweep_the_score_is_shown_by_checkpoint() -> None:
    rows = [(i, "a", "{}", "mean/dice", s) for i, s in ((10, 0.5), (20, 0.8), (30, 0.7))]
    names = ["iteration", "dataset", "parameters", "criterion", "score"]
    axes = charts.sweep(pd.DataFrame(rows, columns=names), "mean/dice")
    line, circle = (line.get_xydata().tolist() for line in axes.get_lines())
    assert line == [[10, 0.5], [20, 0.8], [30, 0.7]]
    assert circle == [[20, 0.8]]
    assert "higher" in axes.get_ylabel()


def test_a_chart_is_the_same_bytes_each_time() -> None:
    rows = pd.DataFrame({"iteration": range(1, 9), "loss": np.linspace(2, 1, 8)})
    assert charts.svg(charts.curve(rows)) == charts.svg(charts.curve(rows))


def test_drawing_needs_no_torch() -> None:
    code = (
        "import sys, seg_core.report.pictures, seg_core.report.charts\n"
        "print({'torch', 'monai', 'daisy'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True,
                          cwd=Path(__file__).parent.parent)  # fmt: skip
    assert said.stdout == "set()\n"
