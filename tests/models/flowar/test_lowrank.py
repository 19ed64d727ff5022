"""FastFlowAR: FlowAR with low-rank attention keeps every property of the exact model."""

import pytest
import torch

from flowgression.errors import InputError
from flowgression.models.flowar.model import FlowAR
from flowgression.models.flowar.scales import pyramid
from flowgression.sampling.flowar import sample
from flowgression.training.flowar_losses import flowar_losses
from tests.models.flowar.cases import CASES, SIZE, latents_and_labels, small_model

LOWRANK = {"attention": "lowrank", "num_heads": 4, "flow_num_heads": 4}


@pytest.mark.parametrize("case", CASES)
def test_state_equals_teacher_forcing(case: str) -> None:
    model = small_model(case, **LOWRANK)
    latents, labels = latents_and_labels(model)
    maps = pyramid(latents, model.scales, model.config.patch_size)
    cache = model.new_cache(len(labels))
    assert cache.nbytes == 0
    with torch.no_grad():
        for k, wanted in enumerate(model(latents, labels).semantics):
            semantics, cache = model.next_semantics(maps[k - 1] if k else None, labels, cache)
            torch.testing.assert_close(semantics, wanted, rtol=0, atol=1e-5)
            blocks, heads, width, rank = 3, 4, 8, 45
            assert cache.nbytes == model.cache_bytes(3) == blocks * 3 * heads * rank * (width + 1) * 4


def test_semantics_depend_on_coarser_scales_only() -> None:
    model = small_model("six", **LOWRANK)
    latents, labels = latents_and_labels(model, batch_size=1)
    maps = [each.requires_grad_() for each in pyramid(latents, model.scales[:-1], 1)]
    for k, semantics in enumerate(model.semantics(maps, labels)):
        gradients = torch.autograd.grad(semantics.square().sum(), maps, retain_graph=True, allow_unused=True)
        seen = [gradient is not None and bool(gradient.abs().max() > 0) for gradient in gradients]
        assert seen == [j < k for j in range(len(maps))], f"scale {k}"


@pytest.mark.parametrize("cross_attention", [False, True])
def test_every_parameter_learns_also_with_checkpointing(cross_attention: bool) -> None:
    model = small_model("powers", cross_attention=cross_attention, **LOWRANK).train()
    latents, labels = latents_and_labels(model)
    times, noise = torch.rand(3, 3), torch.randn(3, 21, 2)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        flowar_losses(model, latents, labels, times, noise)[1].backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    assert plain.keys() == dict(model.named_parameters()).keys()
    assert all(gradient.abs().max() > 0 for name, gradient in plain.items() if "tau" in name)
    model.enable_gradient_checkpointing()
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name])


def test_sampling_with_and_without_the_state_agree() -> None:
    model = small_model("six", **LOWRANK)
    labels = torch.tensor([0, 3])
    options = {"num_inference_steps": 3, "guidance_scale": 2.0}
    generators = [[torch.Generator().manual_seed(i) for i in range(2)] for _ in range(2)]
    with_state = sample(model, labels, generator=generators[0], **options).sample
    without = sample(model, labels, generator=generators[1], use_cache=False, **options).sample
    torch.testing.assert_close(with_state, without, rtol=0, atol=1e-4)


def test_bf16_stays_finite_on_hard_inputs() -> None:
    model = small_model("powers", **LOWRANK).train()
    latents, labels = latents_and_labels(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(8):
        noise = torch.randn(3, 21, 2, generator=torch.Generator().manual_seed(step))
        with torch.autocast("cpu", torch.bfloat16):
            loss = flowar_losses(model, 100 * latents, labels, torch.rand(3, 3), noise)[1]
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()


@pytest.mark.parametrize("name", ["S", "B", "L", "H"])
def test_a_fast_preset_has_the_parameters_of_its_sibling_and_a_tau_per_head(name: str) -> None:
    with torch.device("meta"):
        exact, fast = FlowAR.from_preset(name), FlowAR.from_preset(f"fast-{name}")
    taus = sum(p.numel() for key, p in fast.named_parameters() if key.endswith("tau_logit"))
    assert sum(p.numel() for p in fast.parameters()) == sum(p.numel() for p in exact.parameters()) + taus
    assert {p.shape for key, p in fast.named_parameters() if "tau" in key} == {
        (exact.config.hidden_size // 8,),
        (exact.config.flow_width // 8,),
    }


def test_torch_compile_goes_around_the_attention() -> None:
    model, compiled = small_model("powers", **LOWRANK), small_model("powers", **LOWRANK)
    compiled.compile(backend="eager")
    latents, labels = latents_and_labels(model)
    noise = torch.randn(3, 21, 2)
    losses = [flowar_losses(each, latents, labels, torch.full((3, 3), 0.5), noise)[1] for each in (model, compiled)]
    torch.testing.assert_close(losses[0], losses[1])
    losses[1].backward()
    assert all(p.grad is not None for p in compiled.parameters())


@pytest.mark.gpu
def test_a_gpu_gives_the_same_also_under_autocast() -> None:
    model = small_model("six", **LOWRANK)
    latents, labels = latents_and_labels(model)
    with torch.no_grad():
        expected = model(latents, labels).semantics[-1]
        model.cuda()
        out = model(latents.cuda(), labels.cuda()).semantics[-1]
        with torch.autocast("cuda", torch.bfloat16):
            half = model(latents.cuda(), labels.cuda()).semantics[-1]
    torch.testing.assert_close(out.cpu(), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(half.float().cpu(), expected, rtol=0, atol=0.1)


def test_fake_tensors_leave_no_trace() -> None:
    """A model may be measured without numbers first; the tables that are cached must be real all the same."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from flowgression.ops.lowrank.polynomial import _weights

    _weights.cache_clear()
    sizes = {**SIZE, **CASES["six"], **LOWRANK, "attention_max_tau": 1.2345}
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = FlowAR(**sizes)
        out = model(torch.empty(2, 3, 6, 6), torch.zeros(2, dtype=torch.int64))
        assert out.semantics[-1].shape == (2, 36, 32)
    real = FlowAR(**sizes)(torch.randn(2, 3, 6, 6), torch.zeros(2, dtype=torch.int64))
    assert real.semantics[-1].isfinite().all()


def test_errors_name_the_value() -> None:
    with pytest.raises(InputError, match=r"lowrnk.*lowrank"):
        FlowAR(**SIZE, attention="lowrnk")
    with pytest.raises(InputError, match="degree=3"):
        FlowAR(**SIZE, attention="lowrank", attention_degree=3)
    with pytest.raises(InputError, match="tau is 20"):
        FlowAR(**SIZE, attention="lowrank", attention_max_tau=20.0)
    with pytest.raises(InputError, match="attention_dropout"):
        FlowAR(**SIZE, attention="lowrank", attention_dropout=0.1)
    model = small_model("six", **LOWRANK)
    with pytest.raises(InputError, match="batch of 2"):
        model.next_semantics(None, torch.tensor([0, 1, 2]), model.new_cache(2))
