"""A store on gs://, on a real fake-gcs-server: what is made there is what is made in a folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from time import monotonic
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import tifffile
import zarr
from faulty_proxy import FaultyProxy, Request
from gcs_server import BUCKET, reached_at
from tiny_run import RAW_CHUNK, VOLUME, make_run

from seg_core.blockwise import make_block
from seg_core.blockwise.engine import Options
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import Records
from seg_core.blockwise.stage import Work
from seg_core.errors import SegError
from seg_core.fragments import Fragments
from seg_core.geometry import Box
from seg_core.lease import Lease
from seg_core.lut import read_slice, read_table
from seg_core.phantom import make_phantom
from seg_core.report import make_report
from seg_core.segment import output_of, predict_volume, segment_volume, states_of
from seg_core.store import Store
from seg_core.tasks.affinities import Affinities
from seg_core.train import train
from seg_core.training.checkpoint import checkpoint_path, load_network
from seg_core.validate import validate
from seg_core.validation.best import read_best
from seg_core.volumes.declared import add_volume, load_volume
from seg_core.volumes.importing import import_array
from seg_core.volumes.ome_zarr import ZarrArray, create, open_array
from seg_core.volumes.stamps import chunk_stamps

STEPS = ("prediction", "fragments", "segmentation")
SIZE = (10.0, 10.0, 10.0)


def make_inputs(store: Store, folder: Path) -> None:
    """The tiny volume, imported from TIFF, and the tiny run."""
    raw, labels = make_phantom((120, 48, 48), seed=1)
    for name, data in (("raw", raw), ("labels", labels)):
        file = str(folder / f"{name}.tif")
        tifffile.imwrite(file, data)
        uri, chunk = store.path(f"volumes/phantom/{name}.zarr"), (RAW_CHUNK,) * 3
        import_array(file, uri, voxel_size=SIZE, labels=name == "labels", chunk=chunk)
    add_volume(store, "phantom", VOLUME.encode(), "phantom.yaml")
    make_run(store)


def make_all(store: Store, folder: Path) -> dict[str, Any]:
    """Every step of the path; returns what the report says."""
    make_inputs(store, folder)
    run, volume = make_run(store), load_volume(store, "phantom")
    train(run)
    validate(run)
    predict_volume(run, volume, None, Options())
    segment_volume(run, volume, Options())
    return make_report(run, volume)


@pytest.fixture(scope="module")
def made(gcs_proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """The same made in a folder and on gs://, each from nothing."""
    folder = tmp_path_factory.mktemp("made")
    local, remote = Store(str(folder / "store")), Store(f"gs://{BUCKET}/made")
    with reached_at(gcs_proxy.url):
        make_all(local, folder)
        make_all(remote, folder)
    return local, remote


def voxels(store: Store, name: str) -> np.ndarray[Any, Any]:
    return open_array(store.path(f"runs/tiny/phantom/{name}.zarr")).read()


@pytest.mark.slow
@pytest.mark.usefixtures("gcs")
def test_the_whole_path_is_that_of_a_folder(made: tuple[Store, Store]) -> None:
    local, remote = made
    for name in STEPS:
        np.testing.assert_array_equal(voxels(remote, name), voxels(local, name))
        here, there = (Records(s, f"runs/tiny/phantom/blocks/{name}").read_all() for s in made)
        assert here.keys() == there.keys() and len(here) == 20
        assert {k: r.content for k, r in here.items()} == {k: r.content for k, r in there.items()}
        # dates stand for the raw data's chunks in a folder, digests on gs://
        for key, record in here.items():
            assert {**record.inputs, "raw data": ""} == {**there[key].inputs, "raw data": ""}
    runs = [make_run(store) for store in made]
    weights = [load_network(run, 12)[2] for run in runs]
    assert weights[0] == weights[1]
    assert read_best(runs[0]) == read_best(runs[1])
    outputs = [output_of(run, load_volume(run.store, "phantom")) for run in runs]
    tables = [read_table(output) for output in outputs]
    assert tables[0] is not None and tables[1] is not None
    assert tables[0].slices == tables[1].slices
    for key, digest in tables[0].slices.items():
        pair = [read_slice(output, key, digest) for output in outputs]
        np.testing.assert_array_equal(*pair)
    reports = [s.read_json("runs/tiny/phantom/report.json") for s in made]
    assert reports[0]["scores"] == reports[1]["scores"]
    assert reports[0]["segments"] == reports[1]["segments"]
    assert remote.read_bytes("runs/tiny/phantom/report.html").startswith(b"<!doctype html>")


