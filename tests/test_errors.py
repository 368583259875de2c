"""Bad input gets one clear sentence, an exit code, and leaves the store as it was."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from seg_core.cli import seg
from seg_core.geometry import Box
from seg_core.volumes.declared import RESERVED
from seg_core.volumes.ome_zarr import ZarrArray, create

VOLUME = "raw: raw.zarr\nlabels: labels.zarr\nblock: [16, 16, 16]\nchunk: [8, 8, 8]\n"
RUN = """
datasplit:
  train: [{volume: cube, roi: '0:12, :, :'}]
  validate: [{volume: cube, roi: '12:16, :, :'}]
architecture: {kind: unet, features: [4, 4, 4]}
trainer: {iterations: 2, crop: [8, 8, 8]}
compute: {threads: 1}
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with the volume `cube` and the run `good`."""
    folder = tmp_path / "store"
    monkeypatch.setenv("SEG_STORE", str(folder))
    labels = np.ones((16, 16, 16), np.uint32)
    write(folder / "volumes/cube/raw.zarr", np.zeros((16, 16, 16), np.uint8))
    write(folder / "volumes/cube/labels.zarr", labels)
    write(folder / "volumes/cube/other.zarr", labels[:8])
    write(folder / "volumes/cube/empty.zarr", labels * 0)
    assert call(tmp_path, "volume", "add", cube=VOLUME).exit_code == 0
    assert call(tmp_path, "run", "add", good=RUN).exit_code == 0
    return folder


def write(path: Path, data: np.ndarray, size: tuple[float, float, float] = (8.0, 8.0, 8.0)) -> None:
    array = ZarrArray(str(path), Box.of_shape(data.shape), None, data.dtype.name, size, (8, 8, 8))
    create(array).write(array.box, data)


def call(folder: Path, *command: str, **file: str) -> Result:
    """Call the command; a file given as NAME=TEXT is written first and is its last argument."""
    paths = [folder / f"{name.replace('__', '.')}.yaml" for name in file]
    for path, text in zip(paths, file.values(), strict=True):
        path.write_text(text)
    return CliRunner().invoke(seg, [*command, *map(str, paths)])


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(result: Result, *words: str) -> None:
    message = result.output.strip().splitlines()
    assert result.exit_code != 0
    assert len(message) == 1, result.output
    assert message[0].startswith("Error: ")
    for word in words:
        assert word in message[0]


@pytest.mark.parametrize(
    ("command", "name", "text", "words"),
    [
        ("volume", "gone", VOLUME.replace("raw.zarr", "nothing.zarr"), ["nothing.zarr", "import"]),
        (
            "volume",
            "shapes",
            VOLUME.replace("raw: raw", "raw: ../cube/raw").replace("labels.z", "../cube/other.z"),
            ["(8, 16, 16)", "(16, 16, 16)", "same voxels"],
        ),
        (
            "volume",
            "flat",
            VOLUME.replace("raw: raw", "raw: ../cube/raw").replace("labels: labels.zarr\n", "")
            + "voxel_size: [0, 8, 8]\n",
            ["voxel_size", "greater than 0", "given: 0"],
        ),
        ("volume", "Bad Name", VOLUME, ["'Bad Name'", "lower-case letters, digits, - and _"]),
        ("volume", "grid", VOLUME.replace("[8, 8, 8]", "[5, 5, 5]"), ["multiple of chunk"]),
        ("volume", "typo", VOLUME + "blok: 3\n", ["blok", "no field that is known"]),
        ("run", "Run", RUN, ["run name 'Run'"]),
        ("run", "a|b", RUN, ["run name 'a|b'"]),
        ("run", "kind", RUN + "task: {kind: affinity}\n", ["unknown kind 'affinity'", "one_hot"]),
        ("run", "plug", RUN + "task: {kind: 'os:path'}\n", ["'os:path' is no Task"]),
        ("run", "typo", RUN.replace("crop", "corp"), ["trainer.corp"]),
        ("run", "range", RUN.replace("iterations: 2", "iterations: 0"), ["trainer.iterations"]),
        ("run", "list", "- a\n- b\n", ["expected a YAML mapping"]),
        ("run", "broken", "datasplit: [", ["no valid YAML"]),
    ],
)
def test_a_file_with_a_mistake_is_not_added(
    store: Path, command: str, name: str, text: str, words: list[str]
) -> None:
    before = files(store)
    refused(call(store.parent, command, "add", **{name: text}), *words)
    assert files(store) == before


@pytest.mark.parametrize("what", ["volume", "run"])
@pytest.mark.usefixtures("store")
def test_a_file_that_is_not_there(what: str) -> None:
    result = CliRunner().invoke(seg, [what, "add", "nowhere/x.yaml"])
    refused(result, "nowhere/x.yaml", "No such file")


def test_importing_what_is_not_there_or_unlabelled(store: Path) -> None:
    before = files(store)
    dest = str(store / "volumes/new/raw.zarr")
    size = ["--voxel-size", "8,8,8"]
    refused(CliRunner().invoke(seg, ["import", "no.tif", dest, *size]), "no.tif")
    image = store.parent / "zeros.tif"
    tifffile.imwrite(image, np.zeros((6, 8, 8), np.uint8))
    arguments = ["import", str(image), dest]
    refused(CliRunner().invoke(seg, arguments), "--voxel-size")
    refused(CliRunner().invoke(seg, [*arguments, "--voxel-size", "0,8,8"]), "voxel")
    refused(CliRunner().invoke(seg, [*arguments, *size, "--labels"]), "no object")
    assert files(store) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RUN.replace("volume: cube", "volume: sphere"), ["no volume 'sphere'", "there: cube"]),
        (RUN.replace("0:12", "0:99"), ["0:99", "reaches outside"]),
        (RUN.replace("compute: {", "compute: {device: cuda, "), ["no GPU", "auto or cpu"]),
        (RUN.replace("threads: 1", "threads: 1, memory: 0.00001"), ["compute.memory"]),
    ],
)
def test_training_that_cannot_be_is_refused_before_it_begins(
    store: Path, text: str, words: list[str]
) -> None:
    call(store.parent, "run", "add", bad=text)
    before = files(store)
    refused(call(store.parent, "train", "bad"), *words)
    assert files(store) == before


def test_labels_without_an_object(store: Path) -> None:
    text = VOLUME.replace("raw: raw", "raw: ../cube/raw").replace("labels.z", "../cube/empty.z")
    assert call(store.parent, "volume", "add", hollow=text).exit_code == 0
    call(store.parent, "run", "add", hollow__run=RUN)
    assert call(store.parent, "run", "add", blank=RUN.replace("cube", "hollow")).exit_code == 0
    before = files(store)
    refused(call(store.parent, "train", "blank"), "no object", "hollow")
    verdicts, index = store / "runs/blank/checks", store / "runs/blank/contents.json"
    now = {path: f for path, f in files(store).items() if path.parent != verdicts}
    assert {path: f for path, f in now.items() if path != index} == before


def test_a_voxel_size_of_zero_in_the_metadata(store: Path) -> None:
    write(store / "volumes/thin/raw.zarr", np.zeros((16, 16, 16), np.uint8), (0.0, 8.0, 8.0))
    before = files(store)
    text = VOLUME.replace("labels: labels.zarr\n", "")
    refused(call(store.parent, "volume", "add", thin=text), "voxel size (0.0, 8.0, 8.0)")
    assert files(store) == before


@pytest.mark.parametrize("name", RESERVED)
def test_a_volume_named_as_a_folder_of_a_run(store: Path, name: str) -> None:
    text = VOLUME.replace("raw: raw", "raw: ../cube/raw").replace("labels.z", "../cube/labels.z")
    before = files(store)
    refused(call(store.parent, "volume", "add", **{name: text}), repr(name), "reserved", "rename")
    assert files(store) == before
    (store / f"volumes/{name}.yaml").write_text(text)  # as it was declared by an earlier version
    refused(call(store.parent, "predict", "good", name), repr(name), "reserved", "rename")


def test_an_edited_file_of_a_frozen_run_is_refused_with_the_difference(store: Path) -> None:
    assert call(store.parent, "train", "good").exit_code == 0
    before = files(store)
    edited = RUN.replace("crop: [8, 8, 8]", "crop: [8, 8, 4], seed: 7")
    refused(
        call(store.parent, "run", "add", good=edited),
        "trainer.crop was [8, 8, 8] and is [8, 8, 4]",
        "trainer.seed was 0 and is 7",
        "new run",
    )
    assert files(store) == before
    harmless = RUN.replace("threads: 1", "threads: 1, workers: 2")
    assert call(store.parent, "run", "add", good=harmless).exit_code == 0
    again = call(store.parent, "train", "good")
    assert again.output.splitlines()[-1] == "run good: 0 iterations made, 2 passed over"


def test_data_that_changed_after_training_wants_a_new_run(store: Path) -> None:
    assert call(store.parent, "train", "good").exit_code == 0
    write(store / "volumes/cube/labels.zarr", np.full((16, 16, 16), 2, np.uint32))
    refused(call(store.parent, "train", "good"), "cube: labels", "new run name")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "nobody"], ["no run 'nobody'", "there: good"]),
        (["validate", "good"], ["not trained", "seg train good"]),
        (["predict", "good", "cube"], ["seg validate good"]),
        (["predict", "good", "sphere"], ["no volume 'sphere'"]),
        (
            ["segment", "good", "cube", "--set", "treshold=1"],
            ["no parameter 'treshold'; it has"],
        ),
        (["segment", "good", "cube", "--set", "threshold=x"], ["NAME=NUMBER"]),
        (["predict", "good", "cube", "--shard", "2/2"], ["I from 0 to N-1"]),
        (["predict", "good", "cube", "--blocks", "z9y0x0"], ["no block 'z9y0x0'"]),
        (["evaluate", "a.zarr", "b.zarr"], ["a.zarr"]),
    ],
)
def test_a_step_that_has_nothing_to_work_on(
    store: Path, command: list[str], words: list[str]
) -> None:
    before = files(store)
    refused(call(store.parent, *command), *words)
    assert set(files(store)) - set(before) <= {store / "runs/good/run.json"}
