"""Checkpoints: a folder that is written whole or not at all.

    <run>/checkpoints/step-0001000/
        model/                  the weights, as from_pretrained reads them
        ema/                    their moving average, likewise: this is the model to sample from
        optimizer.safetensors   AdamW's moments and step counts, `<parameter>.<what>`
        adapters.safetensors    with lora.rank: the adapters, `model.<name>` and `ema.<name>`; model/ is then the model
                                that is adapted, and ema/ has its adapters merged, like best/
        best/                   with data.validation: the average with the lowest loss on held-out images so far
        tracks.safetensors      with ema.snapshot_every: the averages of post-hoc EMA, `<length>/<parameter>`
        trainer.json            step, configuration, data and environment

Nothing is pickled, and nothing depends on how many processes there were or on how they shared the weights.
"""

import inspect
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flowgression.documents import check_regular, read_json
from flowgression.errors import InputError
from flowgression.files import atomic_folder
from flowgression.layers.lora import has_lora, lora_scale, lora_tensors, merge_tensors, without_lora
from flowgression.layers.weights import check_finite
from flowgression.sampling.folders import RUN_BEST
from flowgression.training.sharding import like_shards, load_whole, whole_tensors

ADAPTERS_NAME, TRACKS_NAME, BEST_NAME = "adapters.safetensors", "tracks.safetensors", RUN_BEST


@dataclass
class TrainerState:
    """All that a run remembers besides tensors.

    Attributes:
        step: Optimisation steps done.
        config: The configuration, nested as in YAML.
        data: What the data set was: number of images, classes and a checksum of the labels.
        environment: What the last bits of the numbers may depend on: versions, device, threads.
        seconds: Time used, of a run of given minutes.
        best: Step and held_out_loss of the best average so far; None before one was measured.
        window: Sums of the metrics since the last logged step.
        window_steps: Steps in `window`.
    """

    step: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    best: dict[str, float] | None = None
    window: dict[str, float] = field(default_factory=dict)
    window_steps: int = 0


class CheckpointTensors(NamedTuple):
    """The tensors of a checkpoint by name, whole: weights, their average, the optimiser's state, post-hoc EMA's, and
    the best average.
    """

    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    tracks: Mapping[str, Tensor] = MappingProxyType({})
    best: Mapping[str, Tensor] = MappingProxyType({})


