"""Starting a run from the weights of another model: fine-tuning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowgression.classes import Classes
from flowgression.errors import InputError
from flowgression.layers.embeddings import label_places, label_rows
from flowgression.registry import find_family
from flowgression.sampling.folders import CONFIG_NAME, read_json
from flowgression.sampling.loading import load_pipeline
from flowgression.training.config import TrainConfig
from flowgression.training.settings import ModelConfig

NEW = ("interval_embedder.", "refine.", "augment_embedder.")
"""Parameters that fine-tuning may add: their output is 0 at the start, so that the model begins as it was."""


def pretrained_pipeline(config: ModelConfig) -> Any | None:
    """The model of `config.pretrained`, or None.

    Raises:
        InputError: there is no model of that name, it is of another family, or a preset is given too.
    """
    if config.pretrained is None:
        return None
    if config.preset is not None:
        raise InputError(f"model.preset={config.preset!r} has no place beside model.pretrained, which knows its sizes")
    pipe: Any = load_pipeline(config.pretrained)
    source, expected = pipe.transformer, find_family(config.family).model_class
    if type(source) is not expected:
        raise InputError(
            f"model.pretrained={config.pretrained!r} is a {type(source).__name__}, but model.family={config.family!r}"
        )
    return pipe


def own_args(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a model in its configuration, without what diffusers adds."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def saved_args(checkpoint: Path) -> dict[str, Any]:
    """The arguments of the model in a run's checkpoint."""
    return own_args(read_json(checkpoint / "ema" / CONFIG_NAME))


def load_pretrained(model: Any, source: Any, config: ModelConfig, classes: Classes) -> list[str]:
    """Give `model` the weights of `source`, the pipeline of `config.pretrained`; rows of labels go by name.

    Args:
        classes: of the data, which `model` is made for.

    Returns:
        What became of the rows, as a line to be shown.

    Raises:
        InputError: a weight of another shape, which an argument changed; named with both shapes.
    """
    weights, table = source.transformer.state_dict(), model.label_table
    places = label_places(source.classes, classes)
    if table in weights:
        weights[table] = label_rows(weights[table], places)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    new = {name for name in shapes if name not in weights and any(part in name for part in NEW)}
    shapes = {name: shape for name, shape in shapes.items() if name not in new}
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
    model.load_state_dict(model.state_dict() | weights)
    return [describe_rows(str(config.pretrained), source.classes, classes, places)]


def describe_rows(name: str, known: Classes, classes: Classes, places: Sequence[int | None]) -> str:
    """A line about the rows of labels that come from the model `name`."""
    if not known.are_named:
        how = "in order, for it names no classes" if None not in places else "not at all, for it names no classes"
        return f"Label rows of {name} are taken over {how}."
    taken = [title for title, place in zip(classes.titles, places, strict=True) if place is not None]
    new = [title for title, place in zip(classes.titles, places, strict=True) if place is None]
    text = f"Label rows of {name}: {len(taken)} taken over by name{_few(taken)}"
    return text + (f", {len(new)} new from the mean of all{_few(new)}." if new else ".")


def _few(names: list[str]) -> str:
    return f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""


def run_args(config: TrainConfig, known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a run's model without what its data say: `known` ones, its own, and what the run tells it.

    Args:
        known: of the model that it starts from, or of its own checkpoint: then nothing else is needed any more.

    Raises:
        InputError: a path or sequence length in model.args that is not the run's.
    """
    args, family = {**known, **config.model.args}, find_family(config.model.family)
    given = config.model.args
    told: dict[str, Any] = {"path": config.path or args.get("path", family.path)}
    if family.average_objective is not None:
        told["average_velocity"] = config.objective == "meanflow"
    if family.reads_sequences:
        told["sequence_length"] = config.sequence_length
        told["clean"] = config.sequence.clean
    for name, value in told.items():
        if given.get(name, value) != value:
            raise InputError(f"model.args.{name}={given[name]!r} is not the run's {name}={value!r}; leave it out there")
    return args | told
