"""Classifier-free guidance: formula, interval, channels, refused input."""

import pytest
import torch

from flowgression import InputError
from flowgression.flow import Guidance

COND, NULL = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.5, 4.0])
def test_formula(scale):
    torch.testing.assert_close(Guidance(scale).combine(COND, NULL), NULL + scale * (COND - NULL))


def test_scale_one_is_the_conditional_model():
    assert torch.equal(Guidance(1.0).combine(COND, NULL), COND)
    assert not Guidance(1.0).enabled
    assert not Guidance(1.0).active(0.5)
    assert Guidance(0.0).enabled


def test_interval_includes_both_ends_up_to_rounding():
    guidance = Guidance(2.0, interval=(0.3, 0.7))
    assert [guidance.active(t) for t in (0.0, 0.29, 0.3, 0.5, 0.7, 0.71, 1.0)] == [
        False,
        False,
        *[True] * 3,
        False,
        False,
    ]
    # In float32 0.3 lies above and 0.7 below its float64 value.
    assert Guidance(2.0, interval=(0.0, 0.3)).active(float(torch.tensor(0.3)))
    assert Guidance(2.0, interval=(0.7, 1.0)).active(float(torch.tensor(0.7)))
    assert Guidance(2.0).active(0.0)
    assert Guidance(2.0).active(1.0)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_only_the_first_channels_are_guided(k):
    combined = Guidance(1.5, channels=k).combine(COND, NULL)
    assert torch.equal(combined[:, k:], COND[:, k:])
    torch.testing.assert_close(combined[:, :k], Guidance(1.5).combine(COND, NULL)[:, :k])


def test_channels_of_sequences():
    cond, null = torch.randn(2, 2, 3, 4, 2, 2)
    combined = Guidance(1.5, channels=3).combine(cond, null)
    assert torch.equal(combined[:, :, 3], cond[:, :, 3])
    assert not torch.equal(combined[:, :, 2], cond[:, :, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -0.1}, "guidance_scale"),
        ({"scale": float("nan")}, "guidance_scale"),
        ({"interval": (0.6, 0.4)}, "guidance_interval"),
        ({"interval": (-0.1, 1.0)}, "guidance_interval"),
        ({"interval": (0.0, 0.5, 1.0)}, "guidance_interval"),
        ({"channels": 0}, "guided_channels"),
        ({"kind": "cfgzero"}, "did you mean 'cfg-zero'"),
        ({"every": 0}, "guidance_every"),
        ({"every": True}, "guidance_every"),
        ({"kind": "cfg-zero", "example_scale": 2.0}, "cannot be combined"),
        ({"by_model": True, "example_scale": 2.0}, "cannot be combined"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        Guidance(**options)


def test_wrong_velocities():
    with pytest.raises(InputError, match="differ in shape"):
        Guidance(2.0).combine(COND, NULL[:1])
    with pytest.raises(InputError, match="C >= 6"):
        Guidance(2.0, channels=6).combine(COND, NULL)
    with pytest.raises(InputError, match="needs"):
        Guidance(2.0, channels=1).combine(COND[0, 0], NULL[0, 0])


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_cfg_zero_fits_the_null_velocity_image_by_image(scale: float) -> None:
    """v = s* v_null + scale (v_cond - s* v_null), and what is left of v_cond is orthogonal to v_null."""
    found = Guidance(scale, kind="cfg-zero").combine(COND, NULL)
    for image in range(3):
        cond, null = COND[image].flatten(), NULL[image].flatten()
        fitted = (cond @ null / (null @ null)) * null
        assert abs((cond - fitted) @ null) < 1e-12 * (null @ null)
        torch.testing.assert_close(found[image].flatten(), fitted + scale * (cond - fitted))
    same = Guidance(scale, kind="cfg-zero").combine(COND, 0.25 * COND)
    torch.testing.assert_close(same, COND)  # velocities of one direction leave nothing to exaggerate
    assert torch.equal(Guidance(2.0, kind="cfg-zero").combine(COND, 0 * NULL), 2 * COND)


def test_at_every_second_step_twice_as_strong() -> None:
    guidance = Guidance(1.5, every=2)
    assert [guidance.active(0.1, step) for step in range(4)] == [True, False, True, False]
    torch.testing.assert_close(guidance.combine(COND, NULL), NULL + 2.0 * (COND - NULL))
    mean = (guidance.combine(COND, NULL) + COND) / 2
    torch.testing.assert_close(mean, Guidance(1.5).combine(COND, NULL))
    with_examples = Guidance(1.5, example_scale=3.0, every=3)
    weights = Guidance(1.5, example_scale=3.0).weights
    assert {name: (with_examples.weights[name] + 2 * (name == "cond")) / 3 for name in weights} == pytest.approx(
        weights
    )


def test_a_worse_model_needs_no_null_label() -> None:
    Guidance(2.0, by_model=True).check_null_label(0.0)
    with pytest.raises(InputError, match="without a null label"):
        Guidance(2.0).check_null_label(0.0)
