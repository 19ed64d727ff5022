"""Training on other sequences than ARFlow's: order of noise, contents, no decay. For comparison with it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from PIL import Image

from flowgression import ARFlow, InputError, TrainConfig, load_pipeline, train
from flowgression.data import DataConfig
from flowgression.data.config import ClassesConfig
from flowgression.data.sampler import CONTENTS
from flowgression.families.arflow.training import arflow_objective
from flowgression.flow.sequence import NOISE_ORDERS
from flowgression.training import ModelConfig, ScheduleConfig
from flowgression.training.objectives import drop_labels
from flowgression.training.planner import measure
from flowgression.training.randomness import StepRandomness
from flowgression.training.settings import SequenceConfig
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


def write_groups(folder: Path) -> DataConfig:
    """Three writers' images of four classes each, grey levels that differ."""
    for writer in range(3):
        for name in range(4):
            place = folder / f"writer {writer}" / f"class {name}"
            place.mkdir(parents=True)
            Image.new("L", (14, 14), 60 * writer + 15 * name).save(place / "0.png")
    return DataConfig(path=str(folder), group_by="group/class", num_workers=0)


def test_a_run_of_groups_with_clean_images_is_resumed_exactly(tiny_config: MakeConfig, tmp_path: Path) -> None:
    data = write_groups(tmp_path / "images")
    sequence = SequenceConfig(contents="group", clean=0.4, shortest=2, noise="random")

    def run(name: str) -> TrainConfig:
        model = ModelConfig(args=TINY_MODEL | {"prediction_type": "sample"})
        return tiny_config(
            data=data, sequence=sequence, model=model, schedule=ScheduleConfig(), out=str(tmp_path / name)
        )

    train(run("whole"))
    train(replace(run("parts"), max_steps=3))
    train(run("parts"), resume=True)
    for name in ("metrics.jsonl", "pipeline/transformer/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    known = json.loads((tmp_path / "whole" / "pipeline/transformer/config.json").read_text())
    assert known["clean"] == 0.4
    for place in sorted((tmp_path / "images").glob("writer 1/*/0.png")):  # now of another group
        target = tmp_path / "images" / "writer 0" / place.parent.name / "1.png"
        place.rename(target)
    with pytest.raises(InputError, match="groups_crc32"):
        train(replace(run("parts"), max_steps=8), resume=True)


def test_clean_images_come_first_and_every_number_is_equally_likely() -> None:
    found = StepRandomness(0, 0, clean=0.3).clean_images((4000, 5))
    assert found is not None
    counts = found.mask.sum(1)
    assert torch.equal(found.mask, torch.arange(5) < counts[:, None])
    shares = torch.bincount(counts, minlength=6) / 4000
    assert shares[4:].max() == 0  # 0 to 2 * 0.3 * 5
    assert (shares[:4] - 0.25).abs().max() < 5 * (0.25 * 0.75 / 4000) ** 0.5
    assert found.noisy == (~found.mask).sum()
    assert int(StepRandomness(0, 0, clean=0.9).clean_images((999, 3)).mask.sum(1).max()) == 2  # type: ignore[union-attr]
    assert StepRandomness(0, 0, clean=0.0).clean_images((2, 5)) is None
    assert StepRandomness(0, 0, clean=0.5).clean_images((2, 1)) is None


@pytest.mark.parametrize("prediction", ["velocity", "sample"])
def test_clean_images_are_read_and_have_no_loss(prediction: str) -> None:
    model = ARFlow(
        sample_size=14, in_channels=1, num_classes=3, learn_sigma=False, **TINY_MODEL, prediction_type=prediction
    ).requires_grad_(False)
    for parameter in model.parameters():  # adaLN-Zero would give 0 whatever is read
        parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 4, 1, 14, 14, generator=generator)
    labels = torch.randint(0, 3, (6, 4), generator=generator)

    def loss(shown: torch.Tensor, part: int = 0, parts: int = 1) -> torch.Tensor:
        random = StepRandomness(1, 2, part=part, num_parts=parts, noise_order="random", clean=0.4)
        return arflow_objective(model, shown, labels[len(shown) * part :][: len(shown)], random).loss

    random = StepRandomness(1, 2, noise_order="random", clean=0.4)
    times, noise = random.sequence_times((6, 4)), random.normal(images.shape)
    random.uniform((6,))  # of the labels
    clean = random.clean_images((6, 4))
    assert clean is not None
    assert 0 < clean.mask.sum() < 24
    # By hand, image by image.
    dropped = drop_labels(model, labels, replay(random))
    t = times.masked_fill(clean.mask, 1.0)
    x = torch.lerp(noise, images, t[..., None, None, None])
    velocity = model(x, t, dropped).velocity
    errors = (velocity - (images - noise)).square().mean((2, 3, 4))
    if prediction == "sample":
        errors = errors * ((1 - times) / 0.05).clamp(max=1).square()
    expected = errors[~clean.mask].mean()
    torch.testing.assert_close(loss(images), expected, rtol=1e-4, atol=1e-5)
    # Parts of the batch, with unequal numbers of clean images, have the whole batch's mean.
    halves = [loss(half, part, 2) for part, half in enumerate(images.chunk(2))]
    torch.testing.assert_close(sum(halves) / 2, expected, rtol=1e-4, atol=1e-5)
    # What is read matters: with other clean images the loss is another.
    other = torch.where(clean.mask[..., None, None, None], -3 * images, images)
    assert (loss(other) - expected).abs() > 1e-3 * expected