def collect_tensors(
    model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> CheckpointTensors:
    """What a checkpoint holds, put together from its shards where it is sharded; every process has to call it.

    Args:
        keep: False where the result is not needed; it is then empty.
    """
    parts = (model.state_dict(), ema.state_dict(), optimizer_tensors(optimizer, model))
    return CheckpointTensors(*(whole_tensors(part, keep=keep) for part in parts))


def checkpoint_steps(folder: Path) -> dict[int, Path]:
    """The finished checkpoints in `folder` by step, oldest first."""
    found = {}
    for entry in folder.glob("step-*"):
        if match := re.fullmatch(r"step-(\d+)", entry.name):
            found[int(match[1])] = entry
    return dict(sorted(found.items()))


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest finished checkpoint in `folder`, or None."""
    return next(reversed(checkpoint_steps(folder).values()), None)


def save_checkpoint(path: Path, state: TrainerState, model: Any, tensors: CheckpointTensors, *, keep: int) -> None:
    """Write the checkpoint `path` (a folder step-NUMBER), then remove all but the `keep` newest beside it.

    A checkpoint of this step that is already there is left as it is: equal steps of a run have equal states.

    Args:
        model: the network, for its configuration.
    """
    if not path.exists():
        with atomic_folder(path) as temporary:
            for name, weights in _plain_weights(model, tensors).items():
                model.save_config(temporary / name)
                save_file(weights, temporary / name / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
            if has_lora(model):
                save_file(_adapters(tensors), temporary / ADAPTERS_NAME)
            save_file(tensors.optimizer, temporary / "optimizer.safetensors")
            if tensors.tracks:
                save_file(dict(tensors.tracks), temporary / TRACKS_NAME)
            (temporary / "trainer.json").write_text(json.dumps(asdict(state), indent=2) + "\n")
    for old in list(checkpoint_steps(path.parent).values())[:-keep]:
        # Renamed first: a half-deleted folder never carries a checkpoint's name.
        doomed = old.with_name(f".{old.name}.old")
        os.replace(old, doomed)
        shutil.rmtree(doomed)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed run left half-written or half-deleted in `folder`."""
    for entry in folder.glob(".step-*"):
        shutil.rmtree(entry)


def read_state(path: Path) -> TrainerState:
    """The trainer state of the checkpoint `path`.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        state = TrainerState(**read_json(path / "trainer.json"))
        optimizer = state.config.get("optimizer", {})
        if optimizer.get("name") == "muon":
            optimizer.setdefault("muon_dtype", "bfloat16")  # version 0.1.0 had no other
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path / "trainer.json", error) from error
    return state


def load_checkpoint(path: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the tensors of the checkpoint `path` into the model, its average and the optimiser, sharded or not.

    Raises:
        InputError: the checkpoint is damaged or belongs to another model.
    """
    _check_same_model(path, model)
    weights = _read_tensors(path / "model")
    if has_lora(model):
        adapters = _read_adapters(path, model)
        averages = weights | adapters["ema"]  # what is not adapted is frozen, and its own average
        weights |= adapters["model"]
    else:
        averages = _read_tensors(path / "ema")
    load_whole(model, weights)
    load_whole(ema, averages)
    load_optimizer_tensors(optimizer, model, _read_tensors(path, "optimizer.safetensors"))


def read_best(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """The best average in the checkpoint `path`, by the names that `model` has. InputError: it is damaged."""
    if not has_lora(model):
        return _read_tensors(path / BEST_NAME)
    return _read_tensors(path / "model") | _read_adapters(path, model)[BEST_NAME]


def read_tracks(path: Path) -> dict[str, Tensor]:
    """The averages of post-hoc EMA in the checkpoint `path`. InputError: there are none, or they are damaged."""
    if not (path / TRACKS_NAME).exists():
        raise InputError(f"{path} was made without ema.snapshot_every, which averages from step 1 on: set it to 0")
    return _read_tensors(path, TRACKS_NAME)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state as named tensors, as they are held: `<parameter>.<exp_avg | exp_avg_sq | step>`."""
    return {
        f"{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put whole tensors, named as by `optimizer_tensors`, into the optimiser."""
    parameters = dict(model.named_parameters())
    names = {parameter: name for name, parameter in parameters.items()}
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {index: {} for index in range(len(order))}
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        state[order.index(name)][key] = tensor if key == "step" else like_shards(tensor, parameters[name])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _plain_weights(model: nn.Module, tensors: CheckpointTensors) -> dict[str, dict[str, Tensor]]:
    """The weights of the two models of a checkpoint, as models without adapters have them."""
    averages = {"ema": tensors.ema} | ({BEST_NAME: dict(tensors.best)} if tensors.best else {})
    if not has_lora(model):
        return {"model": tensors.model, **averages}
    scale = lora_scale(model)
    merged = {name: merge_tensors(average, lora_tensors(average), scale) for name, average in averages.items()}
    return {"model": without_lora(tensors.model), **merged}


def _adapters(tensors: CheckpointTensors) -> dict[str, Tensor]:
    wholes = {"model": tensors.model, "ema": tensors.ema, BEST_NAME: dict(tensors.best)}
    parts = {part: lora_tensors(each) for part, each in wholes.items()}
    return {f"{part}.{name}": tensor for part, found in parts.items() for name, tensor in found.items()}


def _read_adapters(path: Path, model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The adapters of a checkpoint and their averages; InputError unless they are of the model's names and shapes."""
    found, parts = _read_tensors(path, ADAPTERS_NAME), {}
    expected = {name: tensor.shape for name, tensor in lora_tensors(model.state_dict()).items()}
    names = ("model", "ema", BEST_NAME) if any(name.startswith(f"{BEST_NAME}.") for name in found) else ("model", "ema")
    for part in names:
        prefix = f"{part}."
        parts[part] = {name[len(prefix) :]: tensor for name, tensor in found.items() if name.startswith(prefix)}
        if {name: tensor.shape for name, tensor in parts[part].items()} != expected:
            raise InputError(f"{path} has adapters of another rank; resume with the lora.rank that it was made with")
    return parts


def _read_tensors(folder: Path, pattern: str = "*.safetensors") -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob(pattern)):
        try:
            tensors |= load_file(check_regular(file))
        except (SafetensorError, OSError) as error:
            raise _damaged(file, error) from error
    if not tensors:
        raise _damaged(folder / pattern, "nothing there")
    check_finite(tensors, folder)
    return tensors


def _check_same_model(path: Path, model: Any) -> None:
    try:
        saved = read_json(path / "model" / "config.json")
    except (OSError, ValueError) as error:
        raise _damaged(path / "model" / "config.json", error) from error
    present = {"_class_name": type(model).__name__, **json.loads(model.to_json_string())}
    parameters = inspect.signature(type(model).__init__).parameters
    saved = {name: parameters[name].default for name in parameters.keys() & present.keys()} | saved  # older versions
    names = [name for name in {**saved, **present} if name != "_diffusers_version"]
    different = [f"{n}={saved.get(n)!r} (now {present.get(n)!r})" for n in names if saved.get(n) != present.get(n)]
    if different:
        raise InputError(f"{path} is a checkpoint of another model: {', '.join(different)}")


def _damaged(file: Path, error: object) -> InputError:
    return InputError(
        f"cannot read {file} ({error}): the checkpoint is incomplete or damaged; "
        "remove its folder to resume from the one before"
    )
