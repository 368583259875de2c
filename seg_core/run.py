"""A run: one training experiment, from one YAML file, frozen when it is first used."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from seg_core.architectures import AnyArchitecture
from seg_core.architectures.unet import UNet
from seg_core.errors import SegError
from seg_core.evaluate.criteria import higher_is_better
from seg_core.geometry import triple
from seg_core.pod_request import PodRequests
from seg_core.schema import Strict, check_name, parse
from seg_core.store import Store
from seg_core.tasks import AnyTask
from seg_core.tasks.affinities import Affinities
from seg_core.training.augment import AnyAugmentation, Intensity, Mirror, Noise, Rotate90
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
    """Crops of an iteration. On CPUs torch takes oneDNN, which is up to twice as fast, for two or
    more of any size, or for one of about 64 x 64 x 64 voxels."""
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
    interval: PositiveInt | None = None
    """Iterations between two scorings while it trains, a multiple of trainer.checkpoint_interval;
    these checkpoints can be the best too. Only the last ones are scored unless given."""
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
    pods: PodRequests = {}
    """What the pods of its steps ask for, by step, where the volume's or the usual is not right."""


FREE = ("workers", "memory", "pods")
"""Fields of `compute` that change no byte of any result, and so may change at any time."""


class PredictionConfig(Strict):
    """How the network's output is stored."""

    dtype: Literal["uint8", "float32"] = "uint8"
    """uint8: 255 stands for 1."""


class StartConfig(Strict):
    """An earlier run of the store, of the same architecture and channels, whose weights are the
    first ones."""

    run: str
    """Its name."""
    iteration: PositiveInt | None = None
    """One of its checkpoints; its best unless given."""


class RunConfig(Strict):
    """The YAML file of a run."""

    datasplit: DatasplitConfig
    start: StartConfig | None = None
    """Where training starts from; weights drawn by the seed unless given."""
    task: AnyTask = Affinities()
    architecture: AnyArchitecture = UNet()
    trainer: TrainerConfig = TrainerConfig()
    validation: ValidationConfig = ValidationConfig()
    prediction: PredictionConfig = PredictionConfig()
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _can_be_trained_and_chosen(self) -> "RunConfig":
        try:
            higher_is_better(self.criterion)
        except SegError as error:
            raise ValueError(f"validation.criterion: {error}") from None
        if (self.validation.interval or 0) % self.trainer.checkpoint_interval:
            raise ValueError(
                f"validation.interval: {self.validation.interval} is no multiple of "
                f"trainer.checkpoint_interval, which is {self.trainer.checkpoint_interval}"
            )
        crop, stride = triple(self.trainer.crop), self.architecture.stride
        shapes = {crop}
        for augmentation in self.trainer.augment:
            shapes = {after for shape in shapes for after in augmentation.shapes(shape)}
        for shape in [crop, *sorted(shapes)]:
            if any(n % s for n, s in zip(shape, stride, strict=True)):
                turned = "" if shape == crop else " (turned by trainer.augment)"
                raise ValueError(
                    f"trainer.crop: {list(shape)}{turned} is no multiple of {list(stride)}, by "
                    "which the architecture pools"
                )
        if len(shapes) > 1 and self.trainer.batch_size > 1:
            raise ValueError(
                f"trainer.crop: {list(crop)} has another shape when trainer.augment "
                "turns it, so a batch can hold one crop only; turn in planes of equal sides"
            )
        return self

    @property
    def criterion(self) -> str:
        """The score that chooses the best."""
        return self.validation.criterion or self.task.criterion


ARCHIVED = "archived.json"
"""Of a run's folder: what it made was freed, but for the best checkpoint."""


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

    @property
    def is_frozen(self) -> bool:
        """Whether the run was used already."""
        return self.store.exists(f"{self.folder}/run.json")

    @property
    def is_archived(self) -> bool:
        """Whether only the best of its checkpoints is kept; it is trained and validated."""
        return self.store.exists(f"{self.folder}/{ARCHIVED}")

    @cached_property
    def frozen(self) -> RunConfig:
        """The config with every default, as it was when the run was first used; what may change
        without effect on the result (workers, memory) is as the file now says.

        Raises:
            SegError: the file was edited since, in what the result depends on.
        """
        path, now = f"{self.folder}/run.json", resolve(self.config)
        before = self.store.read_json(path)
        if before is None:
            content = {"config": _dump(now), "given": _dump(self.config, exclude_unset=True)}
            self.store.write_json(path, content)
            return now
        if changes := _changes(before, self.config):
            raise SegError(
                f"run {self.name} is frozen since its first use, but its file was edited: "
                f"{'; '.join(changes)}; undo that, or make it a new run of another name"
            )
        # defaults may have changed since, with the version of the code; those of then hold
        stored = RunConfig.model_validate(before["config"])
        free = {name: getattr(now.compute, name) for name in FREE}
        return stored.model_copy(update={"compute": stored.compute.model_copy(update=free)})


