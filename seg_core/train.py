"""2. Train: the loop, from a datasplit to checkpoints. Interrupted, it goes on exactly."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from seg_core.architectures.receptive_field import find_halo
from seg_core.datasplit import make_datasplit, refuse_unfit
from seg_core.errors import SegError
from seg_core.fingerprint import fingerprint
from seg_core.lease import Lease
from seg_core.run import Run, RunConfig
from seg_core.source import open_source
from seg_core.training.checkpoint import (
    checkpoint_path,
    iterations,
    load_tensors,
    save_tensors,
    set_weights,
    weights_of,
)
from seg_core.training.crops import Crops, check_memory
from seg_core.training.device import check_device, crop_processes, open_device
from seg_core.training.start import Start, find_start, note_start, set_start
from seg_core.training.stop import Stop

SAVE_SECONDS = 30.0  # at most so much training is lost when the process is killed

OnLog = Callable[[dict[str, float]], None]
OnCheckpoint = Callable[[int], None]


def train(run: Run, on_log: OnLog | None = None, on_checkpoint: OnCheckpoint | None = None) -> int:
    """Train a run to its end, from where it stands; does nothing when it is trained.

    Args:
        run: the run; it is frozen by this.
        on_log: called with every row of `training.parquet` as it is made.
        on_checkpoint: called with the iteration of every checkpoint as it is written.

    Returns:
        The number of iterations done by this call.

    Raises:
        SegError: the data or the config is unusable, or another process trains this run.
        NotReady: the datasplit failed a check.
    """
    if run.is_archived:
        return 0
    check_device(run.config.compute)
    sources = [open_source(run, c) for c in run.config.datasplit.train]
    check_memory(run.config, sources)
    start = find_start(run, sources[0].volume.raw.channels or 1)
    datasplit = make_datasplit(run)
    refuse_unfit(run)
    made_from = _made_from(run.frozen, datasplit, start)
    last = run.frozen.trainer.iterations
    if last in iterations(run):
        _check_provenance(run, last, made_from)
        run.store.remove(_state_path(run))
        return 0
    with Lease(run.store, f"{run.folder}/train.lock", f"training of run {run.name}"):
        note_start(run, start)
        state = _start(run, datasplit, made_from, open_device(run.frozen.compute))
        return _loop(run, state, on_log, on_checkpoint)


def _made_from(config: RunConfig, datasplit: dict[str, Any], start: Start | None) -> str:
    content = config.model_dump(mode="json", by_alias=True, exclude={"validation", "start"})
    content["task"].pop("postprocess")
    threads = content.pop("compute")["threads"]
    # the weights themselves, not the name of the run that they are of
    first = [start.weights] if start else []
    return fingerprint(content, threads, datasplit["fingerprint"], *first)


def _check_provenance(run: Run, iteration: int, made_from: str) -> None:
    provenance = load_tensors(run, checkpoint_path(run, iteration))[1]
    if provenance["made_from"] != made_from:
        raise SegError(
            f"run {run.name} was trained from other data or settings; a trained run is never "
            "trained again in place: use a new run name"
        )


@dataclass
class State:
    """Everything that changes while training."""

    network: torch.nn.Module
    optimizer: torch.optim.AdamW
    crops: Crops
    device: torch.device
    provenance: dict[str, Any]
    iteration: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)


def _start(run: Run, datasplit: dict[str, Any], made_from: str, device: torch.device) -> State:
    config = run.frozen
    sources = [open_source(run, c) for c in config.datasplit.train]
    torch.manual_seed(config.trainer.seed)
    network = config.architecture.build(datasplit["channels"], len(config.task.channels))
    # found before any work: a network that has none cannot predict by block
    halo = find_halo(network, datasplit["channels"], config.architecture.stride)
    network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), config.trainer.learning_rate, weight_decay=config.trainer.weight_decay
    )
    provenance = {
        "run": run.name,
        "made_from": made_from,
        "channels": datasplit["channels"],
        "normalize": datasplit["normalize"],
        "halo": halo,
        "seed": config.trainer.seed,
        "torch": torch.__version__,
    }
    crops = Crops(config, sources, datasplit["normalize"])
    state = State(network, optimizer, crops, device, provenance)
    _resume(run, state)
    return state


def _loop(run: Run, state: State, on_log: OnLog | None, on_checkpoint: OnCheckpoint | None) -> int:
    trainer = run.frozen.trainer
    first, saved = state.iteration, time.monotonic()
    bar = tqdm(total=trainer.iterations, initial=first, desc=f"train {run.name}", unit="it")
    state.network.train()
    processes = crop_processes(state.device, state.crops.nbytes)
    with bar, Stop() as stop:
        for batch in state.crops.batches(first, trainer.iterations, processes):
            row = _step(run.frozen, state, batch)
            bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
            bar.update()
            if on_log:
                on_log(row)
            done = state.iteration
            if done % trainer.checkpoint_interval == 0 or done == trainer.iterations:
                _save(run, state, checkpoint=True)
                if on_checkpoint:
                    with stop.lifted():  # all is saved, and this may take its time
                        on_checkpoint(done)
            elif stop.asked or time.monotonic() - saved > SAVE_SECONDS:
                _save(run, state)
                saved = time.monotonic()
            if stop.asked:
                break
    if state.iteration == trainer.iterations:
        run.store.remove(_state_path(run))
    return state.iteration - first


def _step(config: RunConfig, state: State, batch: tuple[torch.Tensor, ...]) -> dict[str, float]:
    """One iteration; the state counts it once it is complete."""
    began, trainer = time.monotonic(), config.trainer
    rate = trainer.learning_rate * schedule(state.iteration, trainer.warm_up, trainer.iterations)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    torch.manual_seed(trainer.seed + state.iteration)
    raw, ids, known = (values.to(state.device, non_blocking=True) for values in batch)
    target, weight = config.task.target(ids, known)
    logits = state.network(raw.to(memory_format=torch.channels_last_3d))
    terms = config.task.loss(logits, target.to(state.device), weight.to(state.device))
    loss = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(loss):
        raise SegError(
            f"the loss is {loss.item()} at iteration {state.iteration}; lower trainer.learning_rate"
        )
    state.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), trainer.clip)
    state.optimizer.step()
    state.iteration += 1
    row = {"iteration": state.iteration, "loss": loss.item(), "learning_rate": rate}
    row |= {f"loss_{name}": term.item() for name, term in terms.items()}
    state.rows.append(row | {"seconds": time.monotonic() - began})
    return state.rows[-1]


def schedule(iteration: int, warm_up: int, iterations: int) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine down to zero."""
    if iteration < warm_up:
        return (iteration + 1) / warm_up
    progress = torch.tensor((iteration - warm_up) / max(1, iterations - warm_up))
    return float((1 + torch.cos(torch.pi * progress)) / 2)


