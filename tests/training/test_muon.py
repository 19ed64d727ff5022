"""Muon for matrices of blocks and AdamW for the rest: each moves as by its own formula, and a run resumes exactly."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flowgression import InputError, TrainConfig, train
from flowgression.training import OptimizerConfig, ScheduleConfig
from flowgression.training import optimizer as optimizer_module
from flowgression.training.muon import Muon, faster_dtype, orthogonal
from flowgression.training.optimizer import MuonAdamW, make_optimizer, set_learning_rate

MUON = OptimizerConfig(name="muon", lr=1e-2, weight_decay=0.02, muon_dtype="float32")
SHAPES = ((1, 1), (1, 7), (8, 8), (17, 13), (13, 17), (16, 64), (64, 16), (31, 97))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 12), nn.Linear(12, 6), nn.Linear(6, 6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.embed, *self.blocks):
            x = layer(x)
        return x


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def walk(model: nn.Module, optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    weight = next(model.parameters())
    for step in steps:
        torch.manual_seed(step)
        model(torch.randn(3, 4).to(weight.dtype)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def tensors(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def newton_schulz(x: Tensor) -> Tensor:
    """The five iterations as the page on Muon writes them, for one matrix."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class PlainMuon(torch.optim.Optimizer):
    """One matrix after the other, by the formulas of the page and of arXiv 2502.16982."""

    def __init__(self, matrices: list[nn.Parameter], lr: float, decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].get("mean", torch.zeros_like(p))
                self.state[p]["mean"] = mean = 0.95 * mean + 0.05 * p.grad
                update = newton_schulz(0.05 * p.grad + 0.95 * mean)
                p.copy_(p - group["lr"] * (group["decay"] * p + 0.2 * max(p.shape) ** 0.5 * update))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matrices_together_are_made_orthogonal_as_one_by_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([newton_schulz(x) for x in matrices])
    # Errors of m units of rounding in X X^T grow at most as its smallest eigenvalues do, by 3.4445 ** 2 each time.
    allowed = 4 * min(shape) * torch.finfo(torch.float64).eps * 3.4445**10
    assert (orthogonal(matrices) - expected).abs().max() <= allowed


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape) > 1], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_all_singular_values_come_near_one(shape: tuple[int, int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    u, _, v = torch.linalg.svd(torch.randn(shape, dtype=torch.float64, generator=generator), full_matrices=False)
    matrix = (u * torch.linspace(0.3, 1, min(shape), dtype=torch.float64)) @ v
    result = orthogonal(matrix.to(dtype)[None])[0].double()
    assert result.shape == shape
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6
    assert values.max() < 1.3
    closest = u @ v
    assert (result * closest).sum() / (result.norm() * closest.norm()) > 0.95


def test_each_parameter_moves_as_by_its_own_optimiser() -> None:
    together, apart = network().double(), network().double()
    matrices = [block.weight for block in together.blocks]
    vectors = [together.embed.bias, *(block.bias for block in together.blocks)]
    rest = [{"params": [together.embed.weight], "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    muon = Muon(matrices, lr=1e-2, weight_decay=0.02, dtype=torch.float64)
    walk(together, [MuonAdamW(muon, torch.optim.AdamW(rest, lr=1e-2, betas=(0.9, 0.95), fused=True))], range(3))
    vectors = [apart.embed.bias, *(block.bias for block in apart.blocks)]
    rest = [{"params": [apart.embed.weight], "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    plain = PlainMuon([block.weight for block in apart.blocks], 1e-2, 0.02)
    walk(apart, [plain, torch.optim.AdamW(rest, lr=1e-2, betas=(0.9, 0.95), fused=True)], range(3))
    for name, parameter in together.named_parameters():
        assert torch.allclose(parameter, apart.get_parameter(name), rtol=0, atol=1e-9), name


def test_matrices_of_equal_shape_are_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = network(), []
    from flowgression.training import muon

    monkeypatch.setattr(muon, "orthogonal", lambda x: seen.append(tuple(x.shape)) or x)
    walk(model, [make_optimizer(model, MUON)], range(1))
    assert seen == [(2, 6, 6), (1, 12, 6), (1, 6, 12)]


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


def test_the_learning_rate_reaches_both() -> None:
    model = network()
    optimizer = make_optimizer(model, OptimizerConfig(name="muon", lr=1.0))
    assert isinstance(optimizer, MuonAdamW)
    set_learning_rate(optimizer, 0.0)
    before = [p.detach().clone() for p in model.parameters()]
    walk(model, [optimizer], range(1))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


class Clock(TorchFunctionMode):
    """A clock on which products alone take time, by their dtype."""

    def __init__(self, seconds: dict[torch.dtype, float]) -> None:
        super().__init__()
        self.now, self.seconds = 0.0, seconds

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.matmul or function is torch.Tensor.__matmul__:
            self.now += self.seconds[args[0].dtype]
        return function(*args, **(kwargs or {}))

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("single", "half", "expected"),
    [(1.0, 8.0, torch.float32), (1.0, 0.9, torch.float32), (1.0, 0.5, torch.bfloat16)],
)
def test_the_dtype_follows_a_measurement(
    single: float, half: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock({torch.float32: single, torch.bfloat16: half})
    monkeypatch.setattr("flowgression.training.muon.time", clock)
    with clock:
        assert faster_dtype([(4, 4), (64, 4096)], torch.device("cpu")) == expected


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.dtype]]:
    """What the next measurements find; each may be used once."""
    results: list[torch.dtype] = []
    monkeypatch.setattr(optimizer_module, "faster_dtype", lambda shapes, device: results.pop(0))
    yield results
    assert not results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_run_stopped_and_resumed_ends_with_the_same_bits_whatever_is_measured_then(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, measured: list[torch.dtype], dtype: torch.dtype
) -> None:
    muon = OptimizerConfig(name="muon", lr=1e-2)
    for name, stops in (("unbroken", (6,)), ("broken", (3, 6))):
        measured.append(dtype)  # and none for the second part: it takes what the first one took
        for steps in stops:
            settings = tiny_config(optimizer=muon, schedule=ScheduleConfig(), max_steps=steps, out=str(tmp_path / name))
            train(settings, resume=True)
    first, second = (tensors(max((tmp_path / name / "checkpoints").iterdir())) for name in ("unbroken", "broken"))
    assert len(first) == 3  # weights, their average, the optimiser's state
    assert first == second
    wanted = f"muon_dtype: {str(dtype).removeprefix('torch.')}"
    assert re.search(wanted, (tmp_path / "broken" / "config.yaml").read_text())


def test_a_checkpoint_of_version_0_1_resumes_in_bfloat16(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, measured: list[torch.dtype]
) -> None:
    muon = OptimizerConfig(name="muon", lr=1e-2)
    measured.append(torch.float32)
    train(tiny_config(optimizer=muon, max_steps=1, out=str(tmp_path)))
    (file,) = tmp_path.glob("checkpoints/*/trainer.json")
    state = json.loads(file.read_text())
    del state["config"]["optimizer"]["muon_dtype"]
    file.write_text(json.dumps(state))
    train(tiny_config(optimizer=muon, max_steps=2, out=str(tmp_path)), resume=True)
    assert "muon_dtype: bfloat16" in (tmp_path / "config.yaml").read_text()


def test_another_dtype_would_be_another_run(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(tiny_config(optimizer=MUON, max_steps=1, out=str(tmp_path)))
    other = OptimizerConfig(name="muon", lr=1e-2, weight_decay=0.02, muon_dtype="bfloat16")
    with pytest.raises(InputError, match=r"optimizer\.muon_dtype 'float32' -> 'bfloat16'"):
        train(tiny_config(optimizer=other, max_steps=2, out=str(tmp_path)), resume=True)


def test_shards_and_muon_are_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(InputError, match="ddp"):
        tiny_config(optimizer=MUON, parallelism="fsdp2")
