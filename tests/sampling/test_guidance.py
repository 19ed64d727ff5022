"""Forms of guidance in the samplers of all families, beside loops that say what they are."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from flowgression import InputError, make_pipeline
from flowgression.families.arflow.sampling import sample as sample_arflow
from flowgression.families.flowar.sampling import noise_shapes
from flowgression.families.flowar.sampling import sample as sample_flowar
from flowgression.families.flowar.scales import to_map
from flowgression.families.sit.sampling import sample as sample_sit
from tests.families.flowar.cases import small_model
from tests.families.tiny import tiny_model

SCALE, STEPS = 2.5, 4
FORMS: dict[str, dict[str, Any]] = {"cfg": {}, "cfg-zero": {"guidance": "cfg-zero"}, "every": {"guidance_every": 2}}
LABELS = torch.tensor([1, 3])


def worse(model: Any) -> Any:
    """Another model of the same classes."""
    other = type(model)(**{name: value for name, value in model.config.items() if not name.startswith("_")}).eval()
    generator = torch.Generator().manual_seed(5)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return other


def combined(form: str, step: int, cond: torch.Tensor, null: torch.Tensor) -> torch.Tensor:
    """What each form makes of two velocities, as its definition says."""
    if form == "every":
        return cond if step % 2 else null + (1 + 2 * (SCALE - 1)) * (cond - null)
    if form == "cfg-zero":
        product, square = ((null * other).flatten(1).sum(1)[:, None, None, None] for other in (cond, null))
        null = null * product / square
    return null + SCALE * (cond - null)


@pytest.mark.parametrize("form", [*FORMS, "model"])
def test_sit_by_a_loop(form: str) -> None:
    model, z = tiny_model("sit"), torch.randn(2, 1, 6, 4, generator=torch.Generator().manual_seed(0))
    bad, given = worse(model), FORMS.get(form, {"guidance_model": "worse"})
    guide = {"guide": bad} if form == "model" else {}
    found = sample_sit(model, z, LABELS, num_inference_steps=STEPS, guidance_scale=SCALE, **given, **guide)
    x, null_label = z, torch.full((2,), model.config.num_classes)
    with torch.no_grad():
        for step, (t, end) in enumerate(pairwise(torch.linspace(0, 1, STEPS + 1))):
            cond = model(x, t.expand(2), LABELS).velocity
            null = bad(x, t.expand(2), LABELS).velocity if guide else model(x, t.expand(2), null_label).velocity
            x = x + (end - t) * combined(form, step, cond, null)
    torch.testing.assert_close(found.sample, x, rtol=1e-4, atol=1e-5)


def test_arflow_and_its_guide_keep_a_state_each() -> None:
    model, z = tiny_model("arflow"), torch.randn(2, 1, 6, 4, generator=torch.Generator().manual_seed(0))
    bad = worse(model)
    settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": SCALE, "guidance_interval": (0.2, 1.0)}
    found = sample_arflow(model, z, LABELS, guidance_model="worse", guide=bad, **settings)
    x, states = z, [model.new_state(2), bad.new_state(2)]
    with torch.no_grad():
        for t, end in pairwise(torch.linspace(0, 1, STEPS + 1)):
            outputs = [
                each(x[:, None], t.expand(2, 1), LABELS, state)
                for each, state in zip((model, bad), states, strict=True)
            ]
            states, (cond, other) = [each.state for each in outputs], [each.velocity[:, 0] for each in outputs]
            x = x + (end - t) * (other + SCALE * (cond - other) if t >= 0.2 else cond)
    torch.testing.assert_close(found.sample, x, rtol=1e-4, atol=1e-5)
    for ours, expected in zip(found.state, states[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="saves nothing"):
        sample_arflow(model, z, LABELS, guidance_every=2, **settings)


@pytest.mark.parametrize("form", [*FORMS, "model"])
def test_flowar_by_a_loop(form: str) -> None:
    """At every scale, with a strength that rises from 1."""
    model = small_model("six")
    bad, given = worse(model), FORMS.get(form, {"guidance_model": "worse"})
    guide = {"guide": bad} if form == "model" else {}
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(2)) for shape in noise_shapes(model, 2)]
    settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": SCALE, "noise": noise}
    found = sample_flowar(model, LABELS, **settings, **given, **guide)
    maps: list[torch.Tensor] = []
    null_label = torch.full((2,), model.config.num_classes)
    times = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    with torch.no_grad():
        for k in range(len(model.scales)):
            semantics, x = model.semantics(maps, LABELS)[-1], noise[k].double()
            other = bad if guide else model
            of_other = other.semantics(maps, LABELS if guide else null_label)[-1]
            scale = 1 + (SCALE - 1) * k / (len(model.scales) - 1)
            for step, (t, end) in enumerate(pairwise(times)):
                cond = model.flow_head(x.float(), t.expand(2), semantics).double()
                null = other.flow_head(x.float(), t.expand(2), of_other).double()
                strength = 1 + 2 * (scale - 1) if form == "every" else scale
                if form == "cfg-zero" and scale != 1:
                    product, square = ((null * each).flatten(1).sum(1)[:, None, None] for each in (cond, null))
                    null = null * product / square
                v = cond if form == "every" and step % 2 else null + strength * (cond - null)
                x = x + (end - t) * v
            maps.append(to_map(x.float(), model.config.patch_size))
    torch.testing.assert_close(found.sample, maps[-1], rtol=1e-4, atol=1e-4)


def test_a_pipeline_loads_its_guide_by_name(tmp_path: Path) -> None:
    model = tiny_model("sit", sample_size=6)
    pipe, bad = make_pipeline(model), worse(model)
    make_pipeline(bad).save_pretrained(tmp_path / "early")
    call: dict[str, Any] = {"class_labels": [1, 3], "num_inference_steps": 2, "output_type": "latent"}
    z = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    found = pipe(**call, latents=z, guidance_scale=2.0, guidance_model=str(tmp_path / "early")).images
    settings: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 2.0}
    expected = sample_sit(model, z, LABELS, guide=bad, guidance_model="early", **settings)
    torch.testing.assert_close(found, expected.sample)
    plain = pipe(**call, latents=z, guidance_scale=2.0).images
    assert (found - plain).abs().max() > 1e-3


def test_guides_that_do_not_fit_are_refused() -> None:
    model, z = tiny_model("sit"), torch.zeros(2, 1, 6, 4)
    for guide, scale, message in (
        (tiny_model("sit", num_classes=3), 2.0, "guidance_model has num_classes=3, and the model has 8"),
        (tiny_model("arflow"), 2.0, "guidance_model is a ARFlow"),
        (worse(model), 1.0, "changes nothing at guidance_scale=1"),
        (None, 2.0, "take its guide as guide="),
    ):
        with pytest.raises(InputError, match=message):
            sample_sit(model, z, LABELS, guidance_scale=scale, guidance_model="worse", guide=guide)
    with pytest.raises(InputError, match="has no steps to count"):
        sample_sit(model, z, LABELS, guidance_scale=2.0, guidance_every=2, solver="dopri5")
    smaller = tiny_model("sit", depth=1, hidden_size=8)
    sample_sit(model, z, LABELS, num_inference_steps=1, guidance_scale=2.0, guidance_model="small", guide=smaller)
