"""Runs are archived and deleted: what goes, what stays, and what an interruption leaves."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_project import add, copy_of, finish
from tiny_run import files_of

from seg_core.blockwise.engine import Options
from seg_core.cli import seg
from seg_core.errors import Busy, NotReady, SegError
from seg_core.lease import Lease
from seg_core.lifecycle.promotion import promote, promoted, roll_back
from seg_core.lifecycle.removal import plan_removal, remove
from seg_core.report import make_report
from seg_core.run import load_run, run_names
from seg_core.segment import predict_volume, segment_volume
from seg_core.states import states_of
from seg_core.store import Store
from seg_core.train import train
from seg_core.training.checkpoint import iterations
from seg_core.validate import validate
from seg_core.validation.best import read_best
from seg_core.volumes.declared import load_volume

pytestmark = pytest.mark.slow

RESULTS = ("prediction.zarr/", "fragments.zarr/", "segmentation.zarr/", "edges/")


@pytest.fixture(scope="module")
def project(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best is not its last checkpoint, with everything made on a volume."""
    folder = tmp_path_factory.mktemp("more")
    store = copy_of(project, folder)
    best, seed = 12, 2
    while best == 12:  # which seeds learn so differs between processors
        store.remove("runs/r")
        trainer = {"learning_rate": 0.02, "seed": seed}
        best = read_best(finish(add(store, "r", trainer=trainer, validation={"last": 3}))).iteration
        seed += 1
    make_all(store)
    return folder


def make_all(store: Store) -> None:
    run, volume = load_run(store, "r"), load_volume(store, "phantom")
    predict_volume(run, volume, None, Options())
    segment_volume(run, volume, Options())
    make_report(run, volume)


@pytest.fixture
def store(project: Path, tmp_path: Path) -> Store:
    return copy_of(project, tmp_path / "store")


def disk(store: Store, below: str = "") -> dict[str, int]:
    root = Path(store.uri)
    files = [path for path in (root / below).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.stat().st_size for path in files}


def results(store: Store) -> dict[str, bytes]:
    """Every voxel and edge of the run on the volume."""
    files = files_of(store, "r")
    return {path: held for path, (_, held) in files.items() if path.startswith(RESULTS)}


def say(store: Store, *command: str) -> str:
    result = CliRunner().invoke(seg, [*command, "--store", store.uri])
    assert result.exit_code == 0, result.output
    return result.stdout


# An archive


def test_an_archive_keeps_what_is_small_and_frees_the_rest(store: Store) -> None:
    best = store.read_json("runs/r/best.json")["iteration"]
    store.write_json("runs/r/phantom/parameters.json", {"threshold": 0.2})
    store.write_json("runs/r/checks/some.json", {})
    before = disk(store)
    plan = plan_removal(store, "r", archive=True)
    assert disk(store) == before
    assert remove(store, plan) == plan.bytes
    after = disk(store)
    assert sum(before.values()) - plan.bytes == sum(
        size for path, size in after.items() if not path.endswith("archived.json")
    )
    left = {path.removeprefix("runs/r/") for path in disk(store, "runs/r")}
    assert {re.sub(r"lut/z.*npy", "lut/*.npy", path) for path in left} == {
        *("run.json", "datasplit.json", "training.parquet", "scores.parquet", "best.json"),
        *("archived.json", "contents.json", f"checkpoints/{best}.safetensors", "checks/some.json"),
        *("phantom/report.json", "phantom/report.html", "phantom/parameters.json"),
        *("phantom/lut/table.json", "phantom/lut/*.npy"),
        *(path for path in left if path.startswith(("checks/", "phantom/checks/"))),
    }
    assert {f"runs/r/{path}" for path in left} == {*plan.kept, "runs/r/archived.json"}
    assert "runs/r.yaml" in after
    assert say(store, "run", "list").splitlines() == ["r (archived)", "tiny"]
    assert json.loads(say(store, "run", "show", "r", "--json"))["archived"] is True


def test_what_was_archived_is_made_again(store: Store) -> None:
    expected, table = results(store), store.read_bytes("runs/r/phantom/lut/table.json")
    remove(store, plan_removal(store, "r", archive=True))
    run, volume = load_run(store, "r"), load_volume(store, "phantom")
    assert results(store) == {}
    assert {s.state for s in states_of(run, volume)["prediction"].values()} == {"missing"}
    make_all(store)
    voxels = {path: held for path, held in expected.items() if ".zarr/" in path}
    assert {path: held for path, held in results(store).items() if ".zarr/" in path} == voxels
    assert store.read_bytes("runs/r/phantom/lut/table.json") == table
    # edges across faces are made when a table is
    segment_volume(run, volume, Options(), renumber=True)
    assert results(store) == expected
    # and may be freed again
    assert remove(store, plan_removal(store, "r", archive=True)) > 0
    assert plan_removal(store, "r", archive=True).bytes == 0


