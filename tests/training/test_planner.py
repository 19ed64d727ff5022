"""The planner's figures against closed forms and against steps of training, and its command."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowgression import InputError, TrainConfig
from flowgression.cli.main import main
from flowgression.data import DataConfig
from flowgression.flops import flop_counter
from flowgression.memory import LiveTensors
from flowgression.models import build_model
from flowgression.training import ModelConfig, make_plan
from flowgression.training.machine import measured_cpu
from flowgression.training.planner import GPUS, Gpu, Work, measure
from flowgression.training.step import accumulate_gradients
from flowgression.training.trainer import Trainer

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
SEQUENCES = 3
SIT = TrainConfig(model=ModelConfig(family="sit", args=ARGS), sequence_length=1, batch_size=64, max_steps=1000)


def test_flops_of_sit_are_those_of_its_matrices(work: Work) -> None:
    rows = TOKENS * DEPTH * (4 * D * D + 8 * D * D)  # attention and MLP
    rows += DEPTH * 6 * D * D + 2 * D * D  # modulations, one row an image
    rows += TOKENS * (4 * PATCH**2 * D + D * PATCH**2 * 8)  # in and out; sigma is learnt
    rows += 256 * D + D * D  # time
    attention = DEPTH * 2 * TOKENS**2 * D
    forward = 2 * (rows + attention)
    backward = 2 * forward - 2 * (TOKENS * 4 * PATCH**2 * D + 256 * D)  # the first layers need no input gradient
    assert work.flops == SEQUENCES * (forward + backward)
    assert measure(SIT, 1, 2 * SEQUENCES).flops == 2 * work.flops
    with torch.device("meta"):
        model = build_model("sit", **ARGS)
    assert work.parameters == sum(parameter.numel() for parameter in model.parameters())


CASES = [
    replace(SIT, batch_size=4),
    replace(SIT, batch_size=4, gradient_accumulation=2),
    replace(SIT, batch_size=4, activation_checkpointing=True),
    replace(SIT, batch_size=4, precision="bf16"),
    replace(SIT, model=ModelConfig(family="arflow", args=ARGS), sequence_length=2, batch_size=4),
    replace(SIT, model=ModelConfig(family="flowar", args=FLOWAR), batch_size=4),
    replace(SIT, model=ModelConfig(family="flowar", args=FLOWAR), batch_size=6, head_chunks=3),
    replace(SIT, model=ModelConfig(family="flowar", args={**FLOWAR, "attention": "lowrank"}), batch_size=4),
]


@pytest.mark.parametrize("config", CASES)
def test_the_plan_is_what_a_step_of_training_does(config: TrainConfig, tmp_path: Path) -> None:
    """The FLOPs of a real step and the memory of its live tensors, to the byte but for what the steps pass around."""
    digits = DataConfig("mnist", split="test", image_size=SIDE)
    model = replace(config.model, args=config.model.args | {"in_channels": 1})
    config = replace(config, model=model, data=digits, device="cpu", tracker="none", out=str(tmp_path))
    trainer = Trainer(config)
    batch = next(trainer.batches(0))
    flops, memory = flop_counter(), LiveTensors()
    with flops, memory:
        batch = {name: tensor.clone() for name, tensor in batch.items()}  # so that they count
        accumulate_gradients(trainer, 0, batch)
    work = measure(config, 1, len(batch["class_labels"]) // config.gradient_accumulation)
    assert work.flops == flops.get_total_flops()
    assert work.activations + work.gradients == pytest.approx(memory.peak, rel=0.01)


@pytest.fixture(scope="module")
def work() -> Work:
    return measure(SIT, 1, SEQUENCES)


def test_sharding_and_parts_divide_memory() -> None:
    one = make_plan(SIT, GPUS["h100"], 1)
    eight = make_plan(SIT, GPUS["h100"], 8)
    sharded = make_plan(replace(SIT, parallelism="fsdp2"), GPUS["h100"], 8)
    parts = make_plan(replace(SIT, gradient_accumulation=4), GPUS["h100"], 1)
    weights, activations = 4 * one.parameters, "activations at the peak"
    assert one.memory["optimiser (two moments)"] == eight.memory["optimiser (two moments)"] == 2 * weights
    assert sharded.memory["optimiser (two moments)"] == pytest.approx(2 * weights / 8, rel=1e-3)
    assert eight.memory["gradients on their way"] == weights
    assert one.memory[activations] == pytest.approx(8 * eight.memory[activations], rel=0.1)
    assert one.memory[activations] == pytest.approx(4 * parts.memory[activations], rel=0.1)
    assert parts.memory["gradients at the peak"] == weights  # those of the parts before
    assert 0 < sharded.memory["gradients at the peak"] <= weights / 8
    assert one.flops == pytest.approx(parts.flops, rel=1e-6) == pytest.approx(eight.flops, rel=1e-6)
    assert one.seconds == pytest.approx(8 * eight.seconds)
    assert one.peak == sum(one.memory.values()) > 4 * weights


def test_checkpointing_keeps_less_and_computes_more() -> None:
    deep = replace(SIT, model=ModelConfig(family="sit", args=ARGS | {"depth": 6}))
    plain, recomputed = measure(deep, 1, 8), measure(replace(deep, activation_checkpointing=True), 1, 8)
    assert recomputed.activations < plain.activations / 2.5
    assert 1.2 < recomputed.flops / plain.flops < 1.4


def test_chunks_of_the_head_keep_less() -> None:
    """A head of several blocks on a small transformer: its activations are most, and of four groups one is there."""
    heavy = replace(SIT, model=ModelConfig(family="flowar", args={**FLOWAR, "flow_depth": 6}))
    plain, chunked = measure(heavy, 1, 16), measure(replace(heavy, head_chunks=4), 1, 16)
    assert chunked.activations < plain.activations / 2
    assert 1 < chunked.flops / plain.flops < 4 / 3
    with pytest.raises(InputError, match="head_chunks=2: models of the family sit have no flow heads"):
        measure(replace(SIT, head_chunks=2), 1, 4)


def test_time_and_cost() -> None:
    gpu = Gpu(bf16=100, fp32=50, memory=80, price=2)
    plan = make_plan(SIT, gpu, 4, efficiency=0.5)
    assert plan.seconds == pytest.approx(plan.flops / (4 * 50e12 * 0.5))
    assert plan.days == pytest.approx(plan.seconds * 1000 / 86400)
    assert plan.cost == pytest.approx(plan.days * 24 * 4 * 2)
    assert make_plan(replace(SIT, precision="bf16"), gpu, 4, 0.5).seconds == pytest.approx(plan.seconds / 2)


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
    monkeypatch.setattr("flowgression.training.planner.measure", lambda *_: work)
    assert main(["plan", "--config", "sit-mnist", "--gpu", "a100", "--gpus", "2", "--efficiency", "0.1"]) == 0
    shown = capsys.readouterr().out
    for text in ("sit on 2 x a100", "memory: peak", "of 80 GiB", "at efficiency 0.1", "8,000 steps", "dollars"):
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


def test_this_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("flowgression.training.machine.time.perf_counter", lambda: float(next(clock)))
    config = replace(SIT, batch_size=4)
    found = measured_cpu(config, seconds=2.0)  # one gradient between the readings 0, 1 and 2; the last one is 3
    assert found.fp32 == found.bf16 == pytest.approx(measure(config, 1, 4).flops / 3 / 1e12)
    assert found.memory > 0.5
    assert make_plan(config, found, 1, 1.0).seconds == pytest.approx(3.0)
    monkeypatch.setattr("flowgression.training.machine.measured_cpu", lambda config: found)
    assert main(["plan", "--config", "sit-mnist", "--gpu", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "on this machine" in shown
    assert "dollars" not in shown
    assert main(["plan", "--config", "sit-emoji", "--data.path", "mnist", "--gpu", "cpu", "--minutes", "30"]) == 0
    assert "30 minutes:" in capsys.readouterr().out
    assert main(["plan", "--config", "sit-mnist", "--gpu", "cpu", "--gpus", "2"]) == 2
    assert "this machine alone" in capsys.readouterr().err
