"""Training crops: where they are cut, and how they are changed.

A crop depends on its number only, so training resumes exactly.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from seg_core.errors import SegError
from seg_core.geometry import Box
from seg_core.run import RunConfig
from seg_core.source import Source
from seg_core.training.augment import compose

BYTES_PER_VOXEL = 6  # raw, ids, and where these are known


@dataclass(frozen=True)
class Loaded:
    """A source in memory: raw (c, z, y, x), ids and known (1, z, y, x)."""

    raw: NDArray[Any]
    ids: NDArray[np.int32]
    known: NDArray[np.bool_]


class Crops:
    """Batches of a run's training data by iteration number."""

    def __init__(self, config: RunConfig, sources: list[Source], normalize: dict[str, float]):
        self.trainer = config.trainer
        self.normalize = normalize
        self.loaded = [_load(config, s) for s in sources]
        self.share = np.array([s.weight for s in sources]) / sum(s.weight for s in sources)
        self.transforms = compose(config.trainer.augment)

    @property
    def nbytes(self) -> int:
        """Bytes of a batch."""
        voxels = int(np.prod(self.trainer.crop)) * self.trainer.batch_size
        return voxels * (len(self.loaded[0].raw) * 4 + 4 + 1)

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Raw (b, c, z, y, x) normalised, ids and known (b, z, y, x) of an iteration."""
        crops = [self._crop(iteration, i) for i in range(self.trainer.batch_size)]
        raw, ids, known = (torch.stack([crop[k] for crop in crops]) for k in range(3))
        return raw, ids[:, 0], known[:, 0]

    def batches(self, first: int, last: int, processes: int = 0) -> Iterator[Any]:
        """Batches of iterations first to last - 1, each prepared while the one before is used.

        A thread does so, or `processes`: a GPU's kernels are started by this process, and a
        thread beside it would make them wait for Python's lock.
        """
        if processes:
            yield from self._by_processes(first, last, processes)
            return
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.batch, first)
            for iteration in range(first + 1, last + 1):
                ready, coming = coming, pool.submit(self.batch, min(iteration, last - 1))
                yield ready.result()

    def _by_processes(self, first: int, last: int, processes: int) -> Iterator[Any]:
        return iter(
            DataLoader(
                _Batches(self),
                batch_size=None,
                sampler=range(first, last),
                num_workers=processes,
                pin_memory=torch.cuda.is_available(),
                multiprocessing_context="fork",  # the loaded sources are shared, not sent
            )
        )

    def _crop(self, iteration: int, number: int) -> tuple[torch.Tensor, ...]:
        rng = np.random.default_rng([self.trainer.seed, iteration, number])
        tries = self.trainer.candidates if rng.random() < 0.5 else 1
        places = [self._place(rng) for _ in range(tries)]
        source, box = max(places, key=lambda p: np.count_nonzero(p[0].ids[:, *p[1].slices]))
        index = (slice(None), *box.slices)
        raw = normalized(source.raw[index], self.normalize)
        self.transforms.set_random_state(int(rng.integers(2**31)))
        changed = self.transforms(
            {
                "raw": torch.from_numpy(raw),
                "ids": torch.from_numpy(source.ids[index].copy()),
                "known": torch.from_numpy(source.known[index].copy()),
            }
        )
        return tuple(_plain(changed[key]) for key in ("raw", "ids", "known"))

    def _place(self, rng: np.random.Generator) -> tuple[Loaded, Box]:
        source = self.loaded[int(rng.choice(len(self.loaded), p=self.share))]
        room = [n - c for n, c in zip(source.ids.shape[1:], self.trainer.crop, strict=True)]
        begin = [int(rng.integers(r + 1)) for r in room]
        return source, Box.of_shape(self.trainer.crop, begin)


class _Batches(Dataset[tuple[torch.Tensor, ...]]):
    """Batches by iteration number, as a data loader asks for them."""

    def __init__(self, crops: Crops):
        self.crops = crops

    def __getitem__(self, iteration: int) -> tuple[torch.Tensor, ...]:
        return self.crops.batch(iteration)


def _plain(values: Any) -> torch.Tensor:
    """A tensor of torch: MONAI's own kind would slow every layer of the network."""
    return torch.as_tensor(values).as_subclass(torch.Tensor).contiguous()


def check_memory(config: RunConfig, sources: list[Source]) -> None:
    """Refuse training data that does not fit: it is held in memory.

    Raises:
        SegError: with both figures.
    """
    voxels = sum(source.roi.voxels for source in sources)
    if voxels * BYTES_PER_VOXEL > config.compute.memory * 1e9:
        raise SegError(
            f"the training sources hold {voxels / 1e6:.3g} million voxels, "
            f"{voxels * BYTES_PER_VOXEL / 1e9:.2g} GB in memory, but compute.memory is "
            f"{config.compute.memory:g} GB; give smaller ROIs or more memory"
        )


def _load(config: RunConfig, source: Source) -> Loaded:
    raw = source.volume.raw.read(source.roi)
    ids, known = config.task.prepare(source.labels.read(source.roi))
    # a source thinner than a crop goes on as its mirror image, where nothing is known
    short = [max(0, c - n) for c, n in zip(config.trainer.crop, ids.shape, strict=True)]
    pad = [(0, s) for s in short]
    raw = raw if raw.ndim == 4 else raw[None]
    mirrored = np.pad(raw, [(0, 0), *pad], mode="reflect")
    return Loaded(mirrored, np.pad(ids, pad)[None], np.pad(known, pad)[None])


def normalized(raw: NDArray[Any], normalize: dict[str, float]) -> NDArray[np.float32]:
    """An image scaled so that the training data has the mean 0 and the standard deviation 1."""
    return (raw.astype(np.float32) - np.float32(normalize["mean"])) / np.float32(normalize["std"])
