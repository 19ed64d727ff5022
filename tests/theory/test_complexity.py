"""Counted FLOPs and memory against closed forms, fitted exponents against known ones, and the time limit."""

import json
import math
import time

import pytest
import torch

from flowgression import FlowAR
from flowgression.cli.main import main
from flowgression.theory.complexity import (
    Curve,
    Point,
    Sizes,
    _generation,
    _measure,
    _Method,
    generation_pass,
    model_scales,
)
from flowgression.theory.cost import count
from tests.families.flowar.cases import small_model


def test_memory_is_that_of_live_tensors() -> None:
    def compute() -> None:
        a = torch.ones(1000)
        for _ in range(5):
            a = a + 1  # the old and the new are alive together, never more
        a.add_(1)
        a.view(10, 100)

    assert count(compute).peak_bytes == 2 * 4000
    x = torch.ones(1000)
    assert count(lambda: x.add_(1)).peak_bytes == 0


@pytest.mark.parametrize("power", [2, 3.7])
def test_exponents_of_powers(power: float) -> None:
    curve = Curve("x", "attention", 4, [Point(n, n**power, n**4, 7) for n in (4, 8, 16, 32, 64, 128)])
    fit = curve.exponent("seconds")
    assert fit.value == pytest.approx(power)
    assert fit.low == pytest.approx(power)
    assert fit.high == pytest.approx(power)
    assert curve.exponent("flops").value == pytest.approx(4)
    assert [point.side for point in curve.upper_half()] == [32, 64, 128]
    assert Curve("x", "attention", 4, curve.points[:2]).exponent("seconds") is None


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(400):
        noise = torch.randn(8, generator=generator).mul(0.1).exp().tolist()
        points = [Point(2**i, 2 ** (3 * i) * noise[i], 1, 1) for i in range(8)]
        fit = Curve("x", "attention", 4, points).exponent("seconds")
        hits += fit.low <= 3 <= fit.high
    assert 0.91 <= hits / 400 <= 0.985


def test_a_pass_draws_every_scale_as_the_sampler_does() -> None:
    from flowgression.families.flowar.sampling import sample

    model = small_model("six")
    torch.manual_seed(5)
    with torch.no_grad():
        latent = generation_pass(model)
    torch.manual_seed(5)
    noise = [torch.randn(1, side**2, 3) for side in model.scales]
    expected = sample(model, torch.tensor([0]), num_inference_steps=1, noise=noise).sample
    torch.testing.assert_close(latent, expected, rtol=0, atol=1e-5)


def test_scales_keep_their_proportions() -> None:
    assert model_scales(64) == (1, 16, 32, 64)
    assert model_scales(2) == (1, 2)
    for side in (8, 11, 23, 45):
        FlowAR(sample_size=side, scales=model_scales(side), hidden_size=8, num_heads=2, flow_width=8)


def test_command(tmp_path, capsys) -> None:
    """FLOPs of whole models are between n^2 and n^4 and the fast one's below, at any speed of the machine."""
    flags = ["--sides", "6,8,12", "--width", "8", "--degrees", "2", "--max-seconds", "60"]
    files = ["--json", str(tmp_path / "c.json"), "--plot", str(tmp_path / "c.png")]
    assert main(["complexity", *flags, *files]) == 0
    assert "95 % intervals" in capsys.readouterr().out
    assert (tmp_path / "c.png").stat().st_size > 10_000
    curves = {curve["name"]: curve for curve in json.loads((tmp_path / "c.json").read_text())["curves"]}
    assert list(curves) == ["softmax, naive", "softmax, fused", "low rank, degree 2", "FlowAR", "FastFlowAR"]
    assert curves["softmax, fused"]["exponents"]["flops"]["value"] == pytest.approx(4)
    assert curves["low rank, degree 2"]["exponents"]["flops"]["value"] == pytest.approx(2)
    assert 2 < curves["FlowAR"]["exponents"]["flops"]["value"] < 4
    assert curves["FastFlowAR"]["exponents"]["flops"]["value"] < 2.2
    assert all(math.isfinite(p["seconds"]) for curve in curves.values() for p in curve["points"])


def test_a_side_that_would_not_fit_the_time_is_not_begun() -> None:
    """n^4 with 10 ms at n = 4: n = 8 takes 0.16 s, n = 40 would take 100 s."""
    begun = []

    def prepare(side: int):
        begun.append(side)
        return lambda: time.sleep(0.01 * (side / 4) ** 4)

    curve = Curve("x", "attention", 4)
    _measure(_Method(curve, prepare), (3, 4, 8, 40, 80), 30.0, torch.device("cpu"), lambda line: None)
    assert begun == [3, 4, 8]
    assert [point.side for point in curve.points] == [3, 4, 8]


@pytest.mark.slow
def test_flops_of_whole_models_grow_as_the_theory_says() -> None:
    """Counted, so free of noise: at most n^2.3 for FastFlowAR, at least n^3.3 for FlowAR."""
    for attention, low, high in (("exact", 3.3, 4.0), ("lowrank", 1.9, 2.3)):
        points = []
        for side in (64, 91, 128):
            counted = count(_generation(attention, Sizes(), torch.device("cpu"))(side))
            points.append(Point(side, 1.0, *counted))
        exponent = Curve(attention, "models", 4, points).exponent("flops").value
        assert low <= exponent <= high


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sides", "8,x"], "whole numbers"),
        (["--sides", "8,4,16"], "growing"),
        (["--degrees", "3"], "even"),
        (["--max-tau", "13"], "out of range"),
        (["--head-width", "6"], "multiple of 4"),
        (["--max-seconds", "0"], "max_seconds"),
        (["--plot", "x.txt"], ".png"),
    ],
)
def test_errors(flags: list[str], message: str, capsys) -> None:
    assert main(["complexity", "--what", "attention", *flags]) == 2
    assert message in capsys.readouterr().err
