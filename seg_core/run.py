"""A run: one training experiment, from one YAML file, frozen when it is first used."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from seg_core.architectures import AnyArchitecture
from seg_core.architectures.unet import UNet
from seg_core.augment import AnyAugmentation, Intensity, Mirror, Noise, Rotate90
from seg_core.errors import SegError
from seg_core.schema import Strict, check_name, parse
from seg_core.store import Store
from seg_core.tasks import AnyTask
from seg_core.tasks.affinities import Affinities
from seg_core.volumes.declared import Shape


class SourceConfig(Strict):
    """A part of a declared volume."""

    volume: str
    """Name of a declared volume that has labels."""
    roi: str | None = None
    """Slices in voxels, z, y, x, as in '0:160, :, :'; the volume's ROI unless given."""
    weight: PositiveInt = 1
    """How often crops come from it, relative to the others."""


class DatasplitConfig(Strict):
    """What is trained on and what is validated on."""

    train: Annotated[list[SourceConfig], Field(min_length=1)]
    validate_: Annotated[list[SourceConfig], Field(min_length=1, alias="validate")]


class TrainerConfig(Strict):
    """The training loop. It ends by iterations, never by the clock."""

    iterations: PositiveInt = 1500
    batch_size: PositiveInt = 1
    crop: Shape = (64, 64, 64)
    """Voxels of a training crop."""
    learning_rate: PositiveFloat = 2e-3
    """Of AdamW; it warms up, then falls along a cosine to zero."""
    warm_up: NonNegativeInt = 30
    """Iterations."""
    weight_decay: NonNegativeFloat = 0.01
    clip: PositiveFloat = 5.0
    """Largest norm of the gradient."""
    candidates: PositiveInt = 3
    """Half of the crops are the one with most labelled objects of so many."""
    augment: list[AnyAugmentation] = [Mirror(), Rotate90(), Intensity(), Noise()]
    checkpoint_interval: PositiveInt = 500
    """Iterations between checkpoints; the last iteration is always one."""
    seed: NonNegativeInt = 0


class ValidationConfig(Strict):
    """Which checkpoints are scored, and by what the best is chosen."""

    last: PositiveInt = 1
    """How many of the last checkpoints are scored."""
    criterion: str | None = None
    """A score's name; the task's own unless given."""


class ComputeConfig(Strict):
    """What a step may use; device and threads are part of what makes a result reproducible."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt | None = None
    """Threads of torch; all cores of the machine that first uses the run unless given."""
    workers: PositiveInt = 1
    """Processes that share the sub-blocks of predict and segment."""
    memory: Annotated[float, Field(gt=0)] = 8.0
    """GB that a step may take; what will not fit is refused before it starts."""
    predict: Shape | None = None
    """Voxels that are predicted at once, a multiple of the volume's chunk."""


class PredictionConfig(Strict):
    """How the network's output is stored."""

    dtype: Literal["uint8", "float32"] = "uint8"
    """uint8: 255 stands for 1."""


class RunConfig(Strict):
    """The YAML file of a run."""

    datasplit: DatasplitConfig
    task: AnyTask = Affinities()
    architecture: AnyArchitecture = UNet()
    trainer: TrainerConfig = TrainerConfig()
    validation: ValidationConfig = ValidationConfig()
    prediction: PredictionConfig = PredictionConfig()
    compute: ComputeConfig = ComputeConfig()

    @property
    def criterion(self) -> str:
        """The score that chooses the best."""
        return self.validation.criterion or self.task.criterion


@dataclass(frozen=True)
class Run:
    """A run of the store."""

    store: Store
    name: str
    config: RunConfig

    @property
    def folder(self) -> str:
        """Where everything made by the run lies, relative to the store."""
        return f"runs/{self.name}"

    @cached_property
    def frozen(self) -> RunConfig:
        """The config with every default, written at first use; what may change without effect on
        the result (workers, memory) is as the file now says.

        Raises:
            SegError: the file was edited since, in what the result depends on.
        """
        now = resolve(self.config)
        before = self.store.read_json(f"{self.folder}/run.json")
        content = now.model_dump(mode="json", by_alias=True)
        if before is None:
            self.store.write_json(f"{self.folder}/run.json", content)
        elif changes := _differences(_lasting(_completed(before)), _lasting(content)):
            raise SegError(
                f"run {self.name} is frozen since its first use, but its file was edited: "
                f"{'; '.join(changes)}; undo that, or make it a new run of another name"
            )
        return now


def resolve(config: RunConfig) -> RunConfig:
    """The config with what depends on the machine made explicit."""
    threads = config.compute.threads or os.cpu_count() or 1
    return config.model_copy(
        update={"compute": config.compute.model_copy(update={"threads": threads})}
    )


def _completed(before: dict[str, Any]) -> dict[str, Any]:
    """A stored config with the defaults of settings that came with a newer version."""
    return RunConfig.model_validate(before).model_dump(mode="json", by_alias=True)


def _lasting(content: dict[str, Any]) -> dict[str, Any]:
    compute = {k: v for k, v in content["compute"].items() if k not in ("workers", "memory")}
    return {**content, "compute": compute}


def _differences(before: Any, now: Any, at: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(k for k in now if k not in before)]
        return [d for k in keys for d in _differences(before.get(k), now.get(k), f"{at}.{k}")]
    return [] if before == now else [f"{at.lstrip('.')} was {before!r} and is {now!r}"]


def load_run(store: Store, name: str) -> Run:
    """A run by its name.

    Raises:
        SegError: there is none, or its file is wrong.
    """
    path = f"runs/{check_name('run', name)}.yaml"
    if not store.exists(path):
        known = ", ".join(run_names(store)) or "none"
        raise SegError(
            f"no run {name!r} in {store.uri} (there: {known}); add it with: seg run add FILE"
        )
    return Run(store, name, parse(RunConfig, store.read_bytes(path), store.path(path)))


def run_names(store: Store) -> list[str]:
    """Every run, sorted."""
    return store.names("runs", ".yaml")


def add_run(store: Store, name: str, text: bytes, source: str) -> Run:
    """Add a run, or replace one that was not used yet, after all of it was checked.

    Raises:
        SegError: its file is wrong, or the run is frozen and differs; nothing was written.
    """
    run = Run(store, check_name("run", name), parse(RunConfig, text, source))
    if store.exists(f"{run.folder}/run.json"):
        _ = run.frozen
    store.write_bytes(f"runs/{name}.yaml", text)
    return run
