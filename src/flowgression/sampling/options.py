"""Every option of sampling, declared once: flags, arguments of pipelines and samplers, and records follow from here.

Importing this loads no torch. Time runs from t = 0 (noise) to t = 1 (data) in all of them.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, TypeVar, get_type_hints

from flowgression.errors import InputError, did_you_mean
from flowgression.registry import FAMILIES

Options = TypeVar("Options", bound="SamplingOptions")


def _option(default: Any, help: str, *, flag: Mapping[str, Any] | None = None) -> Any:
    """A field. `flag`: keywords of argparse's add_argument; None for an option that no flag sets."""
    metadata = {"help": help, "flag": flag}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How images are drawn, whatever the family; defaults of pipelines are their family's.

    The help of each field says what it is; wrong values raise InputError where they are used, before the first call
    of the network. `whose`: the models that have the options which a class adds.
    """

    whose: ClassVar[str] = "all models"

    num_inference_steps: int = _option(
        50, "steps of the solver; of FlowAR at each scale", flag={"type": int, "metavar": "N"}
    )
    guidance_scale: float = _option(
        1.0,
        "classifier-free guidance s, v_null + s (v_class - v_null); 1 is none and half the work; FlowAR rises to it "
        "from 1 at the first scale",
        flag={"type": float, "metavar": "S"},
    )
    guidance_interval: tuple[float, float] = _option(
        (0.0, 1.0),
        "times (0 is noise, 1 data) at which guidance applies",
        flag={"type": float, "nargs": 2, "metavar": ("FROM", "TO")},
    )
    guidance: str | None = _option(
        None,
        "cfg, which is the default, or cfg-zero: the velocity without a class is fitted to that with it before both "
        "are compared",
        flag={"metavar": "KIND"},
    )
    guidance_every: int | None = _option(
        None,
        "guide at every K-th step only, K times as strongly: as much on average for less work; every step by default",
        flag={"type": int, "metavar": "K"},
    )
    guidance_model: str | None = _option(
        None,
        "guide by a worse model of the same class instead of by no class (autoguidance): a built-in name, a folder or "
        "an early checkpoint's run, or owner/name on the hub",
        flag={"metavar": "MODEL"},
    )
    solver: str = _option(
        "euler",
        "such as euler, heun, midpoint or sde, for models without a state dopri5; a wrong name lists all",
        flag={"metavar": "NAME"},
    )
    solver_options: Mapping[str, Any] = _option(
        {},
        "a further option of the solver, such as diffusion=linear or last_step=tweedie for sde",
        flag={"action": "append", "metavar": "NAME=VALUE"},
    )
    times: Sequence[float] | None = _option(
        None,
        "the solver's own grid, rising from noise to data, instead of equal steps",
        flag={"type": float, "nargs": "+", "metavar": "T"},
    )

    def settings(self) -> dict[str, Any]:
        """The options as keywords of a call."""
        return {name: getattr(self, name) for name in names_of(type(self))}

    def facts(self) -> dict[str, Any]:
        """The options as values for JSON; those that are not set are left out."""
        return {name: _plain(getattr(self, name)) for name in names_of(type(self)) if not _unset(getattr(self, name))}


@dataclass(frozen=True, kw_only=True)
class VelocityOptions(SamplingOptions):
    """How models that denoise whole images are sampled (ARFlow, SiT)."""

    whose: ClassVar[str] = "ARFlow and SiT, which denoise whole images"

    guided_channels: int | None = _option(
        None, "guide only the first K channels; all by default", flag={"type": int, "metavar": "K"}
    )


@dataclass(frozen=True, kw_only=True)
class ContextOptions(VelocityOptions):
    """How models that denoise whole images with a state are sampled (ARFlow)."""

    whose: ClassVar[str] = "ARFlow, whose denoising steps read the steps before them"

    history: str | None = _option(
        None,
        "ARFlow: which earlier steps a step reads: all, none, every:K (the state is advanced at every K-th step only) "
        "or last:K (at K + 1 times the cost); all by default",
        flag={"metavar": "WHICH"},
    )
    example_guidance_scale: float | None = _option(
        None,
        "ARFlow: guidance by the examples, apart from that by the label; guidance_scale by default",
        flag={"type": float, "metavar": "S"},
    )
    example_times: Sequence[float] | None = _option(
        None,
        "ARFlow: times (0 is noise, 1 data) at which examples are read, one for all or one for each; 1 by default for "
        "models trained with clean images, rising from 1/K to 1 for others",
        flag={"type": float, "nargs": "+", "metavar": "T"},
    )


@dataclass(frozen=True, kw_only=True)
class ScaleOptions(SamplingOptions):
    """How models that draw scale by scale are sampled (FlowAR)."""

    whose: ClassVar[str] = "FlowAR, which draws an image scale by scale"

    steps_last_scale: int | None = _option(
        None,
        "FlowAR: steps change to N towards the last scale (step annealing); the same by default",
        flag={"type": int, "metavar": "N"},
    )
    time_grid: str = _option("uniform", "FlowAR: uniform or released", flag={"metavar": "NAME"})
    num_scales: int | None = _option(None, "stop after so many scales; the images are then small")


@dataclass(frozen=True)
class History:
    """A way to read the steps before; `count` is K.

    kind: "all": every step is folded into the state. "every": the first step and every K-th after it are; the steps
        between read the state and leave it as it is. "last": a step reads the last K steps and no other. "none": a
        step reads no other.

    What a sequence begins with (a state of zeros, or that of examples) is read by all steps in all ways.
    """

    kind: str = "all"
    count: int = 1

    @property
    def reads_steps(self) -> bool:
        """Whether a step reads other steps, so that steps cannot be repeated or taken in another order."""
        return self.kind != "none"

    def __str__(self) -> str:
        return f"{self.kind}:{self.count}" if self.kind in ("every", "last") else self.kind


ALL, NONE = History("all"), History("none")


def parse_history(text: str | None) -> History:
    """The history called "all" (also None), "none", "every:K" or "last:K"; InputError for anything else."""
    if text in (None, "all", "none"):
        return History(text or "all")
    match = re.fullmatch(r"(every|last):([0-9]+)", str(text))
    if match is None or int(match[2]) < 1:
        raise InputError(
            f"history must be all, none, every:K (the state is advanced at every K-th step) or last:K (the last K "
            f"steps are read) with K >= 1, not {text!r}."
        )
    return History(match[1], int(match[2]))


CLASSES: tuple[type[SamplingOptions], ...] = (VelocityOptions, ContextOptions, ScaleOptions)


def names_of(kind: type[SamplingOptions]) -> list[str]:
    """The names of the options of a class."""
    return [entry.name for entry in fields(kind)]


def all_options() -> dict[str, Any]:
    """The fields of all classes by name, those that all share first."""
    kinds: tuple[Any, ...] = (SamplingOptions, *CLASSES)
    return {entry.name: entry for kind in kinds for entry in fields(kind)}


def option_types() -> dict[str, Any]:
    """The type of each option by name."""
    kinds: tuple[type[SamplingOptions], ...] = (SamplingOptions, *CLASSES)
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    return {name: hints[name] for name in all_options()}


def owner_of(name: str) -> str:
    """The models that have the option `name`, with the reason."""
    kinds: tuple[type[SamplingOptions], ...] = (SamplingOptions, *CLASSES)
    return next(kind.whose for kind in kinds if name in names_of(kind))


def make_options(
    kind: type[Options], settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Options:
    """The options of a call: `settings` over `defaults` over those of the class. None stands for the default.

    Raises:
        InputError: an option that the class does not have, with the nearest one.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name in given:
        if name not in names_of(kind):
            if name in all_options():
                raise InputError(f"option {name!r} is of {owner_of(name)}; leave it out for other models.")
            raise InputError(f"sampling has no option {name!r}: {did_you_mean(name, names_of(kind))}")
    return kind(**{**(defaults or {}), **given})


