"""Training on other sequences than ARFlow's: order of noise, contents, no decay. For comparison with it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from flowgression.data.config import ClassesConfig, DataConfig
from flowgression.data.sampler import CONTENTS
from flowgression.errors import InputError
from flowgression.families.arflow.model import ARFlow
from flowgression.flow.sequence import NOISE_ORDERS
from flowgression.training.config import ModelConfig, ScheduleConfig, SequenceConfig, TrainConfig
from flowgression.training.loop import train
from flowgression.training.objectives import drop_labels
from flowgression.training.planner import measure
from flowgression.training.randomness import StepRandomness
from flowgression.training.trainer import Trainer
from tests.training.conftest import TINY_MODEL

MakeConfig = Callable[..., TrainConfig]
CLASSES = DataConfig(path="mnist-classes", split="test", image_size=14, classes=ClassesConfig(num_classes=12))


def test_the_configuration_knows_what_sampler_and_noise_know() -> None:
    hints = get_type_hints(SequenceConfig)
    assert get_args(hints["noise"]) == NOISE_ORDERS
    assert get_args(hints["contents"]) == CONTENTS


def test_models_of_single_images_refuse_them(tiny_config: MakeConfig) -> None:
    with pytest.raises(InputError, match="neither order"):
        tiny_config("sit", sequence=SequenceConfig(noise="random"))


@pytest.mark.parametrize("order", NOISE_ORDERS)
def test_times_of_a_part_are_rows_of_the_whole_in_every_order(order: str) -> None:
    whole = StepRandomness(3, 5, noise_order=order).sequence_times((6, 4))
    parts = [StepRandomness(3, 5, part=i, num_parts=2, noise_order=order).sequence_times((3, 4)) for i in (0, 1)]
    assert torch.equal(torch.cat(parts), whole)
    plain = StepRandomness(3, 5).sequence_times((6, 4))
    if order != "equal":
        assert torch.equal(whole.sort(dim=1).values, plain)


def batch(config: TrainConfig) -> dict[str, torch.Tensor]:
    with Trainer(config) as trainer:
        return next(trainer.batches(0))


def test_images_of_mixed_sequences_have_their_own_labels(tiny_config: MakeConfig) -> None:
    config = tiny_config(data=CLASSES, batch_size=60, sequence_length=5, sequence=SequenceConfig(contents="mixed"))
    found = batch(config)
    assert found["class_labels"].shape == (12, 5)
    assert (found["class_labels"] != found["class_labels"][:, :1]).any()
    # Every image is of the class that its label says: its corner is of the ground's colour.
    with Trainer(config) as trainer:
        grounds = torch.from_numpy(trainer.dataset.styles.grounds) / 127.5 - 1  # type: ignore[attr-defined]
    torch.testing.assert_close(found["images"][..., 0, 0], grounds[found["class_labels"]])


def test_an_image_may_be_its_own_sequence(tiny_config: MakeConfig) -> None:
    found = batch(tiny_config(batch_size=12, sequence=SequenceConfig(contents="image")))
    assert found["class_labels"].shape == (4,)
    assert (found["images"] == found["images"][:, :1]).all()
    assert len({image.numpy().tobytes() for image in found["images"][:, 0]}) == 4


def test_labels_of_a_mixed_sequence_are_dropped_together() -> None:
    model = torch.nn.Module()
    model.config = type("Config", (), {"class_dropout_prob": 0.5, "num_classes": 10})  # type: ignore[assignment]
    labels = torch.arange(10).repeat(200, 1)
    dropped = drop_labels(model, labels, StepRandomness(0, 0)) == 10
    assert (dropped.all(1) | ~dropped.any(1)).all()
    assert 60 < dropped[:, 0].sum() < 140  # 100 +- 5.7 standard deviations
    alone = drop_labels(model, labels[:, 0], StepRandomness(0, 0)) == 10
    assert torch.equal(dropped[:, 0], alone)


def test_a_label_for_each_image_is_that_of_a_sequence_where_all_are_equal() -> None:
    torch.manual_seed(0)
    model = ARFlow(**TINY_MODEL, sample_size=14, in_channels=1, num_classes=10)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, t, labels = torch.randn(2, 3, 1, 14, 14), torch.rand(2, 3), torch.tensor([4, 9])
    together = model(x, t, labels).velocity
    torch.testing.assert_close(model(x, t, labels[:, None].expand(2, 3)).velocity, together)
    other = model(x, t, torch.tensor([[4, 4, 5], [9, 9, 9]])).velocity
    torch.testing.assert_close(other[:, :2], together[:, :2])
    assert (other[0, 2] - together[0, 2]).abs().max() > 1e-3
    with pytest.raises(InputError, match="class_labels"):
        model(x, t, labels[:, None])


@pytest.mark.parametrize(
    ("noise", "contents", "decay"), [("rising", "mixed", True), ("random", "image", True), ("equal", "class", False)]
)
def test_a_run_that_is_stopped_and_resumed_is_the_unbroken_one(
    tiny_config: MakeConfig, tmp_path: Path, noise: str, contents: str, decay: bool
) -> None:
    def run(name: str) -> TrainConfig:
        return tiny_config(
            sequence=SequenceConfig(noise=noise, contents=contents),  # type: ignore[arg-type]
            model=ModelConfig(args=TINY_MODEL | {"decay": decay}),
            schedule=ScheduleConfig(),  # constant, so that it does not depend on max_steps
            out=str(tmp_path / name),
        )

    train(run("whole"))
    train(replace(run("parts"), max_steps=2))
    train(run("parts"), resume=True)
    for name in ("metrics.jsonl", "pipeline/transformer/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_order_decides_the_run(tiny_config: MakeConfig, tmp_path: Path) -> None:
    weights = set()
    for noise in NOISE_ORDERS:
        config = tiny_config(out=str(tmp_path / noise), max_steps=2, sequence=SequenceConfig(noise=noise))  # type: ignore[arg-type]
        train(config)
        weights.add((tmp_path / noise / "pipeline/transformer/diffusion_pytorch_model.safetensors").read_bytes())
    assert len(weights) == 4


def test_the_planner_measures_mixed_sequences(tiny_config: MakeConfig) -> None:
    plain, mixed = (measure(tiny_config(sequence=SequenceConfig(contents=c)), 1, 2) for c in ("class", "mixed"))  # type: ignore[arg-type]
    assert mixed.parameters == plain.parameters
    assert mixed.flops >= plain.flops