@pytest.mark.slow
def test_asked_again_nothing_is_made_and_little_is_asked(
    made: tuple[Store, Store], gcs: FaultyProxy
) -> None:
    store = made[1]
    run, volume = make_run(store), load_volume(store, "phantom")
    gcs.traffic.clear()
    assert predict_volume(run, volume, None, Options()).made == []
    requests = gcs.traffic.requests
    assert not [r for r in requests if r.method != "GET"]
    assert sum("z000" in r.path for r in requests) == 20  # one for each block
    assert len(requests) <= 20 + 30  # and those of the call
    segment = segment_volume(run, volume, Options())
    assert (segment.fragments.made, segment.table_made, segment.segmentation.made) == (
        [],
        False,
        [],
    )
    assert {s.state for blocks in states_of(run, volume).values() for s in blocks.values()} == {
        "done"
    }


def test_a_process_ends_in_silence(gs_uri: str) -> None:
    create(ZarrArray(f"{gs_uri}/a.zarr", Box.of_shape((8, 8, 8)), None, "uint8", SIZE, (8, 8, 8)))
    code = f"from seg_core.volumes.ome_zarr import open_array; open_array({gs_uri + '/a.zarr'!r})"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_a_block_costs_few_requests(made: tuple[Store, Store], gcs: FaultyProxy) -> None:
    store, key = made[1], "z0002y0001x0000"
    run, volume = make_run(store), load_volume(store, "phantom")
    gcs.traffic.clear()
    predict_volume(run, volume, [key], Options(force=uuid4().hex))
    about_it = [r for r in gcs.traffic.requests if key in r.path + r.query + _name_in(r)]
    assert len(about_it) <= 16
    chunks = [r.path + _name_in(r) for r in gcs.traffic.requests if "/0/c/" in r.path + _name_in(r)]
    assert len(chunks) == len(set(chunks))  # no chunk is read or written twice


def _name_in(request: Request) -> str:
    """An upload names its object in its query or in its body."""
    return request.query + request.body[:200].decode(errors="replace")


