"""Commands in general: the help and the JSON of each, and the scores of any two files."""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import tifffile
from click.testing import CliRunner
from command_line import call, say
from skimage.metrics import adapted_rand_error, variation_of_information

from seg_core.cli import seg

# Scores of files


def test_evaluate_says_what_scikit_image_says(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 6, (10, 12, 14)).astype(np.uint16)
    found = (truth + 10 * random.integers(0, 3, truth.shape)).astype(np.uint16)
    found[random.random(found.shape) < 0.2] = 3
    for name, data in (("found", found), ("truth", truth)):
        tifffile.imwrite(tmp_path / f"{name}.tif", data)
    call("import", f"{tmp_path}/truth.tif", f"{tmp_path}/truth.zarr", "--voxel-size", "4,4,4",
         "--labels")  # fmt: skip
    for labels, roi in (("truth.tif", None), ("truth.zarr", None), ("truth.tif", "2:9, :, 3:-4")):
        part = (slice(2, 9), slice(None), slice(3, -4)) if roi else (slice(None),) * 3
        scores = call("evaluate", f"{tmp_path}/found.tif", f"{tmp_path}/{labels}",
                      *(["--roi", roi] if roi else []))  # fmt: skip
        split, merge = variation_of_information(truth[part], found[part], ignore_labels=[0])
        error = adapted_rand_error(truth[part], found[part], ignore_labels=[0])[0]
        assert abs(scores["voi_split"] - split) < 1e-9
        assert abs(scores["voi_merge"] - merge) < 1e-9
        assert abs(scores["voi_sum"] - split - merge) < 1e-9
        assert abs(scores["adapted_rand_error"] - error) < 1e-9


def test_evaluate_classes_and_what_has_no_score(tmp_path: Path) -> None:
    truth = np.zeros((5, 6, 7), np.uint8)
    truth[0], truth[4] = 1, 2
    found = truth.copy()
    found[4] = 0
    for name, data in (("found", found), ("truth", truth)):
        tifffile.imwrite(tmp_path / f"{name}.tif", data)
    files = [f"{tmp_path}/{name}.tif" for name in ("found", "truth")]
    scores = call("evaluate", *files, "--classes", "a,b")
    assert (scores["a/dice"], scores["b/dice"], scores["mean/dice"]) == (1, 0, 0.5)
    assert scores["a/hausdorff"] == 0
    assert scores["b/hausdorff"] is scores["mean/hausdorff"] is None  # JSON has no nan
    lines = dict(line.split() for line in say("evaluate", *files, "--classes", "a,b"))
    assert (lines["b/dice"], lines["b/hausdorff"]) == ("0.000000", "nan")


def test_evaluate_says_why_a_file_holds_no_labels(tmp_path: Path) -> None:
    colours, small = tmp_path / "colours.tif", tmp_path / "small.tif"
    tifffile.imwrite(colours, np.zeros((5, 6, 7, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(small, np.zeros((5, 6, 7), np.float32))
    for file, words in ((colours, "found uint8 in 3 channels"), (small, "found float32")):
        result = CliRunner().invoke(seg, ["evaluate", str(file), str(file)])
        assert result.exit_code == 1
        assert words in result.output


# Help


def commands(group: click.Group, path: Sequence[str] = ()) -> list[list[str]]:
    found = [list(path)]
    for name, command in group.commands.items():
        inner = isinstance(command, click.Group)
        found += commands(command, [*path, name]) if inner else [[*path, name]]
    return found


def test_every_command_has_help() -> None:
    found = commands(seg)
    assert len(found) >= 17
    for command in found:
        for option in ("--help", "-h"):
            lines = say(*command, option)
            assert lines[0].startswith("Usage: ")
            assert lines[2].strip()[0].isupper()  # what it does, in a sentence


def test_every_command_that_tells_anything_tells_it_as_json() -> None:
    said = {" ".join(c) for c in commands(seg) if "--json" in "".join(say(*c, "--help"))}
    assert said == {
        *("import", "phantom", "evaluate", "train", "validate", "predict", "segment", "blocks"),
        *("check", "report", "compare", "promote", "retrain"),
        *("volume list", "volume show", "run list", "run show", "run remove"),
    }
