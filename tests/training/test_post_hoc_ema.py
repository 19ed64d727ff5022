"""Averages of any length after training, beside those kept all along."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from flowgression import InputError, TrainConfig, load_pipeline, train
from flowgression.cli.main import main
from flowgression.training import EmaConfig, LoraConfig, ModelConfig
from flowgression.training.post_hoc_ema import (
    LENGTHS,
    LONGEST,
    PostHocEma,
    combination,
    gamma_of,
    reconstruct,
    save_snapshot,
    snapshot_steps,
)
from tests.scripts import load_script


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.2, LONGEST])
def test_the_exponent_has_that_length(length: float) -> None:
    """The standard deviation of the density (gamma + 1) tau^gamma on [0, 1], integrated."""
    gamma = gamma_of(length)
    tau = (np.arange(2_000_000) + 0.5) / 2_000_000
    density = (gamma + 1) * tau**gamma / tau.size
    mean = (density * tau).sum()
    assert np.sqrt((density * (tau - mean) ** 2).sum()) == pytest.approx(length, rel=1e-4)


def test_a_track_counts_steps_by_a_power() -> None:
    """Of 60 known weights: the product of (1 - b) and later b, against the recurrence."""
    model, values = nn.Linear(1, 1, bias=False), torch.randn(60, generator=torch.Generator().manual_seed(0)).double()
    model.double()
    ema = PostHocEma(model)
    for step, value in enumerate(values):
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update(step)
    for length in LENGTHS:
        exponent, shares = gamma_of(length) + 1, []
        for t in range(1, 61):
            shares = [share * (1 - 1 / t) ** exponent for share in shares] + [1 - (1 - 1 / t) ** exponent]
        expected = (torch.tensor(shares).double() * values).sum()
        torch.testing.assert_close(ema.tensors()[f"{length}/weight"].squeeze(), expected)


def test_other_lengths_are_combinations_of_snapshots(tmp_path: Path) -> None:
    """Weights that wander: the reconstructed average is near one kept all along, and far from the tracks."""
    model = nn.Linear(50, 1, bias=False)
    ema, wanted = PostHocEma(model), {0.07: torch.zeros(1, 50), 0.15: torch.zeros(1, 50)}
    generator = torch.Generator().manual_seed(0)
    for step in range(2000):
        with torch.no_grad():
            model.weight.add_(torch.randn(1, 50, generator=generator))
            for length, average in wanted.items():
                average.lerp_(model.weight, 1 - (1 - 1 / (step + 1)) ** (gamma_of(length) + 1))
        ema.update(step)
        if (step + 1) % 100 == 0:
            save_snapshot(tmp_path, step + 1, ema.tensors())
    for length, average in wanted.items():
        found = reconstruct(tmp_path, length)["weight"]
        nearest = min((ema.tensors()[f"{each}/weight"] - average).norm() for each in LENGTHS)
        assert (found - average).norm() < 0.1 * nearest
    track = reconstruct(tmp_path, 0.05, 1500)["weight"]
    torch.testing.assert_close(track, torch_load(tmp_path / "step-0001500.safetensors")["0.05/weight"])


def torch_load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_the_shares_add_up_to_one() -> None:
    snapshots = [(step, length) for step in range(100, 1100, 100) for length in LENGTHS]
    for length in (0.03, 0.05, 0.12, 0.25):
        assert combination(snapshots, 1000, length).sum() == pytest.approx(1)


def test_a_run_resumes_its_tracks_and_the_command_writes_a_model(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tiny_config("sit", ema=EmaConfig(decay=0.9, snapshot_every=2))
    train(whole)
    halves = replace(whole, out=str(tmp_path / "halves"))
    train(replace(halves, max_steps=3), allow_changes=True)
    assert list(snapshot_steps(tmp_path / "halves/snapshots")) == [2, 3]
    train(halves, resume=True, allow_changes=True)
    for step, path in snapshot_steps(Path(whole.out) / "snapshots").items():
        other = torch_load(tmp_path / "halves/snapshots" / path.name)
        assert step in (2, 4, 6)
        assert all(torch.equal(value, other[name]) for name, value in torch_load(path).items())
    out = tmp_path / "averaged"
    assert main(["ema", "--run", whole.out, "--length", "0.1", "--out", str(out)]) == 0
    expected = torch_load(Path(whole.out) / "snapshots/step-0000006.safetensors")
    for name, value in load_pipeline(out).transformer.named_parameters():
        torch.testing.assert_close(value, expected[f"0.1/{name}"])
    assert main(["ema", "--run", whole.out, "--length", "0.5", "--out", str(tmp_path / "b")]) == 2
    assert main(["ema", "--run", whole.out, "--length", "0.1", "--step", "5", "--out", str(tmp_path / "b")]) == 2
    assert main(["ema", "--run", whole.out, "--length", "0.1", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "at most 0.289" in said
    assert "has no snapshot of step 5: there are 2, 4, 6" in said
    assert "is there already" in said


def test_what_cannot_be_is_refused(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    source = tiny_config("sit", out=str(tmp_path / "first"), max_steps=1)
    train(source)
    with pytest.raises(InputError, match=r"made without ema\.snapshot_every"):
        train(replace(source, max_steps=2, ema=EmaConfig(decay=0.9, snapshot_every=1)), resume=True, allow_changes=True)
    with pytest.raises(InputError, match=r"ema\.snapshot_every and lora\.rank cannot be combined"):
        tiny_config(
            "sit",
            model=ModelConfig(family="sit", pretrained="sit-mnist"),
            lora=LoraConfig(rank=2),
            ema=EmaConfig(snapshot_every=1),
        )


def test_averages_are_judged_on_the_same_noise(
    tiny_config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lengths = load_script("benchmarks/ema_lengths.py", monkeypatch)
    config = tiny_config("sit", ema=EmaConfig(decay=0.5, snapshot_every=2))
    train(replace(config, out=str(tmp_path / "run")))
    report = tmp_path / "out.json"
    argv = f"--run {tmp_path / 'run'} --reference mnist:test[:40] --features mnist --seeds 2 --num-images 20 --steps 1"
    monkeypatch.setattr(sys, "argv", ["x", *argv.split(), "--lengths", "0.05", "0.1", "--json", str(report)])
    assert lengths.main() == 0
    found = json.loads(report.read_text())
    assert list(found) == [lengths.OWN, lengths.LAST, "length 0.05", "length 0.1"]
    assert all(value > 0 for values in found.values() for value in values.values())
    assert "| length 0.1 |" in capsys.readouterr().out
    pipe = lengths.load_pipeline(str(tmp_path / "run"))
    weights = {
        name: torch.cat([each.detach().flatten() for each in pipe.transformer.parameters()])
        for name in lengths.averages(tmp_path / "run", pipe, [0.05])
    }
    assert len({tuple(each.tolist()) for each in weights.values()}) == 3
    rows = list(lengths.table({lengths.OWN: {1: 1.0, 2: 3.0}, "length 0.1": {1: 0.5, 2: 2.5}}))
    assert rows[-1] == "| length 0.1 | 1.500 | -0.500 [-0.500, -0.500] |"
