"""A network that fails: nothing is lost, nothing hangs, and what cannot be done is said."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from time import monotonic
from uuid import uuid4

import numpy as np
import pytest
from faulty_proxy import Fault, FaultyProxy, Request, Rule
from gcs_server import free_port, reached_at
from test_gcs import SIZE, voxels
from tiny_run import make_run, make_volume

from seg_core import remote
from seg_core.blockwise.engine import Options
from seg_core.blockwise.records import Record, Records
from seg_core.errors import BlocksFailed, SegError
from seg_core.geometry import Box
from seg_core.lease import Lease
from seg_core.segment import fragment_volume, predict_volume
from seg_core.store import Store
from seg_core.train import train
from seg_core.validation.best import Best
from seg_core.volumes.declared import load_volume
from seg_core.volumes.ome_zarr import ZarrArray, create, open_array

pytestmark = pytest.mark.slow

BOUND = 120  # seconds after which a store that does not answer is an error, whatever is asked
PASSING: list[Fault] = ["503", "429", "reset", "cut", "lost"]


def first_tries(*faults: Fault) -> Rule:
    """The first try for every object (or listing) fails, by one after the other of these."""
    tries: Counter[tuple[str, ...]] = Counter()

    def rule(request: Request) -> Fault:
        prefix = request.query.partition("prefix=")[2] if request.path.endswith("/o") else ""
        what = (request.method, request.path, prefix, _name(request))
        tries[what] += 1
        return faults[request.number % len(faults)] if tries[what] == 1 else "pass"

    return rule


def _name(request: Request) -> str:
    """An upload names its object in its query or in its body."""
    upload = request.path.startswith("/upload")
    return request.query + request.body[:200].decode(errors="replace") if upload else ""


def some(share: float, seed: int) -> Rule:
    """Any fault that passes, for this share of all requests."""
    random = Random(seed)
    return lambda _: random.choice(PASSING) if random.random() < share else "pass"


def use_files(store: Store) -> None:
    """Every way in which files are used, with what must come of it."""
    store.write_bytes("f/a.json", b"[1]")
    store.write_bytes("f/a.json", b"[2]")
    assert store.create_bytes("f/b.json", b"[3]")
    assert not store.create_bytes("f/b.json", b"[4]")
    assert store.read_folder("f") == {"a": b"[2]", "b": b"[3]"}
    assert store.names("f", ".json") == ["a", "b"]
    assert store.exists("f/a.json") and not store.exists("f/c.json")
    assert store.read_json("f/c.json") is None
    store.remove_file("f/a.json")
    store.remove("f")
    assert store.names("f", ".json") == []
    with Lease(store, "one.lock", "it"):
        assert store.exists("one.lock")
    assert not store.exists("one.lock")


def use_array(uri: str) -> None:
    data = np.random.default_rng(0).integers(0, 255, (32, 32, 32), np.uint8)
    box = Box.of_shape(data.shape)
    array = create(ZarrArray(uri, box, None, "uint8", SIZE, (16, 16, 16)))
    array.write(box, data)
    np.testing.assert_array_equal(open_array(uri).read(), data)


@pytest.mark.parametrize("faults", [["503"], PASSING, ["slow"]])
def test_what_fails_at_first_is_done_all_the_same(
    faults: list[Fault], gs_uri: str, gcs: FaultyProxy
) -> None:
    with gcs.doing(first_tries(*faults)) as traffic, ThreadPoolExecutor(2) as pool:
        files = pool.submit(use_files, Store(gs_uri))
        use_array(f"{gs_uri}/a.zarr")
        files.result()
        assert sum(traffic.faults[fault] for fault in faults) > 20


@pytest.mark.timed
def test_a_server_that_falls_silent_is_asked_again(
    gs_uri: str, gcs: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SILENT_SECONDS", 1)
    store = Store(gs_uri)
    with gcs.doing(first_tries("silent")) as traffic:
        began = monotonic()
        store.write_bytes("a", b"1")
        assert store.read_bytes("a") == b"1"
        assert traffic.faults["silent"] == 2
        assert 2 <= monotonic() - began < 30
    # tensorstore looks at this once in a process
    environment = {**os.environ, "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    code = "import sys; from test_gcs_faults import use_array; use_array(sys.argv[1])"
    with gcs.doing(lambda r: "silent" if _is_chunk(r) and rule(r) != "pass" else "pass") as traffic:
        rule = first_tries("silent")
        command = [sys.executable, "-c", code, f"{gs_uri}/a.zarr"]
        subprocess.run(command, env=environment, check=True, timeout=BOUND)
        assert traffic.faults["silent"] == 16  # every chunk, once written and once read


def _is_chunk(request: Request) -> bool:
    return "/0/c/" in request.path + request.query


@pytest.fixture(scope="module")
def prepared(gcs_proxy: FaultyProxy) -> Store:
    """A trained run and a volume, and in another folder what comes of its first blocks."""
    with reached_at(gcs_proxy.url):
        store = Store("gs://bucket/faults")
        make_volume(store)
        run = make_run(store)
        train(run)
        best = Best(12, {}, "voi_sum", 0.0, {})  # it needs no scores to predict by
        store.write_json(f"{run.folder}/best.json", best.__dict__)
    return store


KEYS = ["z0000y0000x0000", "z0000y0000x0001", "z0000y0001x0000", "z0000y0001x0001"]


def test_blocks_are_what_they_are_in_good_weather(prepared: Store, gcs: FaultyProxy) -> None:
    run, volume = make_run(prepared), load_volume(prepared, "phantom")
    made = []
    for rule in (lambda _: "pass", some(0.1, seed=1)):
        with gcs.doing(rule) as traffic:
            for step in (predict_volume, fragment_volume):
                assert step(run, volume, KEYS, Options(force=uuid4().hex)).made == KEYS
            made.append(
                {
                    name: {
                        key: Records(prepared, f"runs/tiny/phantom/blocks/{name}").read(key).content
                        for key in KEYS
                    }
                    for name in ("prediction", "fragments")
                }
            )
            made[-1]["voxels"] = voxels(prepared, "fragments")[:24].tobytes()
    assert made[0] == made[1]
    assert sum(traffic.faults[fault] for fault in PASSING) > 20


@pytest.mark.timed
def test_a_block_that_cannot_be_written_fails_and_no_other(
    prepared: Store, gcs: FaultyProxy
) -> None:
    run, volume = make_run(prepared), load_volume(prepared, "phantom")
    bad = "z0001y0000x0000"  # of chunks 2 to 3, 0 to 1, 0 to 1
    keys = [KEYS[0], bad, "z0002y0000x0000"]

    def rule(request: Request) -> Fault:
        lost = "prediction.zarr/0/c/0/2/" in _name(request)
        return "503" if lost else "pass"

    with gcs.doing(rule), pytest.raises(BlocksFailed) as failed:
        began = monotonic()
        predict_volume(run, volume, keys, Options(force=uuid4().hex))
    assert monotonic() - began < BOUND
    assert list(failed.value.failed) == [bad]
    uri = prepared.path("runs/tiny/phantom/prediction.zarr")
    assert failed.value.failed[bad].startswith(
        f"{uri}: the object store cannot be reached, after several tries: "
    )
    records = Records(prepared, "runs/tiny/phantom/blocks/prediction").read_all()
    assert [records[key].state for key in keys] == ["done", "failed", "done"]
    assert predict_volume(run, volume, keys, Options()).made == [bad]


@pytest.mark.timed
def test_a_store_that_is_always_refused_is_an_error_within_two_minutes(
    gs_uri: str, gcs: FaultyProxy
) -> None:
    """Nothing that could not be asked counts as not there: it would be made again, or lost."""
    store = Store(gs_uri)
    store.write_json("r/a.json", Record("done").__dict__)
    array = create(
        ZarrArray(f"{gs_uri}/a.zarr", Box.of_shape((8, 8, 8)), None, "uint8", SIZE, (8, 8, 8))
    )
    uses: list[Callable[[], object]] = [
        lambda: store.exists("r/a.json"),
        lambda: store.read_bytes("r/a.json"),
        lambda: store.read_json("r/a.json"),
        lambda: store.read_folder("r"),
        lambda: store.names("r", ".json"),
        lambda: store.write_bytes("r/a.json", b""),
        lambda: store.create_bytes("r/b.json", b""),
        lambda: store.remove("r"),
        lambda: store.remove_file("r/a.json"),
        lambda: store.remove_json("r/a.json", {}),
        lambda: Lease(store, "one.lock", "it").__enter__(),
        lambda: open_array(array.uri),
        array.read,
        lambda: create(array),
    ]

    def fails(use: Callable[[], object]) -> str:
        with pytest.raises(SegError) as error:
            use()
        return str(error.value)

    # listings pass: it is the records that cannot be read
    with gcs.doing(
        lambda r: "pass" if r.path.endswith("/b/bucket/o") and "prefix" in r.query else "503"
    ):
        assert store.names("r", ".json") == ["a"]
        one = ThreadPoolExecutor(1).submit(fails, lambda: store.read_folder("r"))
        assert "the object store cannot be reached" in one.result(BOUND)
    with gcs.doing(lambda _: "503"), ThreadPoolExecutor(len(uses)) as pool:
        began = monotonic()
        errors = list(pool.map(fails, uses))
        assert monotonic() - began < BOUND
    for error in errors:
        assert error.startswith(gs_uri)
        assert "the object store cannot be reached, after several tries: injected" in error or (
            "All 5 retry attempts failed: injected" in error
        )
    assert store.read_json("r/a.json") == Record("done").__dict__  # nothing was removed


def test_no_server_is_one_sentence_of_the_command(gs_uri: str) -> None:
    environment = {
        **os.environ,
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{free_port()}",
        "SEG_STORE": gs_uri,
    }
    code = "from seg_core.cli import main; main()"
    command = [sys.executable, "-c", code, "volume", "list"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, err = process.communicate(timeout=BOUND)
    assert (process.returncode, out) == (1, "")
    assert err.startswith(f"Error: {gs_uri}/volumes: the object store cannot be reached")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Cannot connect to host 127.0.0.1:40367 ssl:default", "cannot be reached"),
        ("Cannot connect to host 127.0.0.1:54010 ssl:default", "cannot be reached"),
        ("HTTP response code: 403 with body: Forbidden", "refused"),
        ("Anonymous caller does not have storage.objects.get access, 401", "refused"),
    ],
)
def test_a_port_is_no_refusal(text: str, said: str) -> None:
    assert f"the object store {said}" in remote.unreachable("gs://bucket/a", OSError(text))


@pytest.mark.timed
def test_a_missing_credential_is_one_sentence(gs_uri: str, gcs: FaultyProxy) -> None:
    """As the real one answers who has none: 401."""
    with gcs.doing(lambda _: "401"), pytest.raises(SegError) as refused:
        began = monotonic()
        Store(gs_uri).read_bytes("a")
    assert monotonic() - began < 10  # it is not tried again
    assert str(refused.value).startswith(f"{gs_uri}/a: the object store refused: ")
    assert "gcloud auth application-default login" in str(refused.value)
    assert "Workload Identity" in str(refused.value)


def test_a_missing_credential_of_s3_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(SegError, match=r"s3://bucket/s/a: the object store refused: .*aws conf"):
        Store("s3://bucket/s").read_bytes("a")


def test_stopped_while_the_store_is_silent(prepared: Store, gcs: FaultyProxy) -> None:
    """Ctrl-C is heeded though a request is waiting for its answer."""
    environment = {**os.environ, "SEG_STORE": prepared.uri}
    code = "from seg_core.cli import main; main()"
    with (
        gcs.doing(lambda r: "silent" if _is_chunk(r) else "pass") as traffic,
        subprocess.Popen(
            [sys.executable, "-c", code, "predict", "tiny", "phantom", "--force"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process,
    ):
        until = monotonic() + BOUND
        while not traffic.faults["silent"]:
            assert monotonic() < until
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