def seg(store: Store, *command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from seg_core.cli import main; main()", *command, "--json"],
        env={**os.environ, "SEG_STORE": store.uri},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def trained(made: tuple[Store, Store], uri: str) -> Store:
    """What prediction needs of a finished store, in another folder of the bucket."""
    store, source = Store(uri), made[1]
    for part in ("volumes", "runs/tiny.yaml", "runs/tiny/run.json", "runs/tiny/best.json"):
        store.fs.cp(source.path(part), store.path(part), recursive=True)
    path = checkpoint_path(make_run(source), 12)
    store.write_bytes(path, source.read_bytes(path))
    return store


def wait_until(ready: Callable[[], object], seconds: float = 120) -> None:
    until = monotonic() + seconds
    while not ready():
        assert monotonic() < until
        Event().wait(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_prediction_that_was_stopped_goes_on(
    made: tuple[Store, Store], gs_uri: str, gcs: FaultyProxy, how: signal.Signals
) -> None:
    store = trained(made, gs_uri)
    records = Records(store, "runs/tiny/phantom/blocks/prediction")
    process = seg(store, "predict", "tiny", "phantom")
    wait_until(lambda: sum(r.state == "done" for r in records.read_all().values()) >= 3)
    process.send_signal(how)
    process.wait(60)
    done = {k for k, r in records.read_all().items() if r.state == "done"}
    assert 3 <= len(done) < 20
    again = predict_volume(make_run(store), load_volume(store, "phantom"), None, Options())
    assert set(again.passed) == done
    np.testing.assert_array_equal(voxels(store, "prediction"), voxels(made[1], "prediction"))
    left = [p for p in store.fs.find(store.uri) if p.endswith(".lock") or ".parts" in p]
    # it may have been killed between the record of a block and the end of its lease
    assert {Path(p).stem for p in left if how is signal.SIGKILL and p.endswith(".lock")} <= done
    assert how is signal.SIGKILL or not left
    assert gcs.traffic.faults.keys() == {"pass"}


@pytest.mark.slow
def test_two_at_once_end_as_one_or_one_refuses(made: tuple[Store, Store], gs_uri: str) -> None:
    store = trained(made, gs_uri)
    both = [seg(store, "predict", "tiny", "phantom") for _ in range(2)]
    ends = [process.communicate(timeout=300) for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes
    for code, (_, err) in zip(codes, ends, strict=True):
        assert code == 0 or "is at it; wait for its end, or stop it first" in err
    np.testing.assert_array_equal(voxels(store, "prediction"), voxels(made[1], "prediction"))
    assert not [p for p in store.fs.find(store.uri) if p.endswith(".lock")]


def test_of_a_block_at_most_ten_seconds_and_a_piece_are_lost(
    gs_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process that is killed now leaves behind, piece by piece of 4 s each."""
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(make_block, "time", clock)
    output = Output(Store(gs_uri), "runs/r/v", None)  # type: ignore[arg-type]
    stage, work = Fragments(output, Affinities(), 1), Work("z0000y0000x0000", {"all": "same"})
    now, found = 0.0, []
    with make_block._Parts(stage, work) as parts:
        for number in range(20):
            now += 4
            parts.note(number, "digest")
            found.append(len(stage.records.read_parts(work.key, work.inputs, work.force)))
            assert (number + 1 - found[-1]) * 4 < 10 + 4
    assert len(set(found)) == 7  # it is not written for every piece


def test_one_of_many_creates_a_file(gs_uri: str) -> None:
    store = Store(gs_uri)
    for number in range(10):
        barrier = Barrier(8)

        def create_one(i: int, path: str = f"f/{number}", barrier: Barrier = barrier) -> bool:
            barrier.wait()
            return store.create_bytes(path, bytes([i]))

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(create_one, range(8)))
        assert sum(made) == 1
        assert store.read_bytes(f"f/{number}") == bytes([made.index(True)])


def test_a_lease_whose_answer_was_lost_is_ours(gs_uri: str, gcs: FaultyProxy) -> None:
    """The second try finds the file there, which the first one wrote."""
    store = Store(gs_uri)
    first = gcs.number + 1
    with (
        gcs.doing(lambda r: "lost" if r.number == first else "pass") as traffic,
        Lease(store, "one.lock", "it"),
    ):
        assert traffic.faults["lost"] == 1
        assert store.read_json("one.lock")["pid"] == os.getpid()
    assert not store.exists("one.lock")


def test_a_lease_that_another_took_since_is_left_alone(gs_uri: str, gcs: FaultyProxy) -> None:
    """The server is asked to remove just what was read, and answers 412 if that is gone.

    The emulator heeds no condition of a removal, so that answer is the proxy's.
    """
    store = Store(gs_uri)
    store.write_json("one.lock", {"owner": "dead"})
    generation = store.fs.info(store.path("one.lock"))["generation"]
    with gcs.doing(lambda r: "412" if r.method == "DELETE" else "pass") as traffic:
        store.remove_json("one.lock", {"owner": "dead"})
        removals = [r.query for r in traffic.requests if r.method == "DELETE"]
    assert removals == [f"ifGenerationMatch={generation}"]
    assert store.read_json("one.lock") == {"owner": "dead"}
    store.remove_json("one.lock", {"owner": "another"})
    assert store.exists("one.lock")
    store.remove_json("one.lock", {"owner": "dead"})
    assert not store.exists("one.lock")


def test_a_folder_of_several_pages_is_read_in_one_go(gs_uri: str, gcs: FaultyProxy) -> None:
    store, number = Store(gs_uri), 1050  # a page holds 1000
    files = {f"{gs_uri}/f/{i:04}.json": b"%d" % i for i in range(number)}
    store.fs.pipe(files)
    gcs.traffic.clear()
    found = store.read_folder("f")
    assert {name: int(content) for name, content in found.items()} == {
        f"{i:04}": i for i in range(number)
    }
    assert len(gcs.traffic.requests) == number + 2
    assert store.names("f", ".json") == [f"{i:04}" for i in range(number)]
    store.remove("f")
    assert store.names("f", ".json") == []


def test_what_others_write_is_seen_at_once(gs_uri: str) -> None:
    """No listing is kept: neither by the store nor where arrays are made and opened."""
    store = Store(gs_uri)
    array = ZarrArray(store.path("a.zarr"), Box.of_shape((8, 8, 8)), None, "uint8", SIZE, (8, 8, 8))
    assert not store.exists("a.zarr")
    assert store.names("", ".zarr") == []
    code = (
        "import sys; from seg_core.volumes.ome_zarr import *; from seg_core.geometry import Box\n"
        "box = Box.of_shape((8, 8, 8))\n"
        "a = create(ZarrArray(sys.argv[1], box, None, 'uint8', (10.0,) * 3, (8, 8, 8)))\n"
        "a.write(box, np.full((8, 8, 8), 7, np.uint8))"
    )
    subprocess.run([sys.executable, "-c", code, array.uri], check=True, timeout=120)
    assert store.names("", ".zarr") == ["a"]
    assert open_array(array.uri).read().min() == 7
    assert create(array).read().min() == 7  # it is kept
    with pytest.raises(SegError, match="is there already and is another array"):
        create(ZarrArray(array.uri, array.box, None, "uint16", SIZE, (8, 8, 8)))
    other = ZarrArray(array.uri, array.box, 2, "uint16", SIZE, (4, 4, 4))
    create(other, overwrite=True)
    assert open_array(array.uri) == other
    assert not open_array(array.uri).read().any()
    assert not [p for p in store.fs.find(store.uri) if "/c/" in p]


def test_many_who_make_the_same_array_keep_one(gs_uri: str) -> None:
    box = Box.of_shape((8, 8, 8))
    array = ZarrArray(f"{gs_uri}/a.zarr", box, None, "uint8", SIZE, (8, 8, 8))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: create(array), range(8))) == [array] * 8
    assert open_array(array.uri) == array


def test_the_stamp_of_a_chunk_changes_with_its_bytes_only(gs_uri: str) -> None:
    box = Box.of_shape((16, 8, 8))
    array = create(ZarrArray(f"{gs_uri}/a.zarr", box, None, "uint8", SIZE, (8, 8, 8)))
    low, high = box.tiles((8, 8, 8))
    ones = np.ones((8, 8, 8), np.uint8)
    array.write(low, ones)
    before = chunk_stamps(array)
    assert before.keys() == {(0, 0, 0)}  # zeros are not stored
    array.write(low, ones)
    assert chunk_stamps(array) == before
    array.write(high, ones)
    after = chunk_stamps(array)
    assert after[0, 0, 0] == before[0, 0, 0]
    array.write(low, 2 * ones)
    assert chunk_stamps(array)[0, 0, 0] != before[0, 0, 0]
    assert chunk_stamps(array)[1, 0, 0] == after[1, 0, 0]


def test_a_folder_is_removed_and_no_other(gs_uri: str) -> None:
    store = Store(gs_uri)
    for path in ("a/1", "a/b/c/2", "ab/3", "a.json"):
        store.write_bytes(path, b"1")
    store.remove("a")
    assert sorted(p.rsplit("/", 2)[-1] for p in store.fs.find(store.uri)) == ["3", "a.json"]
    store.remove("a")
    store.remove_file("ab/3")
    store.remove_file("ab/3")
    assert store.names("", ".json") == ["a"]
    assert not store.exists("ab")


def test_zarr_and_n5_of_others_are_imported_from_gs(gs_uri: str) -> None:
    data = np.arange(6 * 5 * 4, dtype=np.uint16).reshape(6, 5, 4)
    plain = zarr.create_array(f"{gs_uri}/plain.zarr", data=data, chunks=(3, 5, 4), zarr_format=2)
    plain.attrs["resolution"] = [4.0, 4.0, 4.0]
    store = Store(f"{gs_uri}/c.n5")
    layout = {"dimensions": [4, 5, 6], "blockSize": [4, 5, 6], "dataType": "uint16"}
    store.write_json("attributes.json", {"n5": "2.0.0"})
    store.write_json("d/attributes.json", {**layout, "compression": {"type": "raw"}})
    head = np.array([0, 3], ">u2").tobytes() + np.array([4, 5, 6], ">u4").tobytes()
    store.write_bytes("d/0/0/0", head + data.astype(">u2").tobytes())
    for number, source in enumerate((f"{gs_uri}/plain.zarr", f"{gs_uri}/c.n5/d")):
        dest = f"{gs_uri}/{number}.zarr"
        import_array(source, dest, voxel_size=SIZE, chunk=(2, 2, 2))
        np.testing.assert_array_equal(open_array(dest).read(), data)


def test_what_is_not_there_is_said(gs_uri: str) -> None:
    nowhere = f"gs://none-{uuid4().hex[:6]}/s"
    with pytest.raises(SegError, match=r"no OME-Zarr is there .*seg import SOURCE gs://"):
        open_array(f"{gs_uri}/none.zarr")
    zarr.create_array(f"{gs_uri}/bare.zarr", shape=(2, 2, 2), chunks=(2, 2, 2), dtype="uint8")
    with pytest.raises(SegError, match=r"is a bare array without OME-Zarr metadata"):
        open_array(f"{gs_uri}/bare.zarr")
    with pytest.raises(SegError, match=rf"{nowhere}/a: there is no bucket {nowhere[:-2]}; make"):
        Store(nowhere).write_bytes("a", b"1")
    with pytest.raises(SegError, match=r"there is no bucket"):
        Store(nowhere).create_bytes("a", b"1")
    assert Store(nowhere).read_json("a.json") is None
    assert Store(nowhere).names("", ".yaml") == []