def test_an_archived_run_is_trained_and_validated(store: Store) -> None:
    run, best = load_run(store, "r"), store.read_bytes("runs/r/best.json")
    remove(store, plan_removal(store, "r", archive=True))
    assert iterations(run) == [json.loads(best)["iteration"]] != [12]
    before = disk(store)
    assert train(run) == 0
    assert validate(run)[1] == 0
    assert store.read_bytes("runs/r/best.json") == best
    assert disk(store) == before
    child = finish(add(store, "child", start={"run": "r"}, trainer={"iterations": 1}))
    assert store.read_json(f"{child.folder}/start.json")["run"] == "r"


def test_what_is_not_validated_is_not_archived(store: Store) -> None:
    add(store, "begun")
    with pytest.raises(NotReady, match="run begun has no best checkpoint yet"):
        plan_removal(store, "begun", archive=True)
    assert remove(store, plan_removal(store, "begun", archive=False)) > 0
    assert run_names(store) == ["r", "tiny"]


# Deletion


def test_a_deleted_run_is_gone_and_its_name_free(store: Store) -> None:
    before = disk(store)
    plan = plan_removal(store, "r", archive=False)
    assert plan.kept == []
    freed = remove(store, plan)
    assert freed == plan.bytes == sum(before.values()) - sum(disk(store).values())
    assert not any("runs/r" in path for path in disk(store))
    with pytest.raises(SegError, match="no run 'r'"):
        plan_removal(store, "r", archive=False)
    again = add(store, "r", trainer={"iterations": 2, "seed": 5})
    assert not again.is_frozen
    assert train(again) == 2


@pytest.mark.parametrize("archive", [True, False])
def test_interrupted_anywhere_it_goes_on(
    project: Path, tmp_path: Path, archive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = copy_of(project, tmp_path / "whole")
    steps = len(plan_removal(whole, "r", archive=archive).paths)
    remove(whole, plan_removal(whole, "r", archive=archive))
    rm = Store.remove
    for last in range(steps + 1):
        store = copy_of(project, tmp_path / f"{last}")
        done = []

        def step(opened: Store, path: str, last: int = last, done: list[str] = done) -> None:
            if not path.endswith(".lock") and len(done) == last:
                raise KeyboardInterrupt
            if not path.endswith(".lock"):
                done.append(path)
            rm(opened, path)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "remove", step)
            with pytest.raises(KeyboardInterrupt):
                remove(store, plan_removal(store, "r", archive=archive))
                raise KeyboardInterrupt  # where this was one step more than there are
        _looks_removed(store, archive)
        remove(store, plan_removal(store, "r", archive=archive))
        assert disk(store) == disk(whole)


def _looks_removed(store: Store, archive: bool) -> None:
    """What is half removed is not taken for whole."""
    if archive:
        run, volume = load_run(store, "r"), load_volume(store, "phantom")
        assert run.is_archived
        assert train(run) == 0
        there = (Path(store.uri) / "runs/r/phantom/prediction.zarr/0/c/0/0/0/0").exists()
        states = {s.state for s in states_of(run, volume)["prediction"].values()}
        assert there or states == {"missing"}
    elif store.exists("runs/r.removing"):
        with pytest.raises(SegError, match=r"run r is being removed, .* end that first with: seg"):
            add(store, "r")


# What is protected


def test_the_promoted_run_its_ancestors_and_what_a_roll_back_reaches_stay(store: Store) -> None:
    finish(add(store, "child", start={"run": "r"}, trainer={"iterations": 1}))
    finish(add(store, "grandchild", start={"run": "child"}, trainer={"iterations": 1}))
    finish(add(store, "last", trainer={"iterations": 1}))
    promote(load_run(store, "grandchild"), anyway=True)
    promote(load_run(store, "tiny"), anyway=True)
    before = disk(store)
    came = "run grandchild, which is promoted or may be again, came from it"
    for name, message in (
        ("tiny", "run tiny cannot be removed: it is promoted; promote another one first"),
        ("grandchild", "run grandchild cannot be removed: a roll-back would promote it"),
        ("child", f"run child cannot be removed: {came}"),
        ("r", f"run r cannot be removed: {came}"),
    ):
        for archive in (True, False):
            with pytest.raises(SegError, match=f"^{message}$"):
                plan_removal(store, name, archive=archive)
    assert disk(store) == before
    assert say(store, "run", "list").splitlines()[-1] == "tiny (promoted)"
    plan = plan_removal(store, "last", archive=False)
    promote(load_run(store, "last"), anyway=True)  # since it was planned
    with pytest.raises(SegError, match="run last cannot be removed: it is promoted"):
        remove(store, plan)
    # out of reach after a roll-back
    roll_back(store)
    roll_back(store)
    for name in ("last", "tiny"):
        assert remove(store, plan_removal(store, name, archive=False)) > 0


