"""What steps print, kept in the store: it can be read in the UI when their pods are gone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import dagster as dg
from dagster._core.storage.cloud_storage_compute_log_manager import (
    CloudStorageComputeLogManager,
    PollingComputeLogSubscriptionManager,
)
from dagster._core.storage.compute_log_manager import CapturedLogSubscription, ComputeIOType
from dagster._core.storage.local_compute_log_manager import (
    IO_TYPE_EXTENSION,
    LocalComputeLogManager,
)
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from seg_core.store import Store

FOLDER = "logs"
EVERY = 20  # seconds between copies of what is printed so far


class StoreLogs(CloudStorageComputeLogManager[dg.DagsterInstance], ConfigurableClass):
    """Printed to a file of the pod, which is copied to `logs/` of the store."""

    def __init__(
        self, local_dir: str = "/tmp/logs", inst_data: ConfigurableClassData | None = None
    ) -> None:
        self._inst_data = inst_data
        self._local = LocalComputeLogManager(local_dir)
        self._store = Store()
        self._subscriptions = PollingComputeLogSubscriptionManager(self)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Where Dagster's configuration names this."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """What may be set in dagster.yaml."""
        return {"local_dir": dg.Field(dg.StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "StoreLogs":
        """As dagster.yaml says."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def local_manager(self) -> LocalComputeLogManager:
        """Files of this pod."""
        return self._local

    @property
    def upload_interval(self) -> int:
        """Seconds; what a pod printed that is killed is kept but for the last ones."""
        return EVERY

    def _path(self, key: Sequence[str], kind: ComputeIOType, partial: bool = False) -> str:
        ending = IO_TYPE_EXTENSION[kind] + (".partial" if partial else "")
        return f"{FOLDER}/{'/'.join(key)}.{ending}"

    def delete_logs(
        self, log_key: Sequence[str] | None = None, prefix: Sequence[str] | None = None
    ) -> None:
        """Remove those of a step, or all below a run."""
        self._local.delete_logs(log_key, prefix)
        for kind in ComputeIOType if log_key else ():
            for partial in (False, True):
                self._store.remove(self._path(log_key or [], kind, partial))
        if prefix:
            self._store.remove(f"{FOLDER}/{'/'.join(prefix)}")

    def download_url_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> None:
        """None: the webserver shows them itself."""

    def display_path_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> str:
        """Where the file lies."""
        return self._store.path(self._path(log_key, io_type))

    def cloud_storage_has_logs(
        self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False
    ) -> bool:
        """Whether the store has them."""
        return self._store.exists(self._path(log_key, io_type, partial))

    def upload_to_cloud_storage(
        self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False
    ) -> None:
        """Copy what was printed so far, or all of it."""
        source = Path(self._local.get_captured_local_path(log_key, IO_TYPE_EXTENSION[io_type]))
        content = source.read_bytes() if source.exists() else b""
        self._store.write_bytes(self._path(log_key, io_type, partial), content)

    def download_from_cloud_storage(
        self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False
    ) -> None:
        """Fetch them for the webserver."""
        ending = IO_TYPE_EXTENSION[io_type]
        target = Path(self._local.get_captured_local_path(log_key, ending, partial=partial))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self._store.read_bytes(self._path(log_key, io_type, partial)))

    def get_log_keys_for_log_key_prefix(
        self, log_key_prefix: Sequence[str], io_type: ComputeIOType
    ) -> list[list[str]]:
        """Keys of all logs below a run."""
        ending = f".{IO_TYPE_EXTENSION[io_type]}"
        names = self._store.names(f"{FOLDER}/{'/'.join(log_key_prefix)}", ending)
        return [[*log_key_prefix, name] for name in names]

    def on_subscribe(self, subscription: CapturedLogSubscription) -> None:
        """The page of a run asks again every few seconds."""
        self._subscriptions.add_subscription(subscription)

    def on_unsubscribe(self, subscription: CapturedLogSubscription) -> None:
        """It was left."""
        self._subscriptions.remove_subscription(subscription)

    @contextmanager
    def open_log_stream(
        self, log_key: Sequence[str], io_type: ComputeIOType
    ) -> Iterator[IO[Any] | None]:
        """A file to write to, copied to the store at its end."""
        with super().open_log_stream(log_key, io_type) as stream:
            yield stream
