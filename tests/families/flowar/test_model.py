"""FlowAR's own properties: cache against teacher forcing, who sees whom, precision, memory, and its errors."""

from typing import Any

import pytest
import torch

from flowgression import FlowAR, InputError
from flowgression.families.flowar.scales import pyramid
from flowgression.families.flowar.training import flowar_losses
from tests.families.flowar.cases import CASES, SIZE, latents_and_labels, small_model

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("case", CASES)
def test_cache_equals_teacher_forcing(case: str) -> None:
    model = small_model(case)
    latents, labels = latents_and_labels(model)
    maps = pyramid(latents, model.scales, model.config.patch_size)
    cache = model.new_cache(len(labels))
    with torch.no_grad():
        expected = model(latents, labels).semantics
        for k, wanted in enumerate(expected):
            semantics, cache = model.next_semantics(maps[k - 1] if k else None, labels, cache)
            torch.testing.assert_close(semantics, wanted, rtol=0, atol=1e-5)
    assert cache.scale == len(model.scales)


def test_an_older_cache_value_stays_true() -> None:
    model = small_model()
    latents, labels = latents_and_labels(model)
    first, second = (pyramid(x, model.scales, 1) for x in (latents, -latents))
    with torch.no_grad():
        _, after_one = model.next_semantics(None, labels, model.new_cache(len(labels)))
        original, _ = model.next_semantics(first[0], labels, after_one)
        other, _ = model.next_semantics(second[0], labels, after_one)
        again, _ = model.next_semantics(first[0], labels, after_one)
    assert (original - other).abs().max() > 1e-3
    torch.testing.assert_close(again, original, rtol=0, atol=0)


@pytest.mark.parametrize("case", ["six", "patches"])
def test_semantics_depend_on_coarser_scales_only(case: str) -> None:
    model = small_model(case)
    latents, labels = latents_and_labels(model, batch_size=1)
    maps = [each.requires_grad_() for each in pyramid(latents, model.scales[:-1], model.config.patch_size)]
    for k, semantics in enumerate(model.semantics(maps, labels)):
        gradients = torch.autograd.grad(semantics.square().sum(), maps, retain_graph=True, allow_unused=True)
        seen = [gradient is not None and bool(gradient.abs().max() > 0) for gradient in gradients]
        assert seen == [j < k for j in range(len(maps))], f"scale {k}"


def test_targets_are_area_means_of_the_latent() -> None:
    model = small_model("six")
    latents, labels = latents_and_labels(model)
    targets = model(latents, labels).targets
    torch.testing.assert_close(targets[0][:, 0], latents.mean((2, 3)))
    torch.testing.assert_close(targets[1][:, 3], latents[:, :, 3:, 3:].mean((2, 3)))
    torch.testing.assert_close(targets[3], latents.flatten(2).mT)


def test_cache_memory_is_the_bound_and_allocated_once() -> None:
    model = small_model("six")
    latents, labels = latents_and_labels(model)
    cache = model.new_cache(3)
    blocks, tokens, width = 3, 1 + 4 + 9 + 36, 32
    assert cache.nbytes == model.cache_bytes(3) == 2 * blocks * 3 * tokens * width * 4
    assert model.cache_bytes(3, max_scales=2, dtype=torch.bfloat16) == 2 * blocks * 3 * 5 * width * 2
    where = [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in cache.layers]
    maps = pyramid(latents, model.scales, 1)
    with torch.no_grad():
        for k in range(len(model.scales)):
            _, cache = model.next_semantics(maps[k - 1] if k else None, labels, cache)
    assert [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in cache.layers] == where
    assert cache.nbytes == model.cache_bytes(3)


@pytest.mark.parametrize("cross_attention", [False, True])
def test_gradient_checkpointing_changes_no_gradient(cross_attention: bool) -> None:
    model = small_model("powers", cross_attention=cross_attention).train()
    latents, labels = latents_and_labels(model)
    times, noise = torch.rand(3, 3), torch.randn(3, 21, 2)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        flowar_losses(model, latents, labels, times, noise)[1].backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients()
    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    recomputed = gradients()
    assert len(plain) == len(recomputed) == len(list(model.parameters()))
    for a, b in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("chunks", [2, 3, 8])
def test_chunks_of_the_head_change_no_gradient(chunks: int, checkpointing: bool) -> None:
    """In float64, where only the order of sums differs: gradients of 5 images, in groups of unequal size."""
    model = small_model("powers").double().train()
    latents, labels = latents_and_labels(model, 5)
    times, noise = torch.rand(5, 3).double(), torch.randn(5, 21, 2).double()
    calls: list[int] = []
    model.flow_head.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        calls.clear()
        losses, loss = flowar_losses(model, latents.double(), labels, times, noise)
        loss.backward()
        return [losses.detach(), *(parameter.grad.clone() for parameter in model.parameters())]

    whole = gradients()
    model.enable_head_chunking(chunks)
    if checkpointing:
        model.enable_gradient_checkpointing()
    parts = gradients()
    sizes = [len(each) for each in torch.arange(5).chunk(chunks)]
    assert sorted(calls) == sorted(sizes + sizes[:-1])  # all but the last run again
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_dropout_acts_in_training_only() -> None:
    model = small_model("powers", dropout=0.5, attention_dropout=0.5)
    latents, labels = latents_and_labels(model)
    first, second = (model(latents, labels).semantics[-1] for _ in range(2))
    assert torch.equal(first, second)
    model.train()
    first, second = (model(latents, labels).semantics[-1] for _ in range(2))
    assert (first - second).abs().max() > 1e-3


