"""What a client may ask for, checked before any work is done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from reprlib import repr as brief
from typing import Any

from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.web.arrays import decode
from flowgression.web.models import Served

MOST_STEPS, MOST_GUIDANCE = 250, 20.0
FIELDS = ("model", "class_label", "seed", "num_inference_steps", "guidance_scale", "solver", "start", "history", "maps")
LIKE = ("model", "class_labels", "examples", "seed", "num_inference_steps", "guidance_scale")
MOST_EXAMPLES, MOST_PICTURES = 16, 128


@dataclass(frozen=True)
class Request:
    """One picture.

    Attributes:
        class_label: 0 .. num_classes; the last is the null label.
        options: sampling options: num_inference_steps, guidance_scale, solver.
        start, start_time: a clean picture [C,H,W] that is noised to this time and finished from there.
        forget_from: from this step on the state is empty. other_class: the state of every step is the one that a
            picture of this class left.
        maps: the maps of the first scales, each [C,h,h], taken as given.
        class_labels, examples, example_labels: several pictures in view of clean ones, each [C,H,W]; `class_label` then
            says nothing.
    """

    model: Served
    class_label: int
    seed: int
    options: dict[str, Any]
    start: Tensor | None = None
    start_time: float = 0.0
    forget_from: int | None = None
    other_class: int | None = None
    maps: list[Tensor] = field(default_factory=list)
    class_labels: list[int] = field(default_factory=list)
    examples: list[Tensor] = field(default_factory=list)
    example_labels: list[int] = field(default_factory=list)


def read_request(body: Any, models: Mapping[str, Served]) -> Request:
    """The request that a JSON body holds.

    Raises:
        InputError: whatever is missing, unknown, of a wrong type or out of range.
    """
    several = isinstance(body, dict) and "class_labels" in body
    given = _object(body, LIKE if several else FIELDS, "the request")
    name = given.get("model")
    if not isinstance(name, str) or name not in models:
        raise InputError(f"unknown model {brief(name)}: {did_you_mean(brief(name)[1:-1], list(models))}")
    model = models[name]
    if several:
        return _read_like(given, model)
    solver = given.get("solver", model.solvers[0])
    if solver not in model.solvers:
        raise InputError(f"unknown solver {brief(solver)}: {did_you_mean(brief(solver)[1:-1], model.solvers)}")
    defaults = model.about["defaults"]
    start, start_time = _start(given.get("start"), model)
    history = _object(given.get("history") or {}, ("forget_from", "class_label"), "history")
    _require("state", model, bool(history), "history")
    return Request(
        model=model,
        class_label=_whole(given, "class_label", 0, model.num_classes),
        seed=_whole(given, "seed", 0, 2**53, 0),
        options={
            "num_inference_steps": _whole(given, "num_inference_steps", 1, MOST_STEPS, defaults["num_inference_steps"]),
            "guidance_scale": _number(given, "guidance_scale", 0, MOST_GUIDANCE, defaults["guidance_scale"]),
            "solver": solver,
        },
        start=start,
        start_time=start_time,
        forget_from=_whole(history, "forget_from", 0, MOST_STEPS) if "forget_from" in history else None,
        other_class=_whole(history, "class_label", 0, model.num_classes) if "class_label" in history else None,
        maps=_maps(given.get("maps") or [], model),
    )


def _read_like(given: Mapping[str, Any], model: Served) -> Request:
    """Of several pictures in view of examples."""
    _require("examples", model, True, "class_labels")
    labels, examples = given["class_labels"], given.get("examples") or []
    if not isinstance(labels, list) or not 1 <= len(labels) <= MOST_PICTURES:
        raise InputError(f"class_labels must be a list of 1 to {MOST_PICTURES} whole numbers")
    if not isinstance(examples, list) or len(examples) > MOST_EXAMPLES:
        raise InputError(f"examples must be a list of at most {MOST_EXAMPLES} pictures")
    shown = [_object(each, ("x", "class_label"), "an example") for each in examples]
    defaults = model.about["defaults"]
    return Request(
        model=model,
        class_label=0,
        seed=_whole(given, "seed", 0, 2**53, 0),
        options={
            "num_inference_steps": _whole(given, "num_inference_steps", 1, MOST_STEPS, defaults["num_inference_steps"]),
            "guidance_scale": _number(given, "guidance_scale", 0, MOST_GUIDANCE, defaults["guidance_scale"]),
        },
        class_labels=[_whole({"label": label}, "label", 0, model.num_classes) for label in labels],
        examples=[decode(each.get("x"), model.shape, "an example's x") for each in shown],
        example_labels=[_whole(each, "class_label", 0, model.num_classes) for each in shown],
    )


def _start(given: Any, model: Served) -> tuple[Tensor | None, float]:
    if given is None:
        return None, 0.0
    _require("complete", model, True, "start")
    if "map_sides" in model.about:
        raise InputError(f"{model.about['id']} draws scale by scale: give maps instead of start")
    start = _object(given, ("x", "t"), "start")
    return decode(start.get("x"), model.shape, "start.x"), _number(start, "t", 0, 0.999)


def _maps(given: Any, model: Served) -> list[Tensor]:
    _require("scales", model, bool(given), "maps")
    sides = model.about.get("map_sides", [])
    if not isinstance(given, list) or len(given) >= max(len(sides), 1):
        raise InputError(f"maps must be a list of fewer than {len(sides)} maps")
    return [
        decode(each, (model.shape[0], side, side), f"map {k}")
        for k, (each, side) in enumerate(zip(given, sides, strict=False), 1)
    ]


def _require(ability: str, model: Served, wanted: bool, name: str) -> None:
    if wanted and ability not in model.about["abilities"]:
        raise InputError(f"{model.about['id']} cannot use {name}: it has the abilities {model.about['abilities']}")


def _object(value: Any, known: tuple[str, ...], name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{name} must be a JSON object, not {type(value).__name__}")
    for key in value:
        if key not in known:
            raise InputError(f"{name} has an unknown field {brief(key)}: {did_you_mean(brief(key)[1:-1], known)}")
    return value


def _whole(given: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} must be a whole number from {low} to {high}, not {brief(value)}")
    return value


def _number(given: Mapping[str, Any], name: str, low: float, high: float, default: float | None = None) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, not {brief(value)}")
    if not low <= value <= high:  # nor is nan
        raise InputError(f"{name} must lie between {low:g} and {high:g}, not {brief(value)}")
    return float(value)
