"""Starting a run from the weights of another model: fine-tuning."""

from pathlib import Path
from typing import Any

from torch import nn

from flowgression.errors import InputError
from flowgression.registry import find_family
from flowgression.sampling.folders import CONFIG_NAME, read_json
from flowgression.sampling.loading import load_pipeline
from flowgression.training.config import ModelConfig, TrainConfig


def pretrained_args(config: ModelConfig, checkpoint: Path | None = None) -> dict[str, Any]:
    """The arguments of the model: those of `config.pretrained`, if there is one, with `config.args` on top.

    Args:
        checkpoint: of the run itself, where it is resumed: it knows the arguments, so that the model which the run
            started from is not needed any more.

    Raises:
        InputError: there is no model of that name, it is of another family, or a preset is given too.
    """
    if config.pretrained is None:
        return dict(config.args)
    if config.preset is not None:
        raise InputError(f"model.preset={config.preset!r} has no place beside model.pretrained, which knows its sizes")
    if checkpoint is not None:
        known = read_json(checkpoint / "ema" / CONFIG_NAME)
        return {name: value for name, value in known.items() if not name.startswith("_")} | dict(config.args)
    source, expected = _load(config.pretrained), find_family(config.family).model_class
    known = {name: value for name, value in source.config.items() if not name.startswith("_")}
    if type(source) is not expected:
        raise InputError(
            f"model.pretrained={config.pretrained!r} is a {type(source).__name__}, but model.family={config.family!r}"
        )
    return {**known, **config.args}


def load_pretrained(model: nn.Module, config: ModelConfig) -> None:
    """Give `model` the weights of `config.pretrained`, if there is one.

    Raises:
        InputError: a weight of another shape, which an argument changed; named with both shapes.
    """
    if config.pretrained is None:
        return
    weights = _load(config.pretrained).state_dict()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(shapes.keys() | weights.keys()):
        found = tuple(weights[name].shape) if name in weights else None
        if found != shapes.get(name):
            if name.endswith(("centre", "tau_logit")):
                raise InputError(
                    f"model.pretrained={config.pretrained!r} has another attention than model.args asks for; "
                    "`flowgression lowrank` turns exact attention into low rank"
                )
            raise InputError(
                f"the weights of model.pretrained={config.pretrained!r} do not fit model.args: {name} has shape "
                f"{found} there and {shapes.get(name)} here"
            )
    model.load_state_dict(weights)


def _load(name: str) -> Any:
    return load_pipeline(name).transformer


def run_args(config: TrainConfig, checkpoint: Path | None = None) -> dict[str, Any]:
    """The arguments of a run's model without what its data say: `pretrained_args`, and what the run tells the model.

    Raises:
        InputError: as `pretrained_args`, or a path or sequence length in model.args that is not the run's.
    """
    args, family = pretrained_args(config.model, checkpoint), find_family(config.model.family)
    given = config.model.args
    told: dict[str, Any] = {"path": config.path or args.get("path", family.path)}
    if family.reads_sequences:
        told["sequence_length"] = config.sequence_length
        told["clean"] = config.sequence.clean
    for name, value in told.items():
        if given.get(name, value) != value:
            raise InputError(f"model.args.{name}={given[name]!r} is not the run's {name}={value!r}; leave it out there")
    return args | told
