"""The flow-matching loss."""

import pytest
import torch

from flowgression import InputError
from flowgression.flow import flow_matching_loss

VELOCITY, TARGET = torch.randn(2, 2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0)).double()


def test_is_the_mean_squared_error():
    loss = flow_matching_loss(VELOCITY, TARGET)
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(float(((VELOCITY - TARGET) ** 2).mean()), rel=1e-14)


@pytest.mark.parametrize(("image_dims", "shape"), [(3, (2, 3)), (2, (2, 3, 4)), (4, (2,))])
def test_per_image(image_dims, shape):
    losses = flow_matching_loss(VELOCITY, TARGET, per_image=True, image_dims=image_dims)
    assert losses.shape == shape
    torch.testing.assert_close(losses.mean(), flow_matching_loss(VELOCITY, TARGET))
    first = (0,) * len(shape)
    torch.testing.assert_close(losses[first], ((VELOCITY[first] - TARGET[first]) ** 2).mean())


def test_half_precision_is_computed_in_float32():
    # 300^2 overflows float16; the mean of many equal values loses digits in bfloat16.
    velocity, target = torch.full((1, 64, 64), 300.0, dtype=torch.float16), torch.zeros(1, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = flow_matching_loss(velocity, target)
    assert loss.dtype == torch.float32
    assert float(loss) == 90_000


def test_gradient():
    velocity = VELOCITY.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(flow_matching_loss(velocity, TARGET), velocity)
    torch.testing.assert_close(gradient, 2 * (VELOCITY - TARGET) / VELOCITY.numel())


def test_wrong_input():
    with pytest.raises(InputError, match="differ in shape"):
        flow_matching_loss(VELOCITY, TARGET[:1])
    with pytest.raises(InputError, match="3 dimensions"):
        flow_matching_loss(VELOCITY[0, 0, 0], TARGET[0, 0, 0], per_image=True)
