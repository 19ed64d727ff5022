"""Held-out images are never trained on, their loss is measured alike each time, the best EMA weights are the model."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from flowgression.data.config import DataConfig
from flowgression.data.held_out import hold_out, spread
from flowgression.data.opening import open_dataset
from flowgression.errors import InputError
from flowgression.registry import build_model
from flowgression.sampling.folders import find_folder, weights_of_run
from flowgression.training import session as sessions
from flowgression.training.config import TrainConfig
from flowgression.training.loop import train
from flowgression.training.run_folder import RunFolder
from flowgression.training.settings import LoraConfig, ModelConfig, PreviewConfig, SequenceConfig
from flowgression.training.trainer import Trainer
from tests.training.conftest import TINY_MODEL

MakeConfig = Callable[..., TrainConfig]
DATA = DataConfig(path="mnist", split="test", num_workers=0, validation=0.02)
WEIGHTS = "diffusion_pytorch_model.safetensors"


def held_out_lines(config: TrainConfig) -> list[dict[str, float]]:
    return [line for line in RunFolder(Path(config.out)).read_metrics() if "held_out_loss" in line]


def model_of(family: str, **more: Any) -> dict[str, Any]:
    """The field of a run that names a tiny model of the family."""
    args: dict[str, Any] = TINY_MODEL | more
    if family == "flowar":
        args = {"scales": [1, 2, 4], "patch_size": 7, "hidden_size": 16, "encoder_depth": 1, "decoder_depth": 1}
        args |= {"num_heads": 2, "flow_width": 16, "flow_depth": 1, "flow_num_heads": 2, **more}
    return {"model": ModelConfig(family=family, args=args)}


def test_parts_are_disjoint_of_every_class_and_the_seeds() -> None:
    data = open_dataset(DataConfig(path="mnist", split="test"))
    kept, held = hold_out(data, 0.05, seed=3)
    assert sorted([*kept.chosen, *held.chosen]) == list(range(len(data)))
    counts, of_held = np.bincount(data.labels), np.bincount(held.labels)
    assert np.abs(of_held - 0.05 * counts).max() < 1
    assert len(held) == round(0.05 * len(data))
    again, other = hold_out(data, 0.05, seed=3)[1], hold_out(data, 0.05, seed=4)[1]
    assert np.array_equal(held.chosen, again.chosen)
    assert not np.array_equal(held.chosen, other.chosen)
    assert torch.equal(held.pixels([0, 7]), data.pixels(held.chosen[[0, 7]].tolist()))
    assert torch.equal(held.batch([5], [True]), data.batch([int(held.chosen[5])], [True]))


def test_the_share_is_spread_over_classes_of_any_size() -> None:
    random = np.random.default_rng(0)
    many = spread(np.full(50, 8), 0.05, random)  # 0.4 of each
    assert many.sum() == 20
    assert many.max() == 1
    assert spread(np.array([1, 1, 18, 380]), 0.05, random).tolist() == [0, 0, 1, 19]
    assert spread(np.array([2, 2]), 0.9, random).tolist() == [1, 1]
    assert spread(np.array([3]), 0.05, random).tolist() == [1]


def test_groups_are_held_out_whole_and_nothing_is_refused(tmp_path: Path) -> None:
    data = open_dataset(DataConfig(path="mnist", split="test"))
    data.with_groups(np.arange(len(data)) // 50, None)
    kept, held = hold_out(data, 0.05, seed=0)
    assert kept.groups is not None
    assert held.groups is not None
    assert not set(kept.groups.tolist()) & set(held.groups.tolist())
    for index in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / f"{index}.png")
    kept, held = hold_out(open_dataset(DataConfig(path=str(tmp_path))), 0.05, seed=0)
    assert (len(kept), len(held)) == (2, 1)
    for index in (1, 2):
        (tmp_path / "a" / f"{index}.png").unlink()
    with pytest.raises(InputError, match="none can be held out"):
        hold_out(open_dataset(DataConfig(path=str(tmp_path))), 0.05, seed=0)
    with pytest.raises(InputError, match="less than 1"):
        DataConfig(validation=1.0)


def test_held_out_images_are_in_no_batch(tiny_config: MakeConfig) -> None:
    with Trainer(tiny_config("sit", data=replace(DATA, validation=0.9))) as trainer:
        assert trainer.held_out is not None
        apart = {
            image.numpy().tobytes()
            for image in trainer.held_out.batch(range(len(trainer.held_out)), [False] * len(trainer.held_out))
        }
        batches = trainer.batches(0)
        for _ in range(300):  # nearly two epochs
            assert not apart & {image.numpy().tobytes() for image in next(batches)["images"]}


@pytest.mark.parametrize("family", ["arflow", "sit", "flowar"])
def test_the_weights_with_the_lowest_loss_are_the_model(
    family: str, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([0.5, 0.3, 0.4])
    monkeypatch.setattr(sessions, "held_out_loss", lambda trainer, model, data: next(measured))
    config = tiny_config(family, data=DATA, max_steps=6, checkpoint_every=2, keep_checkpoints=3, **model_of(family))
    result = train(config)
    assert result.best == {"step": 4, "held_out_loss": 0.3}
    assert [line["held_out_loss"] for line in held_out_lines(config)] == [0.5, 0.3, 0.4]
    run = Path(config.out)
    fourth, last = (load_file(run / f"checkpoints/step-000000{step}/ema" / WEIGHTS) for step in (4, 6))
    pipeline = load_file(run / "pipeline/transformer" / WEIGHTS)
    best = load_file(run / "checkpoints/step-0000006/best" / WEIGHTS)
    assert all(torch.equal(pipeline[name], fourth[name]) and torch.equal(best[name], fourth[name]) for name in fourth)
    assert any(not torch.equal(last[name], fourth[name]) for name in last)
    expected = "EMA weights of step 4, whose loss on held-out images is the lowest (0.3000)"
    assert weights_of_run(run) == expected
    shutil.rmtree(run / "pipeline")  # as while training goes on
    assert weights_of_run(run) == expected
    assert find_folder(run) == run / "checkpoints/step-0000006/best"


def test_a_resumed_run_measures_and_keeps_the_same(tiny_config: MakeConfig, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": DATA, "max_steps": 6, "checkpoint_every": 2, "preview": PreviewConfig(every=0)}
    whole, broken = (tiny_config(**settings, out=str(tmp_path / name)) for name in ("whole", "broken"))
    train(whole)
    train(replace(broken, max_steps=2))
    shutil.rmtree(Path(broken.out) / "pipeline")
    result = train(broken, resume=True, allow_changes=True)  # the schedule is longer: other numbers, of the same kind
    assert [line["step"] for line in held_out_lines(broken)] == [2, 4, 6]
    assert result.best is not None
    stopped = replace(whole, out=str(tmp_path / "copied"))
    shutil.copytree(whole.out, stopped.out)
    shutil.rmtree(Path(stopped.out) / "pipeline")
    shutil.rmtree(Path(stopped.out) / "checkpoints/step-0000006")  # as killed after step 4
    assert train(stopped, resume=True).best == {**min(held_out_lines(whole), key=lambda line: line["held_out_loss"])}
    for name in ("metrics.jsonl", f"pipeline/transformer/{WEIGHTS}", f"checkpoints/step-0000006/best/{WEIGHTS}"):
        assert (Path(stopped.out) / name).read_bytes() == (Path(whole.out) / name).read_bytes()


def test_the_loss_is_that_of_the_objective_whatever_was_drawn_before(tiny_config: MakeConfig) -> None:
    with Trainer(tiny_config("sit", data=DATA)) as trainer:
        assert trainer.held_out is not None
        model = trainer.ema_model()
        first = sessions.held_out_loss(trainer, model, trainer.held_out)
        torch.rand(5)
        next(trainer.batches(0))
        assert sessions.held_out_loss(trainer, model, trainer.held_out) == first
        # A network whose output is 0 at the start has the loss of the target: E (x1 - x0)^2.
        images = trainer.held_out.batch(range(len(trainer.held_out)), [False] * len(trainer.held_out))
        assert first == pytest.approx(1 + images.square().mean().item(), rel=0.05)


def test_adapters_have_a_best_average_too(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_config("sit", max_steps=1, out=str(tmp_path / "base")))
    measured = iter([0.3, 0.4, 0.5])
    monkeypatch.setattr(sessions, "held_out_loss", lambda trainer, model, data: next(measured))
    model = ModelConfig(family="sit", pretrained=str(tmp_path / "base/pipeline"))
    config = tiny_config(
        "sit", model=model, lora=LoraConfig(rank=2), data=DATA, max_steps=6, checkpoint_every=2, keep_checkpoints=3
    )
    assert train(config).best == {"step": 2, "held_out_loss": 0.3}
    run = Path(config.out)
    second = load_file(run / "checkpoints/step-0000002/ema" / WEIGHTS)
    pipeline = load_file(run / "pipeline/transformer" / WEIGHTS)
    assert all(torch.allclose(pipeline[name], second[name], atol=1e-6) for name in second)


@pytest.mark.parametrize("family", ["arflow", "sit", "flowar"])
def test_augmentation_is_told_and_with_dropout_resumes_exactly(
    family: str, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    fields = {"data": replace(DATA, augment=0.5, validation=0.0), **model_of(family, dropout=0.3)}
    whole, stopped = (tiny_config(family, **fields, out=str(tmp_path / name)) for name in ("whole", "stopped"))
    train(whole)
    weights = load_file(tmp_path / "whole/pipeline/transformer" / WEIGHTS)
    assert weights["augment_embedder.weight"].any()
    shutil.copytree(whole.out, stopped.out)
    shutil.rmtree(tmp_path / "stopped/pipeline")
    shutil.rmtree(tmp_path / "stopped/checkpoints/step-0000006")
    train(stopped, resume=True)
    for name in ("metrics.jsonl", f"pipeline/transformer/{WEIGHTS}"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with Trainer(tiny_config(family, out=str(tmp_path / "plain"), **model_of(family))) as plain:
        assert plain.model.augment_embedder is None


@pytest.mark.parametrize("family", ["arflow", "sit", "flowar"])
def test_what_is_told_reaches_the_output_and_zeros_are_nothing(family: str, tiny_config: MakeConfig) -> None:
    with Trainer(tiny_config(family, data=replace(DATA, augment=0.5), **model_of(family))) as trainer:
        model, generator = trainer.model, torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
        batch = next(trainer.batches(0))
        images, labels = batch["images"], batch["class_labels"]
        times = () if family == "flowar" else (torch.full(images.shape[: images.ndim - 3], 0.4),)
        found = []
        for told in (None, torch.zeros(len(images), 13), torch.ones(len(images), 13)):
            output = model(images, *times, labels, augment_labels=told, return_dict=False)[0]
            found.append(torch.cat(output, dim=1) if isinstance(output, list) else output)
        assert torch.equal(found[0], found[1])
        assert not torch.allclose(found[0], found[2], atol=1e-3)
        with pytest.raises(InputError, match="augment_dim = 13"):
            model(images, *times, labels, augment_labels=torch.zeros(len(images), 4))


def test_images_that_read_clean_ones_alone_are_told_too(tiny_config: MakeConfig) -> None:
    sequence = SequenceConfig(clean=0.4, memory="clean")
    train(tiny_config("arflow", data=replace(DATA, augment=0.5, validation=0.0), sequence=sequence, max_steps=2))


def test_dropout_drops_in_training_alone(tiny_config: MakeConfig) -> None:
    for family in ("arflow", "sit"):
        with Trainer(tiny_config(family, data=DATA, **model_of(family, dropout=0.5))) as trainer:
            model = trainer.model
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
            images = next(trainer.batches(0))["images"]
            labels = torch.zeros(len(images), dtype=torch.int64)
            t = torch.full(images.shape[: images.ndim - 3], 0.4)
            assert not torch.equal(*(model(images, t, labels).velocity for _ in range(2)))
            model.eval()
            assert torch.equal(*(model(images, t, labels).velocity for _ in range(2)))
    with pytest.raises(InputError, match="dropout is 1"):
        build_model("sit", **(TINY_MODEL | {"dropout": 1.0, "sample_size": 28, "in_channels": 1, "num_classes": 10}))


def test_what_cannot_be_augmented_or_validated_is_refused(tiny_config: MakeConfig) -> None:
    for fields, words in (
        ({"data": replace(DATA, validation=0.0, augment=0.1), "objective": "meanflow"}, "data.augment and objective"),
        ({"data": DATA, "objective": "meanflow"}, "data.validation and objective"),
        (
            {
                "data": replace(DATA, augment=0.1),
                "lora": LoraConfig(rank=2),
                "model": ModelConfig(family="sit", pretrained="sit-mnist"),
            },
            "data.augment and lora.rank",
        ),
    ):
        with pytest.raises(InputError, match=words):
            tiny_config("sit", **fields)
