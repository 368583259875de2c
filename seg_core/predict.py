"""4. Predict: a volume through the network, block by block, equal to the whole volume at once."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from seg_core.architectures.receptive_field import find_halo
from seg_core.blockwise.engine import Options, Outcome, run_blocks
from seg_core.blockwise.output import Output
from seg_core.blockwise.records import FEW, Inputs
from seg_core.blockwise.stage import Stage
from seg_core.errors import SegError
from seg_core.fingerprint import content, fingerprint
from seg_core.geometry import Box, Triple, triple
from seg_core.run import Run
from seg_core.training.checkpoint import load_network
from seg_core.training.crops import normalized
from seg_core.training.device import open_device
from seg_core.volumes.contents import region_content
from seg_core.volumes.mask import kept
from seg_core.volumes.ome_zarr import ZarrArray, create
from seg_core.volumes.stamps import chunk_stamps, region_stamp

if TYPE_CHECKING:
    from torch import Tensor

NOT_FINITE = "the network's output is not finite"
LARGEST = 128**3  # voxels that are predicted at once, unless the run says otherwise
_ONE_NETWORK = Lock()  # of pieces at once, one is in the network: memory is asked for one


@dataclass(frozen=True)
class Predict(Stage):
    """The network's output for a volume, uint8 (255 is 1) or float32, (c, z, y, x)."""

    name: ClassVar[str] = "prediction"
    version: ClassVar[int] = 1

    run: Run
    iteration: int

    @cached_property
    def _checkpoint(self) -> tuple[Any, dict[str, Any], str]:
        return load_network(self.run, self.iteration)

    @cached_property
    def _device(self) -> Any:
        import torch

        device = open_device(self.run.frozen.compute)
        self._checkpoint[0].to(device).to(memory_format=torch.channels_last_3d)
        return device

    @cached_property
    def halo(self) -> Triple:
        """Voxels of context on each side of a piece."""
        network, provenance, _ = self._checkpoint
        if "halo" in provenance:
            return triple(provenance["halo"])
        return find_halo(network, provenance["channels"], self.run.frozen.architecture.stride)

    @cached_property
    def array(self) -> ZarrArray:
        """What is written."""
        config = self.run.frozen
        scale = 1 / 255 if config.prediction.dtype == "uint8" else 1.0
        attributes = {"channels": config.task.channels, "scale": scale}
        count = len(config.task.channels)
        return self.output.array("prediction", config.prediction.dtype, count, attributes)

    @property
    def at_once(self) -> int:
        """On a GPU some pieces are read and written while one is computed."""
        return 4 if self._device.type == "cuda" else 1

    @property
    def piece(self) -> Triple:
        """Voxels that are predicted at once."""
        volume = self.output.volume.config
        if (asked := self.run.frozen.compute.predict) is not None:
            return triple(asked)
        return _grown(volume.chunk, volume.block)

    def made_from(self, keys: Collection[str]) -> dict[str, Inputs | str]:
        """Checkpoint, raw data with its halo, mask, and all that decides how it is computed."""
        raw, config = self.output.volume.raw, self.run.frozen
        grid, masks = self.output.grid, self._masks(keys)
        regions = {key: grid.box(key).grow(self.halo) for key in keys}
        stamps = chunk_stamps(raw, list(regions.values()) if len(regions) <= FEW else None)
        settings = fingerprint(
            config.prediction.model_dump(), self.piece, config.compute.threads, self.version
        )
        return {
            key: {
                "block": self.output.place(key),
                "checkpoint": self._checkpoint[2],
                "raw data": region_stamp(raw, stamps, region),
                "settings": settings,
                **masks.get(key, {}),
            }
            for key, region in regions.items()
        }

    def _masks(self, keys: Collection[str]) -> dict[str, Inputs]:
        """Of blocks that are partly inside: the mask, as far as their affinities reach."""
        mask, grid = self.output.volume.mask, self.output.grid
        if mask is None:
            return {}
        reach = [max((o[a] for o in self.run.frozen.task.neighbours), default=0) for a in range(3)]
        regions = {key: grid.box(key).grow([0] * 3, reach).clip(grid.roi) for key in keys}
        return {k: {"mask": digest} for k, digest in mask.describe(regions).items() if digest}

    def contents(self, key: str) -> dict[str, str]:
        """The voxels behind the stamp of the raw data."""
        region = self.output.grid.box(key).grow(self.halo)
        return {"raw data": region_content(self.output.volume.raw, region)}

    def prepare(self) -> None:
        """Check piece, channels and memory; make the array.

        Raises:
            SegError: something does not fit.
        """
        volume = self.output.volume
        if any(p % c for p, c in zip(self.piece, volume.config.chunk, strict=True)):
            raise SegError(
                f"compute.predict {list(self.piece)} of run {self.run.name} is no multiple of the "
                f"chunk {list(volume.config.chunk)} of volume {volume.name}"
            )
        if (volume.raw.channels or 1) != self._checkpoint[1]["channels"]:
            raise SegError(
                f"volume {volume.name} has {volume.raw.channels or 1} channel(s), run "
                f"{self.run.name} was trained on {self._checkpoint[1]['channels']}"
            )
        self._check_memory()
        create(self.array, overwrite=True)

    def _check_memory(self) -> None:
        config = self.run.frozen
        need = estimate_memory(
            self._checkpoint[0],
            self._checkpoint[1]["channels"],
            self.context(Box.of_shape(self.piece)).shape,
            config.architecture.stride,
        )
        need *= config.compute.workers
        if need > config.compute.memory:
            raise SegError(
                f"predicting {list(self.piece)} voxels at once with {config.compute.workers} "
                f"worker(s) takes about {need:.1f} GB, but compute.memory of run {self.run.name} "
                f"is {config.compute.memory:g} GB; set a smaller compute.predict or more memory"
            )

    def sub_blocks(self, box: Box) -> list[Box]:
        """Pieces as large as is good for the network."""
        return list(box.tiles(self.piece))

    def make(self, key: str, box: Box) -> str:  # noqa: ARG002 - pieces know nothing of blocks
        """Predict one piece.

        Raises:
            SegError: a value is nan or infinite, which uint8 would hide.
        """
        import torch

        with torch.inference_mode():
            values = self._predict_inside(box)
            if not values.isfinite().all():
                raise SegError(f"{NOT_FINITE} in {box}: look for such values in the raw data there")
            if self.array.dtype == "uint8":
                # before it leaves the device: of bytes there is a quarter to bring
                values = (values * 255).round().to(torch.uint8)
        stored = values.contiguous().cpu().numpy()
        self.array.write(box, stored)
        return content(stored)

    def _predict_inside(self, box: Box) -> "Tensor":
        """As `predict_box`, with zeros outside the mask; what is wholly outside costs nothing."""
        import torch

        mask, task = self.output.volume.mask, self.run.frozen.task
        if mask is None:
            return self.predict_box(box)
        stay = kept(mask, box, self.output.grid.roi, task.neighbours)
        if not stay.any():
            return torch.zeros(len(task.channels), *box.shape)
        return self.predict_box(box) * torch.from_numpy(stay).to(self._device)

    def predict_box(self, box: Box) -> "Tensor":
        """Output of the network for a box, (c, z, y, x) float32 in 0 to 1, on the device.

        The input is the box with its halo, begun at a multiple of the pooling stride from the
        volume's first voxel, so that every voxel meets the same pooling as in any other box.
        """
        import torch

        context = self.context(box)
        network, provenance, _ = self._checkpoint
        raw = normalized(self.output.volume.raw.read_mirrored(context), provenance["normalize"])
        image = torch.from_numpy(raw if raw.ndim == 4 else raw[None])[None]
        inner = box.relative_to(context.begin).slices
        with torch.inference_mode(), _ONE_NETWORK:
            logits = network(image.to(self._device, memory_format=torch.channels_last_3d))
            values = self.run.frozen.task.activation(logits)[0]
            return values[(slice(None), *inner)].float()

    def context(self, box: Box) -> Box:
        """What the network reads for a box: the box, its halo, and what pooling adds."""
        stride = self.run.frozen.architecture.stride
        grown = box.grow(self.halo)
        begin = [b // s * s for b, s in zip(grown.begin, stride, strict=True)]
        end = [-(-e // s) * s for e, s in zip(grown.end, stride, strict=True)]
        return Box(triple(begin), triple(end))

    def finish(self, key: str, digests: list[str]) -> tuple[str, dict[str, float]]:  # noqa: ARG002
        """Nothing is left to do: the pieces are the block."""
        return fingerprint(digests), {}


def _grown(chunk: Triple, block: Triple) -> Triple:
    """A chunk doubled along its shortest sides, as large as a piece may be: the least halo."""
    piece = list(chunk)
    while any(p < b for p, b in zip(piece, block, strict=True)):
        axis = min((a for a in range(3) if piece[a] < block[a]), key=lambda a: piece[a])
        longer = min(2 * piece[axis], block[axis])
        if np.prod(piece) // piece[axis] * longer > LARGEST:
            break
        piece[axis] = longer
    return triple(piece)


def estimate_memory(network: Any, channels: int, shape: Triple, stride: Triple) -> float:
    """GB that one forward pass takes at most: all outputs of its layers that can be alive at once.

    Measured by hooks on a small input and carried to `shape`; a quarter more for the library's
    own buffers.
    """
    import torch

    small = [8 * s for s in stride]
    sizes: list[int] = []

    def note(_: Any, __: Any, result: Any) -> None:
        if isinstance(result, torch.Tensor):
            sizes.append(result.numel() * result.element_size())

    leaves = [m for m in network.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    with torch.inference_mode():
        network(torch.zeros(1, channels, *small, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    # the largest ones are those at full resolution: two of a layer, one of a skip, input of a join
    alive = sum(sorted(sizes)[-5:])
    return float(alive * np.prod(shape) / np.prod(small) * 1.25 / 1e9)


def predict(
    run: Run, output: Output, iteration: int, keys: list[str] | None, options: Options
) -> Outcome:
    """Bring prediction blocks up to date.

    Raises:
        BlocksFailed: some could not be made.
        SegError: none can.
    """
    return run_blocks(Predict(output, run, iteration), keys, options)
