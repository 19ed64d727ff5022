"""The criterion's figures against dense logits, and its verdicts."""

import json
import math

import pytest
import torch

from flowgression import InputError
from flowgression.families.flowar.probe import Observed, observe
from flowgression.ops import minimax_exp
from flowgression.ops.lowrank import rank, truncation_factor
from flowgression.theory import measure_criterion
from flowgression.theory.criterion import largest_bound, smallest_degree
from flowgression.theory.criterion_plot import plot_criterion
from flowgression.theory.survey import pays, survey
from flowgression.theory.trajectory import starting_points
from tests.families.flowar.cases import latents_and_labels, small_model


@pytest.mark.parametrize("overrides", [{}, {"attention": "lowrank"}, {"cross_attention": True}])
def test_bounds_are_those_of_all_compared_pairs(overrides: dict) -> None:
    model = small_model("six", **overrides)
    batch = latents_and_labels(model)
    report = measure_criterion(model, [batch], num_images=0)
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


def test_measured_on_trajectories_and_on_images_it_is_the_union_of_both() -> None:
    model = small_model("powers")
    drawn = measure_criterion(model, num_images=3, seed=5, num_inference_steps=3)
    bounds = survey(model, *starting_points(model, 3, 5), num_inference_steps=3, guidance_scale=2.0)
    for layer in drawn.layers:
        own = bounds[layer.layer]
        assert (max(layer.bound), layer.largest_value, layer.spread) == (own.logit, own.largest_value, own.spread)
    both = measure_criterion(model, [latents_and_labels(model)], num_images=3, seed=5, num_inference_steps=3)
    assert (both.num_images, both.num_read) == (3, 3)
    alone = measure_criterion(model, [latents_and_labels(model)], num_images=0, seed=5)
    for one, other, union in zip(drawn.layers, alone.layers, both.layers, strict=True):
        assert union.largest_value == max(one.largest_value, other.largest_value)
        assert union.bound == [max(pair) for pair in zip(one.bound, other.bound, strict=True)]


@pytest.mark.parametrize(
    "overrides", [{"num_heads": 4, "flow_num_heads": 4}, {"attention": "lowrank"}, {"attention": "bounded"}]
)
def test_measured_error_is_within_the_certificate(overrides: dict) -> None:
    model = small_model("six", **overrides)
    report = measure_criterion(model, [latents_and_labels(model)], num_images=2, target_error=0.02)
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


@pytest.mark.parametrize(("degree", "target", "spread"), [(2, 0.1, 1.0), (4, 1e-2, 8.0), (6, 1e-4, 0.5)])
def test_largest_bound(degree: int, target: float, spread: float) -> None:
    bound = largest_bound(degree, target, spread)
    assert truncation_factor(minimax_exp(degree, bound).eps) * spread <= target
    assert truncation_factor(minimax_exp(degree, 1.002 * bound).eps) * spread > target
    assert largest_bound(2, 1e-9, 1e3) == 0
    assert largest_bound(40, 0.1) == 12


def test_values_decide_too() -> None:
    """Values that are twice as large need a certificate half as large per unit: the same logits, another verdict."""
    model = small_model("powers", attention="bounded", attention_max_tau=1.0)
    free = small_model("powers", attention="lowrank", attention_degree=4, attention_max_tau=1.0)
    for layer in measure_criterion(model, num_images=2, target_error=0.01).layers:
        assert layer.spread <= 2
        assert layer.interval <= 1
        assert layer.approximable
        assert layer.certificate <= 0.01
    free.encoder_blocks[1].attn.qkv.weight.data[64:] *= 1e4
    report = measure_criterion(free, num_images=2, target_error=0.01)
    assert report.layers[1].spread > 100
    assert "not approximable at error 0.01: its polynomial of degree 4 certifies" in report.layers[1].verdict
    assert not report.approximable


def test_a_low_rank_model_is_judged_by_its_own_polynomial_and_no_other() -> None:
    fast = small_model("six", attention="lowrank", num_heads=4, flow_num_heads=4)
    report = measure_criterion(fast, num_images=2)
    for layer in report.layers:
        assert (layer.own, layer.degree, layer.interval) == (True, 2, 2.0)
        factor = truncation_factor(minimax_exp(2, 2.0).eps)
        assert layer.certificate == pytest.approx(factor * layer.spread)
        assert layer.approximable is (layer.certificate <= 1 / layer.tokens)
        assert "inside" not in layer.verdict.lower()


