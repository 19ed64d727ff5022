"""FastFlowAR: FlowAR with low-rank attention keeps every property of the exact model."""

from typing import Any

import pytest
import torch
from torch._dynamo.backends.registry import lookup_backend

from flowgression import FlowAR, InputError
from flowgression.families.flowar.sampling import sample
from flowgression.families.flowar.scales import pyramid
from flowgression.families.flowar.training import flowar_losses
from flowgression.layers.lowrank_attention import LowRank, LowRankAttention, LowRankState
from tests.families.flowar.cases import CASES, SIZE, latents_and_labels, small_model

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


class Graphs:
    """A backend of torch.compile that keeps the graphs; "eager" runs them as they are, "inductor" compiles them."""

    def __init__(self, backend: str):
        self.found: list[torch.fx.GraphModule] = []
        self.compile = lookup_backend(backend)

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        self.found.append(graph)
        return self.compile(graph, inputs)


@pytest.mark.slow  # tests/graphs does it with fewer scales; here the features are differentiated in a graph too
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.filterwarnings("default")
def test_training_and_sampling_are_one_graph_each(backend: str) -> None:
    """Rank 45: a map of 36 tokens takes the dense form, the pyramid of 50 and the state take features."""
    model = small_model(
        "six", **LOWRANK, encoder_depth=1, flow_depth=1
    ).double()  # so that only a wrong gradient differs, not a rounded one
    latents, labels = latents_and_labels(model)
    latents = latents.double()
    # At t = 1 the head's angles are 0, and cos 0 and sin 0 are exact. Elsewhere angles of up to 1000 are float32 by
    # design, and inductor's exp, another in the last place, moves them by up to 1000 * 2^-24 = 6e-5.
    times, noise = torch.ones(3, 4).double(), torch.randn(3, 50, 3).double()
    training, sampling = Graphs(backend), Graphs(backend)
    torch._dynamo.reset()

    def loss(times: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return flowar_losses(model, latents, labels, times, noise)[0].sum()

    compiled = torch.compile(loss, backend=training, fullgraph=True, dynamic=False)
    for factor in (1.0, 0.5):  # new numbers of the same shape: no second graph
        value, expected = compiled(times, factor * noise), loss(times, factor * noise)
        torch.testing.assert_close(value, expected)
        found, wanted = (torch.autograd.grad(each, list(model.parameters())) for each in (value, expected))
        for gradient, reference in zip(found, wanted, strict=True):
            torch.testing.assert_close(gradient, reference)
    assert len(training.found) == 1

    step = torch.compile(model.next_semantics, backend=sampling, fullgraph=True, dynamic=False)
    maps = pyramid(latents, model.scales, 1)
    for _ in range(2):
        with torch.no_grad():
            state, previous, semantics = model.new_cache(3), None, []
            for scale in range(len(model.scales)):
                result, state = step(previous, labels, state)
                semantics.append(result)
                previous = maps[scale]
            for result, reference in zip(semantics, model.semantics(maps[:-1], labels), strict=True):
                torch.testing.assert_close(result, reference)
        assert len(sampling.found) == len(model.scales)


@pytest.mark.parametrize(("tokens", "lengths"), [(40, (8, 32)), (100, (36, 64))])
def test_no_table_of_constants_is_in_a_graph(tokens: int, lengths: tuple[int, ...]) -> None:
    """Nothing that was made on another device: the only tensors of a graph are inputs, parameters and buffers."""
    module = LowRankAttention(2, 8, LowRank(2, 2.0), causal=True)
    q, k, v = torch.randn(3, 1, 2, tokens, 8)
    graphs = Graphs("eager")
    torch.compile(module, backend=graphs, fullgraph=True, dynamic=False)(q, k, v, lengths, LowRankState(1))
    (graph,) = graphs.found
    constants = [node for node in graph.graph.nodes if node.op == "get_attr"]
    assert not constants
    exported = torch.export.export(module, (q, k, v, lengths))
    assert set(exported.state_dict) == {"tau_logit", "centre"}
    assert not exported.constants
    torch.testing.assert_close(exported.module()(q, k, v, lengths)[0], module(q, k, v, lengths)[0])


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

    from flowgression.ops.lowrank.tables import _weights

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