def split_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a sampling function as options: what no class of options has is an option of the solver."""
    own = {name: value for name, value in settings.items() if name in all_options()}
    rest = {name: value for name, value in settings.items() if name not in own}
    return {**own, "solver_options": {**own.get("solver_options", {}), **rest}} if rest else own


def default_text(entry: Any) -> str:
    """The default of an option in a help text; where families differ, those of all."""
    by_family = {name: family.sampling.get(entry.name) for name, family in FAMILIES.items()}
    values = {name: value for name, value in by_family.items() if value is not None}
    if not values:
        return "" if _unset(_default(entry)) else f" ({_words(_default(entry))})"
    if len(values) == len(FAMILIES) and len(set(values.values())) == 1:
        return f" ({next(iter(values.values()))})"
    return f" ({', '.join(f'{name} {value}' for name, value in values.items())})"


def takes(kind: type[SamplingOptions]) -> Callable[[Any], Any]:
    """Decorator of a function with **settings: its signature and docstring name the options of `kind` instead.

    Defaults in the signature are those of the class; a pipeline puts its family's on top.
    """

    def decorate(function: Any) -> Any:
        signature = inspect.signature(function)
        kept = [entry for entry in signature.parameters.values() if entry.kind is not inspect.Parameter.VAR_KEYWORD]
        shown = [
            inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=entry.type)
            for entry in fields(kind)
        ]
        function.__signature__ = signature.replace(parameters=[*kept, *shown])
        lines = [f"    {entry.name}: {entry.metadata['help']}{default_text(entry)}." for entry in fields(kind)]
        function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Sampling options:", *lines])
        return function

    return decorate


def describe(facts: Mapping[str, Any]) -> str:
    """How images were drawn, for people: "50 steps, euler, guidance 1.5"."""
    return f"{facts['num_inference_steps']} steps, {facts['solver']}, guidance {facts['guidance_scale']:g}"


def _default(entry: Any) -> Any:
    return entry.default if entry.default is not MISSING else entry.default_factory()


def _unset(value: Any) -> bool:
    return value is None or value == {} if not hasattr(value, "shape") else False


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value) if not isinstance(value, int | float | str | list | tuple | Mapping) else value


def _words(value: Any) -> str:
    return " ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
