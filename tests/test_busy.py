"""A block that somebody else is making stops only itself, and is no failure of the block."""

from pathlib import Path

import dagster as dg
import pytest
from tiny_run import opened

from seg_assets.definitions import definitions_of
from seg_core.blockwise.engine import Options
from seg_core.blockwise.make_block import lease_path
from seg_core.errors import BlocksFailed
from seg_core.lease import Lease
from seg_core.segment import predict_volume
from seg_core.states import stages_of
from seg_core.store import Store

FIRST, LAST = "z0000y0000x0000", "z0000y0001x0001"
KEYS = [FIRST, "z0000y0000x0001", "z0000y0001x0000", LAST]


@pytest.fixture
def store(store: Store) -> Store:
    """The last two of four blocks are not predicted."""
    for key in KEYS[2:]:
        store.remove(f"runs/tiny/phantom/blocks/prediction/{key}.json")
    return store


def other_at(store: Store, key: str) -> Lease:
    """Somebody else who makes the prediction of a block."""
    return Lease(store, lease_path(stages_of(*opened(store))[0], key), "it")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_others_are_made(store: Store, workers: int) -> None:
    run, volume = opened(store)
    with other_at(store, KEYS[2]), pytest.raises(BlocksFailed, match="it; wait for") as raised:
        predict_volume(run, volume, KEYS, Options(workers))
    assert set(raised.value.failed) == raised.value.busy == {KEYS[2]}
    records = stages_of(run, volume)[0].records
    assert records.read(LAST).state == "done"
    assert (records.read(KEYS[2]).state, records.read(KEYS[2]).tries) == ("missing", 0)
    assert predict_volume(run, volume, KEYS, Options()).made == [KEYS[2]]


def test_dagster_is_told_of_what_is_done(store: Store) -> None:
    asset = definitions_of(store.uri).resolve_assets_def(dg.AssetKey(["phantom", "prediction"]))
    ends = {"start": f"{FIRST}|tiny", "end": f"{LAST}|tiny"}
    with dg.DagsterInstance.ephemeral() as instance, other_at(store, KEYS[2]):
        instance.add_dynamic_partitions("runs", ["tiny"])
        result = dg.materialize(
            [asset],
            instance=instance,
            tags={f"dagster/asset_partition_range_{end}": key for end, key in ends.items()},
            raise_on_error=False,
        )
        made = instance.get_materialized_partitions(asset.key)
    assert not result.success
    assert made == {f"{key}|tiny" for key in KEYS if key != KEYS[2]}


def test_what_cannot_be_prepared_fails_only_what_is_due(store: Store) -> None:
    text = store.read_bytes("runs/tiny.yaml").replace(b"threads: 1", b"threads: 1, memory: 1.0e-4")
    store.write_bytes("runs/tiny.yaml", text)
    run, volume = opened(store)
    with pytest.raises(BlocksFailed, match=r"compute\.memory") as raised:
        predict_volume(run, volume, KEYS, Options())
    assert set(raised.value.failed) == set(KEYS[2:])


def test_a_signal_while_a_lease_is_taken_or_left_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    create, remove = Store.create_bytes, Store.remove_file

    def created(self: Store, path: str, content: bytes) -> bool:
        create(self, path, content)
        raise KeyboardInterrupt

    def interrupted(self: Store, path: str) -> None:
        monkeypatch.setattr(Store, "remove_file", remove)
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "create_bytes", created)
    with pytest.raises(KeyboardInterrupt), Lease(store, "one.lock", "it"):
        raise AssertionError("it was taken")
    monkeypatch.setattr(Store, "create_bytes", create)
    monkeypatch.setattr(Store, "remove_file", interrupted)
    with pytest.raises(KeyboardInterrupt), Lease(store, "one.lock", "it"):
        assert store.exists("one.lock")
    assert not store.exists("one.lock")
