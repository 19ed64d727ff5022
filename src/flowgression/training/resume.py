"""Going on from a checkpoint: what may have changed meanwhile and what may not."""

from typing import Any

from flowgression.errors import InputError
from flowgression.training.checkpoint import TrainerState

FREE = (
    "max_steps",
    "out",
    "device",
    "num_threads",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "tracker",
    "preview.",
    "data.num_workers",
    "data.cache_limit_mb",
)
"""Fields (with a dot: sections) that a resumed run may change; any other would make it another run."""


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where two flat dictionaries differ: name -> (old value, new value), None where it is missing."""
    names = [*old, *(name for name in new if name not in old)]
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def is_free(name: str) -> bool:
    """Whether a resumed run may change the field `name`."""
    return any(name.startswith(free) if free.endswith(".") else name == free for free in FREE)


def check_unchanged(
    saved: TrainerState, flat_saved: dict[str, Any], flat_present: dict[str, Any], data: dict[str, Any], *, allow: bool
) -> list[str]:
    """Compare the run that wrote a checkpoint with the one that resumes it.

    Returns:
        Sentences about changes that are allowed, to be shown.

    Raises:
        InputError: fields or data changed that decide the numbers, and `allow` is False.
    """
    config = differences(flat_saved, flat_present)
    config.pop("out", None)
    breaking = {name: pair for name, pair in config.items() if not is_free(name)}
    breaking |= {f"data set's {name}": pair for name, pair in differences(saved.data, data).items()}
    if breaking and not allow:
        raise InputError(
            f"cannot resume exactly from step {saved.step}, because these changed: {_listed(breaking)}. Put them "
            "back, choose another --out for a new run, or add --allow-changes to go on with the new values"
        )
    notes = [f"Changed since the checkpoint: {_listed(config | breaking)}."] if config or breaking else []
    if "max_steps" in config and flat_present["schedule.name"] != "constant":
        notes.append("The learning rate follows the new max_steps from here on.")
    return notes


def _listed(changes: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} {_short(old)} -> {_short(new)}" for name, (old, new) in changes.items())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