def resolve(config: RunConfig) -> RunConfig:
    """The config with what depends on the machine made explicit."""
    threads = config.compute.threads or os.cpu_count() or 1
    return config.model_copy(
        update={"compute": config.compute.model_copy(update={"threads": threads})}
    )


def _dump(config: RunConfig, exclude_unset: bool = False) -> dict[str, Any]:
    return config.model_dump(mode="json", by_alias=True, exclude_unset=exclude_unset)


def _changes(before: dict[str, Any], config: RunConfig) -> list[str]:
    """What the file says otherwise than when the run was frozen."""
    was, now = _leaves(before["given"]), _leaves(_dump(config, exclude_unset=True))
    stored, default = _leaves(before["config"]), _leaves(_dump(config))
    changes = []
    for path in {**was, **now}:
        old, new = was.get(path, stored.get(path)), now.get(path, default.get(path))
        free = any(path.startswith(f"compute.{name}") for name in FREE)
        if old != new and not free:
            changes.append(f"{path} was {old!r} and is {new!r}")
    return changes


def _leaves(content: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {at: content}
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _leaves(value, f"{at}.{key}" if at else key)
    return found


def load_run(store: Store, name: str) -> Run:
    """A run by its name.

    Raises:
        SegError: there is none, or its file is wrong.
    """
    path = f"runs/{check_name('run', name)}.yaml"
    if (text := store.find_bytes(path)) is None:
        known = ", ".join(run_names(store)) or "none"
        raise SegError(
            f"no run {name!r} in {store.uri} (there: {known}); add it with: seg run add FILE"
        )
    return Run(store, name, parse(RunConfig, text, store.path(path)))


def run_names(store: Store) -> list[str]:
    """Every run, sorted."""
    return store.names("runs", ".yaml")


def check_start(run: Run) -> None:
    """Refuse to start from a run whose weights do not fit, or are not there yet.

    Raises:
        SegError: one sentence that says what differs, or what is missing.
    """
    if (start := run.config.start) is None:
        return
    earlier = load_run(run.store, start.run)
    there, here = (
        _leaves({"architecture": c.architecture.model_dump(mode="json")})
        | {"task's channels": c.task.channels}
        for c in (earlier.frozen if earlier.is_frozen else earlier.config, run.config)
    )
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if names:
        told = (f"{n} is {there.get(n)!r} there and {here.get(n)!r} here" for n in names)
        raise SegError(f"run {run.name} cannot start from run {start.run}: {'; '.join(told)}")
    needed = f"checkpoints/{start.iteration}.safetensors" if start.iteration else "best.json"
    if not run.store.exists(f"{earlier.folder}/{needed}"):
        wanted = f"checkpoint {start.iteration}" if start.iteration else "best checkpoint"
        raise SegError(
            f"run {run.name} cannot start from run {start.run}, which has no {wanted}; make it "
            f"with: seg train {start.run}; seg validate {start.run}"
        )


def removal_mark(name: str) -> str:
    """A file that is there while a run is being deleted: from before its first file goes."""
    return f"runs/{name}.removing"


def add_run(store: Store, name: str, text: bytes, source: str) -> Run:
    """Add a run, or replace one that was not used yet, after all of it was checked.

    Raises:
        SegError: its file is wrong, it cannot start from the run that it names, or the run is
            frozen and differs, or one of its name is not wholly removed; nothing was written.
    """
    run = Run(store, check_name("run", name), parse(RunConfig, text, source))
    if store.exists(removal_mark(name)):
        raise SegError(
            f"a run {name} is being removed, and what it made is partly there; end that first "
            f"with: seg run remove {name}"
        )
    if run.is_frozen:
        _ = run.frozen
    else:
        check_start(run)
    store.write_bytes(f"runs/{name}.yaml", text)
    return run
