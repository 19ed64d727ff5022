"""Classifier-free guidance: formula, interval, channels, refused input."""

import pytest
import torch

from flowgression.errors import InputError
from flowgression.flow.guidance import Guidance

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
