"""Muon for matrices of blocks and AdamW for the rest: each moves as by its own optimiser, and a run resumes exactly."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from flowgression.errors import InputError
from flowgression.training.config import OptimizerConfig, ScheduleConfig, TrainConfig
from flowgression.training.loop import train
from flowgression.training.optimizer import MuonAdamW, make_optimizer, set_learning_rate

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
MUON = OptimizerConfig(name="muon", lr=1e-2, weight_decay=0.02)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 12)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.embed, *self.blocks):
            x = layer(x)
        return x


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def walk(model: nn.Module, optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        model(torch.randn(3, 4)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def tensors(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


@needs_muon
def test_each_parameter_moves_as_by_its_own_optimiser() -> None:
    together, apart = network(), network()
    walk(together, [make_optimizer(together, MUON)], range(3))
    muon = torch.optim.Muon(
        [block.weight for block in apart.blocks], lr=1e-2, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
    )
    vectors = [apart.embed.bias, *(block.bias for block in apart.blocks)]
    groups = [{"params": [apart.embed.weight], "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    walk(apart, [muon, torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), fused=True)], range(3))
    for name, parameter in together.named_parameters():
        assert torch.equal(parameter, apart.get_parameter(name)), name


@needs_muon
def test_state_saved_and_loaded_gives_the_same_steps() -> None:
    whole, model = network(), network()
    walk(whole, [make_optimizer(whole, MUON)], range(4))
    first = make_optimizer(model, MUON)
    walk(model, [first], range(2))
    second = make_optimizer(model, MUON)
    second.load_state_dict(first.state_dict())
    walk(model, [second], range(2, 4))
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name


@needs_muon
def test_the_learning_rate_reaches_both() -> None:
    model = network()
    optimizer = make_optimizer(model, OptimizerConfig(name="muon", lr=1.0))
    assert isinstance(optimizer, MuonAdamW)
    set_learning_rate(optimizer, 0.0)
    before = [p.detach().clone() for p in model.parameters()]
    walk(model, [optimizer], range(1))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


@needs_muon
def test_a_run_stopped_and_resumed_ends_with_the_same_bits(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    for name, stops in (("unbroken", (6,)), ("broken", (3, 6))):
        for steps in stops:
            settings = tiny_config(optimizer=MUON, schedule=ScheduleConfig(), max_steps=steps, out=str(tmp_path / name))
            train(settings, resume=True)
    first, second = (tensors(max((tmp_path / name / "checkpoints").iterdir())) for name in ("unbroken", "broken"))
    assert len(first) == 3  # weights, their average, the optimiser's state
    assert first == second


def test_a_torch_without_muon_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(InputError, match=r"torch 2\.9 or newer"):
        make_optimizer(network(), MUON)


def test_shards_and_muon_are_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(InputError, match="ddp"):
        tiny_config(optimizer=MUON, parallelism="fsdp2")
