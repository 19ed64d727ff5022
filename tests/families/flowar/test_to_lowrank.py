"""Looking into a FlowAR, and its conversion to low rank, against what is computed by hand."""

import pytest
import torch

from flowgression import FlowAR, InputError
from flowgression.families.flowar.probe import Observed, attention_names, observe
from flowgression.families.flowar.scales import pyramid
from flowgression.models import to_lowrank
from tests.families.flowar.cases import latents_and_labels, small_model


def test_every_attention_is_seen_once_and_unchanged() -> None:
    model = small_model("six", cross_attention=True).train()
    latents, labels = latents_and_labels(model)
    seen: list[Observed] = []
    observe(model, latents, labels, seen.append, generator=torch.Generator().manual_seed(0))
    assert [each.name for each in seen] == attention_names(model)
    assert len(seen) == 3 + 2 * 2
    assert {each.q.shape for each in seen} == {(3, 2, 50, 16)}
    assert model.training
    observe(model, latents, labels, seen.append, generator=torch.Generator().manual_seed(0))
    assert torch.equal(seen[-1].q, seen[6].q)
    model(latents, labels)
    assert len(seen) == 14  # nothing stays hooked


def test_what_is_seen_makes_the_semantics() -> None:
    """The first block's queries and keys, by hand."""
    model = small_model("powers")
    latents, labels = latents_and_labels(model)
    seen: list[Observed] = []
    observe(model, latents, labels, seen.append)
    block, first = model.encoder_blocks[0], seen[0]
    condition = model.class_embed(labels)[:, None]
    maps = pyramid(latents, model.scales, 1)
    tokens = [model._input_tokens(k, maps[k - 1] if k else None, condition) for k in range(3)]
    x = model.input_norm(torch.cat(tokens, 1) + model.encoder_position)
    _, _, scale, _, shift, _ = block.modulation(condition)
    _, _, v = block.attn.qkv(block.norm1(x) * (1 + scale) + shift).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
    torch.testing.assert_close(first.v, v)


def test_tau_and_centre_are_means_over_tokens() -> None:
    """tau times the cosine is the logit of queries and centred keys that were brought to their mean lengths."""
    model = small_model("six")
    batch = latents_and_labels(model, batch_size=4)
    fast, measured = to_lowrank(model, [batch], degree=4, max_tau=4.0)
    for seen in _observed(model, batch):
        attention = fast.get_submodule(f"{seen.name}.attention")
        torch.testing.assert_close(attention.centre, seen.k.mean((0, 2)), rtol=0, atol=1e-5)
        lengths = seen.q.norm(dim=-1).mean((0, 2)) * (seen.k - attention.centre[:, None]).norm(dim=-1).mean((0, 2))
        torch.testing.assert_close(measured[seen.name].tau.float(), lengths / 4, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(attention.tau, (lengths / 4).clamp(max=3.92), rtol=1e-4, atol=1e-5)
        q, k = attention.logit_factors(seen.q, seen.k)
        stretched = seen.q / seen.q.norm(dim=-1, keepdim=True) * seen.q.norm(dim=-1).mean((0, 2))[:, None, None]
        centred = seen.k - attention.centre[:, None]
        centred = centred / centred.norm(dim=-1, keepdim=True) * centred.norm(dim=-1).mean((0, 2))[:, None, None]
        torch.testing.assert_close(q @ k.mT, stretched @ centred.mT / 4, rtol=1e-3, atol=1e-4)


def test_weights_are_kept_and_outputs_near() -> None:
    """With small logits every attention is near the mean of the values, so both models nearly agree."""
    model = small_model("six")
    for name in attention_names(model):
        torch.nn.init.normal_(model.get_submodule(name).qkv.weight[:64], std=0.02)
    latents, labels = batch = latents_and_labels(model)
    fast, _ = to_lowrank(model, [batch])
    assert isinstance(fast, FlowAR)
    assert fast.config.attention == "lowrank"
    kept = fast.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        exact, near = model(latents, labels).semantics[-1], fast(latents, labels).semantics[-1]
    assert (exact - near).abs().max() < 0.05 * exact.abs().max()


def test_errors() -> None:
    model = small_model("six", attention="lowrank")
    with pytest.raises(InputError, match="already"):
        to_lowrank(model, [latents_and_labels(model)])
    with pytest.raises(InputError, match="no images"):
        to_lowrank(small_model("six"), [])
    with pytest.raises(InputError, match="tau is 13"):
        to_lowrank(small_model("six"), [latents_and_labels(model)], max_tau=13.0)


def _observed(model: FlowAR, batch: tuple[torch.Tensor, torch.Tensor]) -> list[Observed]:
    seen: list[Observed] = []
    observe(model, *batch, seen.append, generator=torch.Generator().manual_seed(0))
    return seen
