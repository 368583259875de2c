"""Files appear whole or not at all, and one process at a time makes a thing."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from seg_core import lease
from seg_core.errors import Busy, SegError
from seg_core.lease import Lease
from seg_core.store import Store

WRITERS = 4


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture(params=["folder", "memory", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A folder of this machine, and object stores: one in this process, one behind a network."""
    if request.param == "gs":
        return Store(request.getfixturevalue("gs_uri"))
    memory = f"memory://{tmp_path.name}"
    return Store(memory if request.param == "memory" else str(tmp_path / "store"))


def test_what_is_written_is_read(store: Store) -> None:
    assert not store.exists("a/b/c.bin")
    store.write_bytes("a/b/c.bin", b"one")
    store.write_bytes("a/b/c.bin", b"two")
    assert store.exists("a/b/c.bin")
    assert store.exists("a/b")
    assert store.read_bytes("a/b/c.bin") == b"two"
    store.write_json("a/d.json", {"z": 1, "a": [1.5, None]})
    assert store.read_json("a/d.json") == {"z": 1, "a": [1.5, None]}
    assert store.read_bytes("a/d.json").startswith(b'{\n "z": 1')  # keys in the order given


def test_what_is_not_there(store: Store) -> None:
    with pytest.raises(SegError, match=r"no file .*nothing"):
        store.read_bytes("nothing")
    assert store.read_json("nothing.json") is None
    assert store.read_folder("nothing") == {}
    assert store.names("nothing", ".json") == []
    store.remove("nothing")


def test_a_file_and_a_folder_are_removed(store: Store) -> None:
    for path in ("a/1", "a/b/2", "c/3"):
        store.write_bytes(path, b"")
    store.remove("a")
    assert not store.exists("a/b/2")
    store.remove("c/3")
    assert not store.exists("c/3")


def test_files_of_a_folder_by_name(store: Store) -> None:
    for name in ("b.json", "a.json", "10.json", "a.yaml", "below/c.json"):
        store.write_bytes(f"folder/{name}", name.encode())
    assert store.names("folder", ".json") == ["10", "a", "b"]
    assert store.names("folder", ".yaml") == ["a"]
    assert store.read_folder("folder") == {
        "10": b"10.json",
        "a": b"a.json",
        "b": b"b.json",
    }
    assert store.read_folder("folder", ".yaml") == {"a": b"a.yaml"}


def test_a_file_is_created_once(store: Store) -> None:
    assert store.create_bytes("locks/one", b"first")
    assert not store.create_bytes("locks/one", b"second")
    assert store.read_bytes("locks/one") == b"first"
    store.remove("locks/one")
    assert store.create_bytes("locks/one", b"third")


@pytest.mark.parametrize("uri", ["gs://b/a[1]b", "gs://b/all*", "s3://b/x#y", "gs://b/what?"])
def test_an_object_store_has_no_patterns_in_its_name(uri: str) -> None:
    with pytest.raises(SegError, match=r"must hold none of \* \? \[ # in its name"):
        Store(uri)


@pytest.mark.parametrize("name", ["a[1]b", "what?", "all*", "one two", "%41", "x#y"])
def test_a_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path / name / "store"))
    (tmp_path / "a1b/store/f").mkdir(parents=True)
    (tmp_path / "a1b/store/f/other.json").write_bytes(b"not ours")
    store.write_bytes("f/k.json", b"{}")
    assert store.create_bytes("f/l.json", b"[]")
    assert store.names("f", ".json") == ["k", "l"]
    assert store.read_folder("f") == {"k": b"{}", "l": b"[]"}
    store.remove("f")
    assert files(tmp_path) == ["a1b/store/f/other.json"]


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEG_STORE", raising=False)
    assert Store().uri == f"{tmp_path}/.local/store"
    monkeypatch.setenv("SEG_STORE", "elsewhere/")
    assert Store().uri == f"{tmp_path}/elsewhere"
    assert Store("/given//").uri == "/given"
    assert Store("gs://bucket/a/").uri == "gs://bucket/a"
    assert not Store("gs://bucket/a").is_local
    store = Store("s")
    assert store.path("a/b") == f"{tmp_path}/s/a/b"
    assert store.path("/x/y") == "/x/y"
    assert store.path("s3://x/y") == "s3://x/y"


