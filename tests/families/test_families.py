"""What every family of models has to do; `cases.py` lists them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from flowgression import InputError, TrainConfig, load_pipeline, make_pipeline, train
from flowgression.data import DataConfig
from flowgression.evaluation.cost import CostMeter
from flowgression.models import FAMILIES
from flowgression.registry import family_of
from flowgression.training import EmaConfig, ModelConfig, OptimizerConfig, PreviewConfig, ScheduleConfig, make_plan
from flowgression.training.objectives import TrainingModule
from flowgression.training.planner import GPUS
from flowgression.training.randomness import StepRandomness
from flowgression.training.run_folder import RunFolder
from tests.families.cases import FAMILY_CASES, SIDE, FamilyCase, every_family
from tests.families.golden import Golden


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def pipeline(case: FamilyCase, **overrides: Any) -> Any:
    pipe = make_pipeline(case.model(**overrides), id2label={3: "three"})
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., TrainConfig]:
    """A function that gives a small training run of a case."""

    def make(case: FamilyCase, name: str = "run", **fields: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "model": ModelConfig(family=case.family, args=dict(case.args)),
            "data": DataConfig(path="mnist", split="test", image_size=SIDE, num_workers=0),
            "batch_size": 20,
            "max_steps": 4,
            "optimizer": OptimizerConfig(lr=5e-3, clip_norm=1.0, clip_value=None),
            "schedule": ScheduleConfig(warmup_steps=2),
            "ema": EmaConfig(decay=0.9),
            "device": "cpu",
            "num_threads": 1,
            "out": str(tmp_path / name),
            "checkpoint_every": 2,
            "log_every": 1,
            "preview": PreviewConfig(every=0),
            "tracker": "none",
        }
        return TrainConfig(**(settings | fields))

    return make


def test_every_family_is_listed() -> None:
    assert {case.family for case in FAMILY_CASES.values()} == set(FAMILIES)
    released = {case.family for case in FAMILY_CASES.values() if case.golden is not None}
    assert released == {name for name, family in FAMILIES.items() if family.converter is not None}


@every_family
def test_its_description_fits_its_classes(case: FamilyCase) -> None:
    family, model = case.description, case.model()
    assert family_of(model) is family
    assert type(model) is family.model_class
    assert isinstance(make_pipeline(model), family.pipeline_class)
    assert callable(family.objective_function)
    model.get_submodule(family.nfe_module)
    for name in family.presets_module.PRESETS:
        with torch.device("meta"):
            assert family.model_class.from_preset(name).config.num_classes == 1000


@every_family
def test_saved_and_loaded(case: FamilyCase, tmp_path: Path) -> None:
    pipe = pipeline(case)
    pipe.save_pretrained(tmp_path / "model")
    call: dict[str, Any] = {"num_inference_steps": 2, "output_type": "latent"}
    expected = pipe(["three", 1], generator=seeded(0, 1), **call).images
    for loaded in (load_pipeline(tmp_path / "model"), load_pipeline(tmp_path / "model" / "transformer")):
        loaded.set_progress_bar_config(disable=True)
        assert type(loaded.transformer) is case.description.model_class
        assert dict(loaded.transformer.state_dict()).keys() == dict(pipe.transformer.state_dict()).keys()
        images = loaded([3, 1], generator=seeded(0, 1), **call).images
        torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)


@every_family
def test_an_image_does_not_depend_on_its_batch(case: FamilyCase) -> None:
    pipe = pipeline(case)
    call: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "latent"}
    together = pipe([3, 7, 3], generator=seeded(0, 1, 2), **call).images
    alone = pipe([7], generator=seeded(1), **call).images
    # Float32 sums of at most a few hundred terms in another order, over three steps of a network of order one.
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)
    assert (together[0] - together[2]).abs().max() > 1e-2


@every_family
def test_training_lowers_the_loss(case: FamilyCase) -> None:
    """On one batch with the same noise: the gradient is that of the loss, whatever the family."""
    model = case.model(class_dropout_prob=0.0).train()
    module = TrainingModule(model, case.description.objective_function)
    shape = (4, case.description.sequence_length or 1, 1, SIDE, SIDE)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 2 - 1
    images = images if case.description.reads_sequences else images[:, 0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(30):
        loss = module(images, torch.arange(4), StepRandomness(0, 0)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@every_family
def test_a_run_that_is_stopped_and_resumed_is_the_unbroken_one(case: FamilyCase, run: Callable[..., Any]) -> None:
    whole, parts = run(case, "whole"), run(case, "parts")
    train(whole)
    train(replace(parts, max_steps=2))
    train(parts, resume=True)
    files = ["metrics.jsonl", "pipeline/transformer/diffusion_pytorch_model.safetensors"]
    for name in files:
        assert (Path(whole.out) / name).read_bytes() == (Path(parts.out) / name).read_bytes()
    assert len(RunFolder(Path(whole.out)).read_metrics()) == 4
    assert type(load_pipeline(Path(whole.out) / "pipeline").transformer) is case.description.model_class


@every_family
def test_its_sequences_are_its_familys(case: FamilyCase, run: Callable[..., Any]) -> None:
    family = case.description
    assert run(case).sequence_length == (family.sequence_length or 1)
    if family.reads_sequences:
        assert run(case, sequence_length=2).sequence_length == 2
    else:
        with pytest.raises(InputError, match=f"sequence_length=2: models of the family {case.family}"):
            run(case, sequence_length=2)


@every_family
def test_a_plan_of_its_run(case: FamilyCase, run: Callable[..., Any]) -> None:
    plan = make_plan(run(case), GPUS["h100"], 1)
    assert plan.parameters == sum(parameter.numel() for parameter in case.model().parameters())
    assert plan.flops > 0
    assert plan.peak > 16 * plan.parameters  # weights, average and two moments


@every_family
def test_what_sampling_costs(case: FamilyCase) -> None:
    """Twice the steps are twice the calls; guidance doubles the work and not the calls."""
    pipe, call = pipeline(case), {"num_inference_steps": 2, "guidance_scale": 1.0}
    meter = CostMeter(pipe, call)
    scales = len(pipe.transformer.scales) if case.description.draws_scales else 1
    assert meter.calls == 2 * scales
    assert CostMeter(pipe, call | {"num_inference_steps": 4}).calls == 4 * scales
    guided = CostMeter(pipe, call | {"guidance_scale": 2.0})
    assert guided.calls == meter.calls
    assert 1.3 * meter.flops_per_image < guided.flops_per_image <= 2 * meter.flops_per_image


@every_family
def test_guidance_needs_a_null_label(case: FamilyCase) -> None:
    pipe = pipeline(case, class_dropout_prob=0.0)
    with pytest.raises(InputError, match="trained without a null label"):
        pipe([1], num_inference_steps=1, guidance_scale=2.0)
    assert pipe([1], num_inference_steps=1, guidance_scale=1.0).images[0].size == (SIDE, SIDE)


SOLVERS_BY_NEED = [("euler", {}), ("heun", {}), ("sde", {"diffusion": "linear"})]


@every_family
def test_sampler_options(case: FamilyCase) -> None:
    """What holds for all: guidance outside of its interval is none, times are a grid, solvers differ."""
    pipe = pipeline(case)

    def draw(**settings: Any) -> torch.Tensor:
        return pipe(
            [3, 1], generator=seeded(0, 1), output_type="latent", **{"num_inference_steps": 4, **settings}
        ).images

    plain = draw(guidance_scale=1.0)
    torch.testing.assert_close(draw(guidance_scale=3.0, guidance_interval=(0.9, 1.0)), plain, atol=1e-4, rtol=0)
    early, late = (
        draw(guidance_scale=3.0, guidance_interval=(0.0, 0.4)),
        draw(guidance_scale=3.0, guidance_interval=(0.5, 1.0)),
    )
    assert (early - late).abs().max() > 1e-3
    given = draw(guidance_scale=1.0, times=[0.0, 0.25, 0.5, 0.75, 1.0])
    torch.testing.assert_close(given, plain, atol=1e-4, rtol=0)
    drawn = [draw(guidance_scale=1.0, solver=name, solver_options=options) for name, options in SOLVERS_BY_NEED]
    for first, second in pairwise(drawn):
        assert first.isfinite().all()
        assert (first - second).abs().max() > 1e-3
    with pytest.raises(InputError, match="sampling has no option 'num_inference_step'"):
        draw(num_inference_step=3)


@every_family
@pytest.mark.parametrize("path", ["gvp", "vp"])
def test_other_paths_are_trained_and_sampled(case: FamilyCase, path: str, run: Callable[..., Any]) -> None:
    """The run tells the model its path, and a sampler that needs it asks the model."""
    train(run(case, path=path, max_steps=2))
    pipe = load_pipeline(Path(run(case).out))  # the folder of the run
    pipe.set_progress_bar_config(disable=True)
    assert pipe.transformer.config.path == path
    call: dict[str, Any] = {"num_inference_steps": 3, "solver": "sde", "output_type": "latent"}
    own, named, other = (
        pipe([1], generator=seeded(0), **call, solver_options=options).images
        for options in ({}, {"path": path}, {"path": "linear"})
    )
    assert torch.equal(own, named)
    assert (own - other).abs().max() > 1e-4


RELEASED = {name: case for name, case in FAMILY_CASES.items() if case.golden is not None}


@pytest.mark.parametrize("case", RELEASED.values(), ids=list(RELEASED))
def test_released_weights_survive_a_folder(case: FamilyCase, tmp_path: Path) -> None:
    weights = Golden(str(case.golden)).weights()
    options = {"sit": {"num_heads": 4, "num_classes": 10}, "arflow": {"num_classes": 10}}.get(case.family, {})
    model = case.description.load_released()(weights, **options)
    make_pipeline(model).save_pretrained(tmp_path / "model")
    loaded = load_pipeline(tmp_path / "model").transformer.state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
