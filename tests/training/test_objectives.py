"""The objectives against their definition, and label dropout."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowgression import InputError
from flowgression.families.arflow.training import arflow_objective
from flowgression.families.sit.training import sit_objective
from flowgression.models import FAMILIES
from flowgression.training.objectives import TrainingModule, drop_labels
from flowgression.training.randomness import StepRandomness


class Recorder(nn.Module):
    """Stands for a model: keeps what it was asked and answers with a velocity of zeros."""

    def __init__(self, class_dropout_prob: float = 0.0) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_classes=10, class_dropout_prob=class_dropout_prob, path="linear")
        self.asked: tuple[Tensor, ...] = ()

    def forward(self, *inputs: Tensor, return_state: bool = True) -> Any:
        self.asked = inputs
        return SimpleNamespace(velocity=torch.zeros_like(inputs[0]))


def test_arflow_noises_sequences_with_the_noisiest_first() -> None:
    model, images = Recorder(), torch.randn(4, 3, 1, 6, 6)
    output = arflow_objective(model, images, torch.tensor([0, 1, 2, 3]), StepRandomness(0, 0))
    x_t, t, labels = model.asked
    assert labels.tolist() == [0, 1, 2, 3]
    assert t.shape == (4, 3)
    assert (t.diff(dim=1) >= 0).all()
    # x_t = t x1 + (1 - t) x0 and target x1 - x0, so target = (x1 - x_t) / (1 - t); the answer was zero.
    target = (images - x_t) / (1 - t)[..., None, None, None]
    torch.testing.assert_close(output.loss, target.square().mean(), rtol=1e-4, atol=1e-5)


def test_sit_noises_single_images() -> None:
    model, images = Recorder(), torch.randn(5, 1, 6, 6)
    output = sit_objective(model, images, torch.arange(5), StepRandomness(0, 1))
    x_t, t, _ = model.asked
    assert t.shape == (5,)
    target = (images - x_t) / (1 - t)[:, None, None, None]
    torch.testing.assert_close(output.loss, target.square().mean(), rtol=1e-4, atol=1e-5)


def test_single_images_are_sequences_of_one_for_arflow() -> None:
    model = Recorder()
    arflow_objective(model, torch.randn(2, 1, 6, 6), torch.arange(2), StepRandomness(0, 0))
    assert model.asked[0].shape == (2, 1, 1, 6, 6)


@pytest.mark.parametrize("family", ["sit", "flowar"])
def test_models_of_single_images_refuse_sequences(family: str) -> None:
    with pytest.raises(InputError, match="sequence_length=1"):
        FAMILIES[family].objective_function(
            Recorder(), torch.randn(2, 3, 1, 6, 6), torch.arange(2), StepRandomness(0, 0)
        )


def test_labels_are_dropped_as_often_as_the_model_asks() -> None:
    labels = torch.randint(10, (20_000,))
    dropped = drop_labels(Recorder(class_dropout_prob=0.1), labels, StepRandomness(0, 0))
    share = (dropped == 10).float().mean().item()
    assert share == pytest.approx(0.1, abs=0.01)
    assert torch.equal(dropped[dropped != 10], labels[dropped != 10])


@pytest.mark.parametrize(("probability", "expected"), [(0.0, [3, 4]), (1.0, [10, 10])])
def test_dropout_of_none_and_of_all(probability: float, expected: list[int]) -> None:
    model = Recorder(class_dropout_prob=probability)
    assert drop_labels(model, torch.tensor([3, 4]), StepRandomness(0, 0)).tolist() == expected


def test_two_parts_have_the_loss_of_the_whole_batch() -> None:
    images, labels = torch.randn(4, 2, 1, 6, 6), torch.arange(4)
    module = TrainingModule(Recorder(class_dropout_prob=0.5), arflow_objective)
    together = module(images, labels, StepRandomness(0, 3)).loss
    halves = [
        module(images[rows], labels[rows], StepRandomness(0, 3, part=index, num_parts=2)).loss
        for index, rows in enumerate([slice(0, 2), slice(2, 4)])
    ]
    torch.testing.assert_close(torch.stack(halves).mean(), together)