def test_a_fresh_model_predicts_zero_velocity() -> None:
    model = FlowAR(**SIZE, **CASES["powers"])
    latents, labels = latents_and_labels(model)
    out = model(latents, labels)
    assert model.flow_head(out.targets[2], torch.rand(3), out.semantics[2]).abs().max() == 0


def test_save_and_load(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = small_model("patches")
    model.save_pretrained(tmp_path)
    loaded = FlowAR.from_pretrained(tmp_path)
    latents, labels = latents_and_labels(model)
    assert torch.equal(model(latents, labels).semantics[-1], loaded(latents, labels).semantics[-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": (1, 2, 4)}, r"must be positive, increase and end at 6.*for example \(1, 2, 4, 6\)"),
        ({"scales": (1, 3, 3, 6)}, "increase"),
        ({"scales": ()}, "end at 6"),
        ({"patch_size": 4}, "cannot be cut into patches of 4"),
        ({"num_heads": 3}, "cannot be split into 3 heads"),
        ({"hidden_size": 36, "num_heads": 2}, "width 18 cannot carry 2-D rotary positions"),
        ({"flow_width": 36, "flow_num_heads": 6}, "width 6 cannot carry 2-D rotary positions"),
        ({"flow_depth": 0}, "flow_depth is 0"),
    ],
)
def test_sizes_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FlowAR(**{**SIZE, **CASES["six"], **changes})


def test_wrong_inputs() -> None:
    model = small_model("six")
    latents, labels = latents_and_labels(model)
    maps = pyramid(latents, model.scales, 1)
    with pytest.raises(InputError, match=r"latents must be \[B, 3, 6, 6\]"):
        model(latents[..., :5], labels)
    with pytest.raises(InputError, match=r"class_labels must be \[3\]"):
        model(latents, labels[:2])
    with pytest.raises(InputError, match=r"the map of scale 1 must be \[3, 3, 1, 1\]"):
        model.semantics([maps[1]], labels)
    with pytest.raises(InputError, match="no scale follows"):
        model.semantics(maps, labels)
    with pytest.raises(InputError, match="made for a batch of 2 but got 3"):
        model.next_semantics(None, labels, model.new_cache(2))
    _, cache = model.next_semantics(None, labels, model.new_cache(3, max_scales=1))
    with pytest.raises(InputError, match=r"the map of scale 1 must be .* got None"):
        model.next_semantics(None, labels, cache)
    with pytest.raises(InputError, match="room for 1 tokens, not for 5"):
        model.next_semantics(maps[0], labels, cache)
    with pytest.raises(InputError, match="5 tokens do not make a map"):
        model.flow_head(torch.zeros(1, 5, 3), torch.zeros(1), torch.zeros(1, 5, 32))
    with pytest.raises(InputError, match="2 channels but this flow head works on 3"):
        model.flow_head(torch.zeros(1, 4, 2), torch.zeros(1), torch.zeros(1, 4, 32))
    with pytest.raises(InputError, match="preset"):
        FlowAR.from_preset("XXL")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("cross_attention", [False, True])
def test_training_and_sampling_compile_without_graph_break(cross_attention: bool) -> None:
    model = small_model("patches", cross_attention=cross_attention)
    latents, labels = latents_and_labels(model)
    times, noise = torch.rand(3, 3), torch.randn(3, 59, 4)
    maps = pyramid(latents, model.scales, 2)
    with torch.no_grad():
        losses = torch.compile(flowar_losses, backend="eager", fullgraph=True)(model, latents, labels, times, noise)[0]
        torch.testing.assert_close(losses, flowar_losses(model, latents, labels, times, noise)[0])
        step = torch.compile(model.next_semantics, backend="eager", fullgraph=True)
        _, cache = step(None, labels, model.new_cache(3))
        semantics, _ = step(maps[0], labels, cache)
        torch.testing.assert_close(semantics, model.semantics(maps[:1], labels)[1])


@pytest.mark.parametrize("settings", [{}, {"cross_attention": True}, {"cross_attention": True, "attention": "lowrank"}])
def test_the_flow_head_may_read_a_semantic_map_once_for_all_steps(settings: dict[str, Any]) -> None:
    model = small_model(**settings)
    semantics = torch.randn(4, 9, model.config.hidden_size)
    read = model.flow_head.read(semantics, (3,))
    for rows in (4, 2):
        noise, times = torch.randn(rows, 9, 3), torch.rand(rows)
        expected = model.flow_head(noise, times, semantics[:rows])
        # float32, and sums of at most 32 + 9 products each in another order over six layers.
        torch.testing.assert_close(model.flow_head(noise, times, read.first(rows)), expected, rtol=1e-5, atol=1e-5)
