"""Checkpoints come back as they were, or say what is wrong with them."""

import json
from pathlib import Path

import pytest
import torch

from flowgression import ARFlow, InputError
from flowgression.training import OptimizerConfig
from flowgression.training.checkpoint import (
    TrainerState,
    checkpoint_steps,
    collect_tensors,
    latest_checkpoint,
    load_checkpoint,
    optimizer_tensors,
    read_state,
    remove_leftovers,
    save_checkpoint,
)
from flowgression.training.optimizer import make_optimizer


def parts(seed: int = 0, depth: int = 1) -> tuple[ARFlow, ARFlow, torch.optim.AdamW]:
    """A model and an average with random weights, and an optimiser that has done two steps."""
    torch.manual_seed(seed)
    settings = {"sample_size": 4, "patch_size": 2, "in_channels": 1, "hidden_size": 8, "num_heads": 2}
    model, ema = (ARFlow(**settings, depth=depth, num_classes=3) for _ in range(2))
    optimizer = make_optimizer(model, OptimizerConfig(lr=0.1))
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
        optimizer.step()
    return model, ema, optimizer


def write(folder: Path, step: int, keep: int = 2) -> Path:
    path = folder / f"step-{step:07d}"
    model, ema, optimizer = parts()
    state = TrainerState(step=step, window={"loss": 0.1 + 0.2})
    save_checkpoint(path, state, model, collect_tensors(model, ema, optimizer), keep=keep)
    return path


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = write(tmp_path, 2)
    saved, loaded = parts(), parts(seed=1)
    load_checkpoint(path, *loaded)
    for old, new in zip(saved[:2], loaded[:2], strict=True):
        assert all(torch.equal(value, new.state_dict()[name]) for name, value in old.state_dict().items())
    old, new = optimizer_tensors(saved[2], saved[0]), optimizer_tensors(loaded[2], loaded[0])
    assert old.keys() == new.keys()
    assert len(old) == 3 * sum(p.requires_grad for p in saved[0].parameters())
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert read_state(path) == TrainerState(step=2, window={"loss": 0.1 + 0.2})


def test_the_optimiser_goes_on_as_if_never_saved(tmp_path: Path) -> None:
    path = write(tmp_path, 2)
    unbroken, resumed = parts(), parts(seed=1)
    load_checkpoint(path, *resumed)
    for model, _, optimizer in (unbroken, resumed):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        optimizer.step()
    for old, new in zip(unbroken[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(old, new)


def test_the_average_in_a_checkpoint_is_a_model_of_its_own(tmp_path: Path) -> None:
    loaded = ARFlow.from_pretrained(write(tmp_path, 1) / "ema")
    assert torch.equal(loaded.state_dict()["final_layer.linear.weight"], parts()[1].final_layer.linear.weight)


def test_the_newest_stay(tmp_path: Path) -> None:
    for step in (1, 2, 10, 11):
        write(tmp_path, step, keep=2)
    assert list(checkpoint_steps(tmp_path)) == [10, 11]
    assert latest_checkpoint(tmp_path) == tmp_path / "step-0000011"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-0000010", "step-0000011"]


def test_unfinished_folders_are_no_checkpoints_and_are_removed(tmp_path: Path) -> None:
    for name in (".step-0000003.abc.tmp", ".step-0000001.old", "step-0000002", "step-x"):
        (tmp_path / name).mkdir()
    assert list(checkpoint_steps(tmp_path)) == [2]
    remove_leftovers(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-0000002", "step-x"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") is None


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)

    def full_disk(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flowgression.training.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-0000001"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    with pytest.raises(InputError, match=r"another model: depth=1 \(now 2\)"):
        load_checkpoint(path, *parts(depth=2))


def test_a_checkpoint_of_before_an_argument_existed_has_its_default(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    file = path / "model" / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("augment_dim") == 0
    file.write_text(json.dumps(config))
    load_checkpoint(path, *parts())
    assert config.pop("depth") == 1  # the default is another depth
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"another model: depth=\d+ \(now 1\)"):
        load_checkpoint(path, *parts())


@pytest.mark.parametrize(
    "name",
    ["model/diffusion_pytorch_model.safetensors", "ema/diffusion_pytorch_model.safetensors", "optimizer.safetensors"],
)
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, 1)
    file = path / name
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"cannot read {file}.*damaged"):
        load_checkpoint(path, *parts())
    file.unlink()
    with pytest.raises(InputError, match=r"cannot read.*damaged"):
        load_checkpoint(path, *parts())


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    path, (model, ema, optimizer) = tmp_path / "step-1", parts()
    next(model.parameters()).data.flatten()[-1] = float("nan")
    save_checkpoint(path, TrainerState(step=1), model, collect_tensors(model, ema, optimizer), keep=1)
    with pytest.raises(
        InputError, match=f"{path / 'model'}: the tensor '{next(model.named_parameters())[0]}' holds NaN"
    ):
        load_checkpoint(path, *parts())


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"step": 1, "colour": 2})])
def test_a_damaged_state_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "trainer.json").write_text(content)
    with pytest.raises(InputError, match=r"trainer\.json"):
        read_state(tmp_path)
