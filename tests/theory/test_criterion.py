"""The criterion's figures against dense logits, and its verdicts."""

import json
import math

import pytest
import torch

from flowgression.errors import InputError
from flowgression.models.flowar.probe import Observed, observe
from flowgression.ops.lowrank import minimax_exp, truncation_factor
from flowgression.theory.criterion import CriterionReport, LayerReport, measure_criterion, smallest_degree
from flowgression.theory.criterion_plot import plot_criterion
from tests.models.flowar.cases import latents_and_labels, small_model


@pytest.mark.parametrize("overrides", [{}, {"attention": "lowrank"}, {"cross_attention": True}])
def test_bounds_are_those_of_all_compared_pairs(overrides: dict) -> None:
    model = small_model("six", **overrides)
    batch = latents_and_labels(model)
    report = measure_criterion(model, [batch])
    seen: list[Observed] = []
    for labels in (batch[1], torch.full_like(batch[1], model.config.num_classes)):
        observe(model, batch[0], labels, seen.append, generator=torch.Generator().manual_seed(0))
    half = len(seen) // 2
    seen = [
        a._replace(**{x: torch.cat([getattr(a, x), getattr(b, x)]) for x in "qkv"})
        for a, b in zip(seen[:half], seen[half:], strict=True)
    ]
    scale = torch.repeat_interleave(torch.arange(4), torch.tensor([1, 4, 9, 36]))
    for each, layer in zip(seen, report.layers, strict=True):
        q, k = each.attention.logit_factors(each.q, each.k)
        same, earlier = scale[:, None] == scale, scale[:, None] > scale
        mask = same | earlier if each.attention.causal else same
        logits = (q @ k.mT).abs() * mask
        assert layer.layer == each.name
        assert layer.bound == pytest.approx(logits.amax((0, 2, 3)).tolist(), rel=1e-5)
        assert all(b <= c * 1.0001 for b, c in zip(layer.bound, layer.cauchy_schwarz, strict=True))
        assert layer.tokens == (50 if each.attention.causal else 36)
        centred = ((q @ (k - k.mean((0, 2), keepdim=True)).mT).abs() * mask).amax((0, 2, 3))
        assert layer.centred == pytest.approx(centred.tolist(), rel=1e-4)


@pytest.mark.parametrize("overrides", [{"num_heads": 4, "flow_num_heads": 4}, {"attention": "lowrank"}])
def test_measured_error_is_within_the_certificate(overrides: dict) -> None:
    model = small_model("six", **overrides)
    report = measure_criterion(model, [latents_and_labels(model)], target_error=0.02)
    measured = [layer for layer in report.layers if layer.degree is not None]
    assert measured
    for layer in measured:
        assert 0 < layer.error <= layer.certificate + layer.rounding
        assert layer.rank == math.comb(layer.head_width + layer.degree, layer.degree)
        if layer.part == "transformer":
            assert layer.state_numbers == layer.rank * (layer.head_width + 1)
            assert layer.cache_numbers == 2 * 50 * layer.head_width
        else:
            assert layer.state_numbers is None


@pytest.mark.parametrize("bound", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("target", [1e-1, 1e-4])
def test_smallest_degree(bound: float, target: float) -> None:
    degree = smallest_degree(bound, target)
    assert truncation_factor(minimax_exp(degree, bound).eps) <= target
    if degree > 2:
        assert truncation_factor(minimax_exp(degree - 2, bound).eps) > target


def test_a_fast_model_is_inside_and_large_logits_are_outside() -> None:
    fast = small_model("six", attention="lowrank", num_heads=4, flow_num_heads=4)
    inside = measure_criterion(fast, [latents_and_labels(fast)])
    assert inside.inside
    assert inside.verdict.startswith("Inside the provably efficient regime")
    model = small_model("six", num_heads=4, flow_num_heads=4)
    torch.nn.init.normal_(model.encoder_blocks[1].attn.qkv.weight, std=3.0)
    outside = measure_criterion(model, [latents_and_labels(model)])
    assert not outside.layers[1].inside
    assert "most in encoder_blocks.1.attn" in outside.verdict
    assert outside.layers[1].degree is None
    assert "Low rank" in outside.verdict
    assert "no polynomial follows exp" in outside.verdict
    assert json.loads(json.dumps(outside.to_dict()))["inside"] is False


def test_pays_from_the_crossover_on() -> None:
    """d = 8, degree 2: r (d + 2) / d = 56.25 tokens."""
    from flowgression.theory.criterion import _Survey

    for tokens, pays in ((56, False), (57, True)):
        survey = _Survey(None)
        ones = [1.0]
        survey.layers["x"] = LayerReport("x", "flow head", tokens, 8, ones, ones, ones, 2.0, 1.0, 7, ones, degree=2)
        report = survey.finished("x")
        assert report.crossover_side == pytest.approx(7 * (56.25 / tokens) ** 0.5)
        assert report.pays is pays
        assert ("pays in every layer" in CriterionReport([report], 1).verdict) is pays


def test_plot_and_errors(tmp_path) -> None:
    model = small_model("powers")
    report = measure_criterion(model, [latents_and_labels(model)])
    plot_criterion(report, tmp_path / "plot.png", "title")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    for wrong in (2, 0, 1e-15):
        with pytest.raises(InputError, match="target_error is"):
            measure_criterion(model, [latents_and_labels(model)], target_error=wrong)
    with pytest.raises(InputError, match="got none"):
        measure_criterion(model, [])


def test_keys_with_a_common_offset_are_centred() -> None:
    """An offset common to all keys changes no softmax and is not held against a layer."""
    model = small_model("six", num_heads=4, flow_num_heads=4)
    plain = measure_criterion(model, [latents_and_labels(model)]).layers[-1]
    block = model.flow_head.blocks[-1].attn
    moved = torch.nn.Linear(32, 96)
    with torch.no_grad():
        moved.weight.copy_(block.qkv.weight)
        moved.bias.zero_()
        moved.bias[32:64] = 20.0  # turned by the positions, so only what does not turn stays common
    block.qkv = moved
    block.forward = _without_positions(block)
    shifted = measure_criterion(model, [latents_and_labels(model)], target_error=0.05).layers[-1]
    assert max(shifted.bound) > 3 * max(plain.bound)
    assert max(shifted.centred) < max(shifted.bound) / 3
    assert shifted.interval == pytest.approx(max(shifted.centred), rel=1e-3)
    assert shifted.degree is not None
    assert shifted.error <= shifted.certificate + shifted.rounding


def _without_positions(block):
    def forward(x, rotation, lengths, state=None):
        q, k, v = block.qkv(x).unflatten(-1, (3, block.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out, state = block.attention(q, k, v, lengths, state)
        return block.proj(out.transpose(1, 2).flatten(-2)), state

    return forward