@pytest.mark.parametrize("context", ["hybrid", "full", "none"])
def test_with_a_clean_memory_images_read_the_clean_ones_alone(context: str) -> None:
    model = ARFlow(
        sample_size=14, in_channels=1, num_classes=3, learn_sigma=False, **TINY_MODEL | {"context": context}
    ).requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 5, 1, 14, 14, generator=generator)
    labels = torch.randint(0, 3, (4, 5), generator=generator)
    numbers = set()
    for step in range(8):
        random = StepRandomness(1, step, noise_order="random", clean=0.4, memory="clean")
        times, noise = random.sequence_times((4, 5)), random.normal(images.shape)
        dropped = drop_labels(model, labels, random)
        clean = random.clean_images((4, 5))
        assert clean is not None
        assert len({int(count) for count in clean.mask.sum(1)}) == 1
        count = int(clean.mask[0].sum())
        numbers.add(count)
        x = torch.lerp(noise, images, times[..., None, None, None])
        errors = []
        for index in range(count, 5):  # each as the next one after the clean images
            read = torch.cat([images[:, :count], x[:, index : index + 1]], dim=1)
            t = torch.cat([torch.ones(4, count), times[:, index : index + 1]], dim=1)
            chosen = torch.cat([dropped[:, :count], dropped[:, index : index + 1]], dim=1)
            velocity = model(read, t, chosen).velocity[:, -1]
            errors.append((velocity - (images - noise)[:, index]).square().mean((1, 2, 3)))
        again = StepRandomness(1, step, noise_order="random", clean=0.4, memory="clean")
        found = arflow_objective(model, images, labels, again).loss
        torch.testing.assert_close(found, torch.stack(errors).mean(), rtol=1e-4, atol=1e-5)
        halves = [
            arflow_objective(
                model,
                images[2 * part :][:2],
                labels[2 * part :][:2],
                StepRandomness(1, step, part=part, num_parts=2, noise_order="random", clean=0.4, memory="clean"),
            ).loss
            for part in range(2)
        ]
        torch.testing.assert_close(sum(halves) / 2, found, rtol=1e-4, atol=1e-5)
    assert numbers >= {0, 1, 2}
    with pytest.raises(InputError, match="with 'clean' nothing would be read"):
        SequenceConfig(memory="clean")


def test_fine_tuning_may_add_the_convolutions_that_smooth_seams(tiny_config: MakeConfig, tmp_path: Path) -> None:
    model = ModelConfig(args=TINY_MODEL | {"prediction_type": "sample"})
    train(tiny_config(model=model, out=str(tmp_path / "first"), max_steps=2))
    source = tmp_path / "first" / "pipeline"
    added = ModelConfig(pretrained=str(source), args={"refine_width": 3})
    still = replace(tiny_config().optimizer, lr=1e-30, weight_decay=0.0)
    train(tiny_config(model=added, optimizer=still, out=str(tmp_path / "second"), max_steps=1))
    first, second = (load_pipeline(folder).transformer for folder in (source, tmp_path / "second" / "pipeline"))
    assert (first.config.refine_width, second.config.refine_width) == (0, 3)
    x = torch.randn(2, 3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    t, labels = torch.tensor([[0.0, 0.3, 0.8]]).expand(2, 3), torch.tensor([1, 2])
    with torch.no_grad():
        expected, found = (each(x, t, labels).velocity for each in (first, second))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # weights are kept, the convolutions give nothing


def replay(random: StepRandomness) -> StepRandomness:
    """The stream at the place where the objective draws which labels are dropped."""
    again = StepRandomness(1, 2, noise_order="random", clean=0.4)
    again.sequence_times((6, 4))
    again.normal((6, 4, 1, 14, 14))
    return again


@pytest.mark.parametrize(
    ("options", "message"),
    [({"clean": 1.0}, "less than 1"), ({"shortest": 0}, "one or more"), ({"shortest": 9}, "9 is more")],
)
def test_sequences_that_cannot_be_are_refused(tiny_config: MakeConfig, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny_config(sequence=SequenceConfig(**options))


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