def test_a_file_uri_is_a_folder(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/store")
    assert store.is_local
    assert store.uri == f"{tmp_path}/store"
    store.write_bytes("a/b", b"1")
    assert not store.create_bytes("a/b", b"2")
    assert files(tmp_path) == ["store/a/b"]


def test_no_listing_is_kept(tmp_path: Path) -> None:
    """Another machine may have written since: object stores would answer from a cache."""
    for uri in (str(tmp_path), "memory://no-listing"):
        assert Store(uri).fs.storage_options["use_listings_cache"] is False


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    store, size, rounds = Store(str(tmp_path)), 300_000, 30
    store.write_bytes("f/one.json", bytes([0]) * size)
    writing = threading.Event()
    writing.set()

    def write(letter: int) -> None:
        for _ in range(rounds):
            store.write_bytes("f/one.json", bytes([letter]) * size)

    def read() -> int:
        reads = 0
        while writing.is_set() or not reads:
            for content in (store.read_bytes("f/one.json"), store.read_folder("f")["one"]):
                assert len(content) == size
                assert len(set(content)) == 1
            assert store.names("f", ".json") == ["one"]
            reads += 1
        return reads

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        reader = pool.submit(read)
        for writer in [pool.submit(write, letter) for letter in range(WRITERS)]:
            writer.result()
        writing.clear()
        assert reader.result() > 0
    assert files(tmp_path) == ["f/one.json"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_bytes("f/one", b"before")
    store.write_bytes("g/one/below", b"")
    for path, write in (("f/one", store.write_bytes), ("f/new", store.create_bytes)):
        with pytest.raises(TypeError):
            write(path, "no bytes")  # type: ignore[arg-type]
    with pytest.raises(OSError):
        store.write_bytes("g/one", b"a folder is there")
    assert files(tmp_path) == ["f/one", "g/one/below"]
    assert store.read_bytes("f/one") == b"before"


def at_once(number: int, call: Callable[[int], Any]) -> list[Any]:
    """Results of calls that begin at the same moment."""
    barrier = threading.Barrier(number)

    def begin(i: int) -> Any:
        barrier.wait()
        return call(i)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(begin, range(number)))


def test_one_of_many_creates_a_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for number in range(20):
        path = f"f/{number}"
        made = at_once(8, lambda i, path=path: store.create_bytes(path, bytes([i])))
        assert sum(made) == 1
        assert store.read_bytes(path) == bytes([made.index(True)])
    assert len(files(tmp_path)) == 20


def content(store: Store, **changed: Any) -> dict[str, Any]:
    """What a lease of this process says, but for what is given."""
    with Lease(store, "sample", "a sample") as held:
        return dict(json.loads(store.read_bytes(held.path))) | changed


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_holder_is_refused(store: Store) -> None:
    with Lease(store, "l/one.lock", "training of run r"):
        with (
            pytest.raises(Busy) as refused,
            Lease(store, "l/one.lock", "training of run r"),
        ):
            pass
        assert str(refused.value) == (
            f"training of run r: process {os.getpid()} on {socket.gethostname()} is at it; wait "
            "for its end, or stop it first"
        )
        assert store.exists("l/one.lock")  # the refused one took nothing away
        with Lease(store, "l/other.lock", "another"):
            pass
    assert not store.exists("l/one.lock")


def test_another_process_is_refused_until_the_end(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    code = (
        "import sys; from seg_core.lease import Lease; from seg_core.store import Store\n"
        f"with Lease(Store({str(tmp_path)!r}), 'one.lock', 'it'):\n"
        "    print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=f"process {other.pid} on"), Lease(store, "one.lock", "it"):
            pass
        other.kill()
        other.wait()
    assert store.exists("one.lock")
    with Lease(store, "one.lock", "it"):
        assert store.read_json("one.lock")["pid"] == os.getpid()
    assert files(tmp_path) == []


def test_it_is_given_back_after_an_error(store: Store) -> None:
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), Lease(store, "one.lock", "it"):
            raise error
        assert not store.exists("one.lock")


def test_that_of_a_dead_process_of_this_machine_is_taken_at_once(store: Store) -> None:
    store.write_json("one.lock", content(store, pid=ended_process(), owner="dead"))
    with Lease(store, "one.lock", "it"):
        assert store.read_json("one.lock")["pid"] == os.getpid()
    assert not store.exists("one.lock")


def test_a_process_that_ended_unnoticed_by_its_parent_is_dead(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()  # it ends, but nobody has waited for it
        while lease._started(process.pid):
            threading.Event().wait(0.01)
        store.write_json("one.lock", content(store, pid=process.pid, owner="dead"))
        with Lease(store, "one.lock", "it"):
            assert store.read_json("one.lock")["pid"] == os.getpid()


def test_another_process_of_the_same_number_is_not_the_holder(store: Store) -> None:
    """As after the restart of a container, where host and process number are those of before."""
    store.write_json("one.lock", content(store, started="long ago", owner="dead"))
    with Lease(store, "one.lock", "it"):
        assert store.read_json("one.lock")["started"] != "long ago"


def test_one_of_many_takes_that_of_a_dead_process(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    dead = content(store, pid=ended_process(), owner="dead")
    for number in range(20):
        path = f"{number}.lock"
        store.write_json(path, dead)
        ended = threading.Barrier(6)

        def take(_: int, path: str = path, ended: threading.Barrier = ended) -> bool:
            try:
                with Lease(store, path, "it"):
                    ended.wait()  # it is held while all others try
                    return True
            except Busy:
                ended.wait()
                return False

        assert sum(at_once(6, take)) == 1
    assert files(tmp_path) == []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats and waits of a twentieth of a second."""
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 0.5)


@pytest.mark.usefixtures("quick")
def test_a_holder_elsewhere_is_passed_over_when_it_is_not_renewed(store: Store) -> None:
    elsewhere = content(store, host="elsewhere", owner="other")
    store.write_json("one.lock", elsewhere)
    with Lease(store, "one.lock", "it"):
        assert store.read_json("one.lock")["host"] == socket.gethostname()
    assert not store.exists("one.lock")
    # while it is renewed, it holds
    store.write_json("one.lock", elsewhere)
    ended = threading.Event()

    def renew() -> None:
        beat = 0
        while not ended.wait(0.05):
            beat += 1
            store.write_json("one.lock", elsewhere | {"beat": beat})

    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(renew)
        with pytest.raises(Busy, match="on elsewhere is at it"), Lease(store, "one.lock", "it"):
            pass
        ended.set()
        renewing.result()
    assert store.read_json("one.lock")["owner"] == "other"


@pytest.mark.usefixtures("quick")
def test_it_is_renewed_while_it_is_held(store: Store) -> None:
    with Lease(store, "one.lock", "it"):
        first = last = store.read_json("one.lock")
        while last["beat"] < 2:
            threading.Event().wait(0.01)
            last = store.read_json("one.lock")
    assert first["beat"] == 0
    assert last | {"beat": 0} == first


@pytest.mark.usefixtures("quick")
def test_a_holder_that_slept_too_long_leaves_the_next_one_alone(store: Store) -> None:
    with Lease(store, "one.lock", "it"):
        store.write_json("one.lock", {"owner": "next"})  # a machine elsewhere took it
        threading.Event().wait(0.3)
        assert store.read_json("one.lock") == {"owner": "next"}
    assert store.read_json("one.lock") == {"owner": "next"}