def _state_path(run: Run) -> str:
    return f"{run.folder}/checkpoints/state.safetensors"


def _save(run: Run, state: State, checkpoint: bool = False) -> None:
    """Write curve, checkpoint, state, in this order: each counts on the ones before."""
    run.store.write_bytes(f"{run.folder}/training.parquet", _parquet(state.rows))
    weights = weights_of(state.network)
    if checkpoint:
        save_tensors(run, checkpoint_path(run, state.iteration), weights, state.provenance)
    tensors = {f"network/{k}": v for k, v in weights.items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": v for k, v in values.items()}
    save_tensors(run, _state_path(run), tensors, {**state.provenance, "iteration": state.iteration})


def _parquet(rows: list[dict[str, float]]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(rows).to_parquet(buffer)
    return buffer.getvalue()


def _resume(run: Run, state: State) -> None:
    if not run.store.exists(_state_path(run)):
        set_start(run, state.network)
        return
    tensors, provenance = load_tensors(run, _state_path(run))
    if provenance["made_from"] != state.provenance["made_from"]:
        raise SegError(f"run {run.name} was begun from other data or settings: use a new run name")
    state.iteration = provenance["iteration"]
    rows = training_rows(run)
    kept = rows[rows.iteration <= state.iteration].to_dict("records")
    state.rows = [{str(name): value for name, value in row.items()} for row in kept]
    weights = {k[len("network/") :]: v for k, v in tensors.items() if k.startswith("network/")}
    set_weights(state.network, weights)
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            moments.setdefault(int(index), {})[key] = tensor
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def training_rows(run: Run) -> pd.DataFrame:
    """The training curve so far: iteration, loss and its terms, learning rate, seconds."""
    return pd.read_parquet(io.BytesIO(run.store.read_bytes(f"{run.folder}/training.parquet")))
