"""Resuming from a checkpoint: what may have changed meanwhile and what may not."""

from pathlib import Path
from typing import Any

from flowgression.errors import InputError
from flowgression.training.checkpoint import (
    TrainerState,
    latest_checkpoint,
    load_checkpoint,
    read_best,
    read_state,
    read_tracks,
)
from flowgression.training.config import TrainConfig
from flowgression.training.nested import config_from_dict, config_to_dict, flat_config
from flowgression.training.trainer import Trainer

FREE = (
    "max_steps",
    "minutes",
    "clock",
    "out",
    "device",
    "num_threads",
    "parallelism",
    "gradient_accumulation",
    "activation_checkpointing",
    "head_chunks",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "tracker",
    "preview.",
    "data.num_workers",
    "data.cache_limit_mb",
)
"""Fields (with a dot: sections) that a resumed run may change; any other would make it another run."""


def restore(
    trainer: Trainer, checkpoints: Path, *, resume: bool, allow_changes: bool
) -> tuple[TrainerState, list[str]]:
    """The state to start from, with the tensors of the newest checkpoint put in place, and notes to show.

    Raises:
        InputError: the checkpoint is damaged, of another model, or of another configuration or data set.
    """
    state, notes = TrainerState(), []
    path = trainer.from_main(latest_checkpoint(checkpoints) if resume else None)
    if path is not None:
        if not path.is_dir():
            raise InputError(f"this process cannot see {path}; out must be in a file system that all machines share")
        state = read_state(path)
        notes = check_unchanged(state, trainer.config, trainer.data_summary(), allow=allow_changes)
        load_checkpoint(path, trainer.model, trainer.ema.model, trainer.optimizer)
        if trainer.tracks is not None:
            trainer.tracks.load(read_tracks(path))
        if trainer.held_out is None:
            state.best = None  # images were held out before; a change that was allowed
        if state.best is not None and trainer.accelerator.is_main_process:
            trainer.best = read_best(path, trainer.ema.model)
        notes.append(f"Resumed from {path}.")
        if changed := differences(state.environment, trainer.environment()):
            notes.append(f"The last bits may differ from an unbroken run's: {_listed(changed)}.")
    elif resume:
        notes.append(f"No checkpoint in {checkpoints} yet: starting from the beginning.")
    state.config = config_to_dict(trainer.config)
    state.data = trainer.data_summary()
    state.environment = trainer.environment()
    return state, notes


def check_unchanged(saved: TrainerState, config: TrainConfig, data: dict[str, Any], *, allow: bool) -> list[str]:
    """Compare the run that wrote a checkpoint with the one that resumes it.

    Args:
        saved: State of the checkpoint. config, data: of the present run.
        allow: Accept changes that decide the numbers.

    Returns:
        Sentences about changes that are accepted, to be shown.

    Raises:
        InputError: fields or data changed that decide the numbers, and `allow` is False.
    """
    changed = differences(flat_config(config_from_dict(type(config), saved.config)), flat_config(config))
    changed.pop("out", None)
    breaking = {name: pair for name, pair in changed.items() if not is_free(name)}
    before = dict(saved.data)
    if before.get("files_crc32") is None:  # checkpoints of version 0.1.0 have none
        before["files_crc32"] = data.get("files_crc32")
    breaking |= {f"the data set's {name}": pair for name, pair in differences(before, data).items()}
    if breaking and not allow:
        raise InputError(
            f"cannot resume exactly from step {saved.step}, because these changed: {_listed(breaking)}. Put them "
            "back, choose another --out for a new run, or add --allow-changes to resume with the new values"
        )
    notes = [f"Changed since the checkpoint: {_listed(changed | breaking)}."] if changed or breaking else []
    if "max_steps" in changed and config.schedule.name != "constant":
        notes.append("The learning rate follows the new max_steps from here on.")
    return notes


def is_free(name: str) -> bool:
    """Whether a resumed run may change the field `name`."""
    return any(name.startswith(free) if free.endswith(".") else name == free for free in FREE)


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where two flat dictionaries differ: name -> (old value, new value), None where it is missing."""
    names = [*old, *(name for name in new if name not in old)]
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def _listed(changes: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} {_short(old)} -> {_short(new)}" for name, (old, new) in changes.items())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
