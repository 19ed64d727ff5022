"""The planner's figures against closed forms, and its command."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from flowgression.cli.main import main
from flowgression.errors import InputError
from flowgression.models.registry import build_model
from flowgression.training.config import ModelConfig, TrainConfig
from flowgression.training.planner import GPUS, Gpu, Work, make_plan, measure

D, DEPTH, HEADS, SIDE, PATCH = 48, 2, 3, 8, 2
TOKENS = (SIDE // PATCH) ** 2
ARGS = {
    "patch_size": PATCH, "hidden_size": D, "depth": DEPTH, "num_heads": HEADS, "sample_size": SIDE, "in_channels": 4,
    "num_classes": 10,
}  # fmt: skip
FLOWAR = {
    "sample_size": 8, "in_channels": 4, "num_classes": 10, "scales": [1, 2, 4, 8], "hidden_size": 32,
    "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2, "flow_width": 32, "flow_depth": 1, "flow_num_heads": 1,
}  # fmt: skip
SIT = TrainConfig(model=ModelConfig(family="sit", args=ARGS), sequence_length=1, batch_size=64, max_steps=1000)


def test_flops_of_sit_are_those_of_its_matrices(work: Work) -> None:
    rows = TOKENS * DEPTH * (4 * D * D + 8 * D * D)  # attention and MLP
    rows += DEPTH * 6 * D * D + 2 * D * D  # modulations, one row an image
    rows += TOKENS * (4 * PATCH**2 * D + D * PATCH**2 * 8)  # in and out; sigma is learnt
    rows += 256 * D + D * D  # time
    attention = DEPTH * 2 * TOKENS**2 * D
    forward = 2 * (rows + attention)
    backward = 2 * forward - 2 * (TOKENS * 4 * PATCH**2 * D + 256 * D)  # the first layers need no input gradient
    assert work.flops_each == forward + backward
    assert work.flops_fixed == 0
    with torch.device("meta"):
        model = build_model("sit", **ARGS)
    assert work.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "args", "length", "deeper"),
    [
        ("arflow", ARGS | {"depth": 1}, 3, {"depth": 2}),
        ("flowar", FLOWAR, 1, {"encoder_depth": 2, "decoder_depth": 2, "flow_depth": 2}),
    ],
)
def test_twice_the_depth_is_twice_the_work(family: str, args: dict[str, Any], length: int, deeper: dict) -> None:
    config = replace(SIT, model=ModelConfig(family=family, args=args), sequence_length=length, batch_size=12)
    work, twice = measure(config), measure(replace(config, model=ModelConfig(family=family, args=args | deeper)))
    assert twice.kept_each == pytest.approx(2 * work.kept_each, rel=0.15)
    assert twice.flops_each == pytest.approx(2 * work.flops_each, rel=0.15)


@pytest.fixture(scope="module")
def work() -> Work:
    return measure(SIT)


def test_sharding_and_parts_divide_memory(work: Work) -> None:
    one = make_plan(SIT, GPUS["h100"], 1, work=work)
    eight = make_plan(SIT, GPUS["h100"], 8, work=work)
    sharded = make_plan(replace(SIT, parallelism="fsdp2"), GPUS["h100"], 8, work=work)
    parts = make_plan(replace(SIT, gradient_accumulation=4), GPUS["h100"], 1, work=work)
    weights = 4 * one.parameters
    assert one.memory["optimiser (two moments)"] == eight.memory["optimiser (two moments)"] == 2 * weights
    assert sharded.memory["optimiser (two moments)"] == pytest.approx(2 * weights / 8, rel=1e-3)
    assert eight.memory["gradients on their way"] == weights
    assert one.memory["activations"] == pytest.approx(8 * eight.memory["activations"], rel=0.05)
    assert one.memory["activations"] == pytest.approx(4 * parts.memory["activations"], rel=0.05)
    assert one.flops == pytest.approx(parts.flops, rel=1e-6) == pytest.approx(eight.flops, rel=1e-6)
    assert one.seconds == pytest.approx(8 * eight.seconds)
    assert one.peak == 4 * weights + one.memory["activations"]


@pytest.mark.slow
def test_checkpointing_keeps_less_and_computes_more() -> None:
    deep = replace(SIT, model=ModelConfig(family="sit", args=ARGS | {"depth": 6}))
    plain, recomputed = measure(deep), measure(replace(deep, activation_checkpointing=True))
    assert recomputed.kept_each < plain.kept_each / 2.5
    assert 1.2 < recomputed.flops_each / plain.flops_each < 1.4


def test_time_and_cost(work: Work) -> None:
    gpu = Gpu(bf16=100, fp32=50, memory=80, price=2)
    plan = make_plan(SIT, gpu, 4, efficiency=0.5, work=work)
    assert plan.seconds == pytest.approx(plan.flops / (4 * 50e12 * 0.5))
    assert plan.days == pytest.approx(plan.seconds * 1000 / 86400)
    assert plan.cost == pytest.approx(plan.days * 24 * 4 * 2)
    assert make_plan(replace(SIT, precision="bf16"), gpu, 4, 0.5, work).seconds == pytest.approx(plan.seconds / 2)


@pytest.mark.parametrize(
    ("gpus", "efficiency", "message"),
    [
        (0, 0.5, "--gpus is 0"),
        (1, 1.5, "--efficiency is 1.5"),
        (3, 0.5, "batch_size=64 .* cannot be shared by 3 GPUs .* multiple of 3"),
    ],
)
def test_mistakes(gpus: int, efficiency: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(SIT, GPUS["h100"], gpus, efficiency)


def test_the_command(work: Work, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgression.training.planner.measure", lambda config: work)
    assert main(["plan", "--config", "sit-mnist", "--gpu", "a100", "--gpus", "2", "--efficiency", "0.1"]) == 0
    shown = capsys.readouterr().out
    for text in ("sit on 2 x a100", "memory: peak", "of 80 GiB", "at efficiency 0.1", "6,000 steps", "dollars"):
        assert text in shown
    assert main(["plan", "--config", "sit-mnist", "--memory_gib", "0.0001"]) == 1
    assert "This does not fit." in capsys.readouterr().out
    for arguments, message in (
        (["--gpu", "h1000"], "did you mean 'h100'"),
        (["--batch_sise", "3"], "did you mean --batch_size?"),
        (["--price", "-1"], "must be positive"),
    ):
        assert main(["plan", "--config", "sit-mnist", *arguments]) == 2
        assert message in capsys.readouterr().err