def test_large_logits_are_not_approximable() -> None:
    model = small_model("six", num_heads=4, flow_num_heads=4)
    torch.nn.init.normal_(model.encoder_blocks[1].attn.qkv.weight, std=3.0)
    report = measure_criterion(model, num_images=2, num_inference_steps=2)
    layer = next(layer for layer in report.layers if layer.layer == "encoder_blocks.1.attn")
    assert layer.degree is None
    assert not layer.approximable
    assert "no polynomial that float64 resolves follows exp" in layer.verdict
    assert "not approximable" in report.verdict
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (found["approximable"], found["pays"]) == (False, False)


def test_what_float32_cannot_promise_is_none_in_json() -> None:
    """Exact models with long queries and keys: |P|(A) / min P is beyond what float32 resolves."""
    model = small_model("powers")
    report = measure_criterion(model, num_images=2, num_inference_steps=2, target_error=0.5)
    interval = max(layer.interval for layer in report.layers)
    for block in (*model.encoder_blocks, *model.decoder_blocks, *model.flow_head.blocks):
        block.attn.qkv.weight.data[:64] *= (8 / interval) ** 0.5  # logits of 8 where they were largest
    report = measure_criterion(model, num_images=2, num_inference_steps=2, target_error=0.5)
    infinite = [layer for layer in report.layers if layer.rounding == math.inf]
    assert infinite
    for layer in infinite:
        assert layer.to_dict()["rounding"] is None
        assert "in float32 nothing is certified" in layer.verdict or not layer.approximable
    json.dumps(report.to_dict(), allow_nan=False)


def test_pays_from_the_crossover_on() -> None:
    """d = 8, degree 2: r (d + 2) / d = 56.25 tokens."""
    assert [pays(tokens, 8, rank(8, 2)) for tokens in (56, 57)] == [False, True]
    fast = small_model("six", attention="lowrank", num_heads=4, flow_num_heads=4)
    for layer in measure_criterion(fast, num_images=1, num_inference_steps=1).layers:
        assert layer.pays is (layer.tokens > 56.25)
        assert layer.crossover_side == pytest.approx(6 * (56.25 / layer.tokens) ** 0.5)


def test_plot_and_errors(tmp_path) -> None:
    model = small_model("powers")
    report = measure_criterion(model, num_images=1)
    plot_criterion(report, tmp_path / "plot.png", "title")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    for wrong in (2, 0, 1e-15):
        with pytest.raises(InputError, match="target_error is"):
            measure_criterion(model, [latents_and_labels(model)], target_error=wrong)
    with pytest.raises(InputError, match="got none"):
        measure_criterion(model, [], num_images=0)


def test_keys_with_a_common_offset_are_centred() -> None:
    """An offset common to all keys changes no softmax and is not held against a layer."""
    model = small_model("six", num_heads=4, flow_num_heads=4)
    plain = measure_criterion(model, [latents_and_labels(model)], num_images=0).layers[-1]
    block = model.flow_head.blocks[-1].attn
    moved = torch.nn.Linear(32, 96)
    with torch.no_grad():
        moved.weight.copy_(block.qkv.weight)
        moved.bias.zero_()
        moved.bias[32:64] = 20.0  # turned by the positions, so only what does not turn stays common
    block.qkv = moved
    block.forward = _without_positions(block)
    shifted = measure_criterion(model, [latents_and_labels(model)], num_images=0, target_error=0.05).layers[-1]
    assert max(shifted.bound) > 3 * max(plain.bound)
    assert max(shifted.centred) < max(shifted.bound) / 3
    assert shifted.interval == pytest.approx(1.05 * max(shifted.centred))
    assert shifted.degree is not None
    assert shifted.error <= shifted.certificate + shifted.rounding


def _without_positions(block):
    def forward(x, rotation, lengths, state=None):
        q, k, v = block.qkv(x).unflatten(-1, (3, block.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out, state = block.attention(q, k, v, lengths, state)
        return block.proj(out.transpose(1, 2).flatten(-2)), state

    return forward
