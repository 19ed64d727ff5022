"""Sampling options are declared once; everything else follows."""

import inspect
from dataclasses import fields
from typing import Any

import pytest

from flowgression import InputError
from flowgression.cli.sample import make_parser
from flowgression.families.arflow import sampling as arflow
from flowgression.families.flowar import sampling as flowar
from flowgression.families.sit import sampling as sit
from flowgression.models import FAMILIES
from flowgression.sampling import SamplingOptions
from flowgression.sampling.options import (
    ContextOptions,
    ScaleOptions,
    VelocityOptions,
    all_options,
    make_options,
    names_of,
    split_settings,
)


def test_the_options_of_a_call() -> None:
    options = make_options(VelocityOptions, {"guidance_scale": 3.0, "times": None}, {"num_inference_steps": 7})
    assert (options.num_inference_steps, options.guidance_scale, options.times) == (7, 3.0, None)
    assert options.facts() == {
        "num_inference_steps": 7, "guidance_scale": 3.0, "guidance_interval": (0.0, 1.0), "solver": "euler"
    }  # fmt: skip
    with pytest.raises(InputError, match="no option 'guidance_scal': did you mean 'guidance_scale'"):
        make_options(ScaleOptions, {"guidance_scal": 2.0})
    with pytest.raises(InputError, match="option 'history' is of ARFlow, whose denoising steps read the steps before"):
        make_options(VelocityOptions, {"history": "none"})


def test_what_is_no_option_is_one_of_the_solver() -> None:
    settings = {"solver": "sde", "diffusion": "linear", "solver_options": {"path": "gvp"}}
    expected = {"solver": "sde", "solver_options": {"path": "gvp", "diffusion": "linear"}}
    assert split_settings(settings) == expected


def test_every_option_is_a_flag_or_says_that_it_is_none() -> None:
    flags = {action.dest for action in make_parser()._actions}
    for name, entry in all_options().items():
        assert (name in flags) == (entry.metadata["flag"] is not None)
        assert entry.metadata["help"]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_pipelines_show_the_options_of_their_family(family: Any) -> None:
    call = family.pipeline_class.__call__
    names = names_of(family.pipeline_class.options_class)
    assert set(names) <= set(inspect.signature(call).parameters)
    assert all(name in call.__doc__ for name in names)
    assert set(family.sampling) <= set(names)


@pytest.mark.parametrize(("module", "kind"), [(arflow, ContextOptions), (sit, VelocityOptions), (flowar, ScaleOptions)])
def test_samplers_show_their_options(module: Any, kind: type[SamplingOptions]) -> None:
    assert {entry.name for entry in fields(kind)} <= set(inspect.signature(module.sample).parameters)