def test_a_run_that_is_being_deleted_is_not_promoted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    run, other = load_run(store, "r"), finish(add(store, "other", trainer={"iterations": 1}))
    with Lease(store, "promoted.lock", "promotion"), pytest.raises(Busy, match="promotion: proc"):
        remove(store, plan_removal(store, "r", archive=False))
    assert not store.exists("runs/r.removing")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "remove", end)
        remove(store, plan_removal(store, "r", archive=False))
    assert store.exists("runs/r/best.json")  # all of it is there still
    with pytest.raises(SegError, match="run r cannot be promoted, since it is being removed; end"):
        promote(run, anyway=True)
    remove(store, plan_removal(store, "r", archive=False))
    with pytest.raises(SegError, match="no run 'r'"):
        promote(run, anyway=True)
    assert promoted(store) is None
    promote(load_run(store, "tiny"), anyway=True)
    promote(other, anyway=True)
    store.remove("runs/tiny.yaml")  # as whoever deletes files by hand does
    with pytest.raises(SegError, match="no run 'tiny'"):
        roll_back(store)
    assert promoted(store) == "other"


def test_a_run_at_which_somebody_works_is_left_alone(store: Store) -> None:
    path = "runs/r/phantom/blocks/prediction/z0000y0000x0000.lock"
    with Lease(store, path, "prediction of block z0000y0000x0000"):
        for archive in (True, False):
            with pytest.raises(Busy, match=f"^run r cannot be removed: process {os.getpid()} on "):
                plan_removal(store, "r", archive=archive)
        holder = store.read_json(path)
    # a process that died holds nothing
    ended = subprocess.Popen(["true"])
    ended.wait()
    store.write_json(path, holder | {"pid": ended.pid})
    remove(store, plan_removal(store, "r", archive=True))
    assert not store.exists(path)
    with Lease(store, "runs/r.lock", "removal"), pytest.raises(Busy, match="removal of run r"):
        remove(store, plan_removal(store, "r", archive=False))


# The command, and another kind of store


def test_the_command_says_what_it_frees(store: Store) -> None:
    size = plan_removal(store, "r", archive=True).bytes
    before = disk(store)
    lines = say(store, "run", "remove", "r", "--archive", "--dry-run").splitlines()
    assert lines[0] == f"archiving run r would free {size / 1e6:,.1f} MB"
    assert "runs/r/phantom/prediction.zarr" in lines
    assert disk(store) == before
    result = json.loads(say(store, "run", "remove", "r", "--archive", "--json"))
    assert result["freed"] == result["bytes"] == size
    lines = say(store, "run", "remove", "r").splitlines()
    assert re.fullmatch(r"deleting run r frees [\d.,]+ (MB|bytes)", lines[0])
    assert re.fullmatch(r"run r is deleted: [\d.,]+ (MB|bytes) freed", lines[1])
    missing = CliRunner().invoke(seg, ["run", "remove", "r", "--store", store.uri])
    assert missing.exit_code == 1
    assert "no run 'r'" in missing.stderr


@pytest.mark.parametrize(
    ("answer", "options", "gone"), [("n", [], False), ("y", [], True), ("", ["--yes"], True)]
)
def test_on_a_terminal_it_asks(store: Store, answer: str, options: list[str], gone: bool) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", "from seg_core.cli import main; main()", "run", "remove", "r"]
    process = subprocess.Popen(
        [*command, *options, "--store", store.uri], stdin=end, stdout=subprocess.PIPE, text=True
    )
    os.close(end)
    os.write(terminal, f"{answer}\n".encode())
    out, _ = process.communicate(timeout=120)
    os.close(terminal)
    assert process.returncode == 0
    assert ("Go on? [y/N]" in out) is (not options)
    assert ("nothing was removed" in out) is (not gone)
    assert ("r" not in run_names(store)) is gone


@pytest.mark.parametrize("kind", ["memory", "gs"])
def test_in_an_object_store(project: Path, kind: str, request: pytest.FixtureRequest) -> None:
    store = Store("memory://removal" if kind == "memory" else request.getfixturevalue("gs_uri"))
    files = {path: size for path, size in disk(Store(str(project))).items() if "runs/" in path}
    for path in files:
        store.write_bytes(path, (project / path).read_bytes())
    assert store.sizes("runs") == files
    plan = plan_removal(store, "r", archive=True)
    freed = remove(store, plan)
    assert freed == plan.bytes > 0
    left = store.sizes("runs/r")
    assert set(left) == {*plan.kept, "runs/r/archived.json"}
    assert (
        remove(store, plan_removal(store, "r", archive=False))
        == sum(left.values()) + files["runs/r.yaml"]
    )
    assert run_names(store) == ["tiny"]
    assert store.sizes("runs/r") == {}
