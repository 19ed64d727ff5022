"""Training under bfloat16: normalisation, softmax and loss stay in float32, so hard inputs do no harm."""

import torch

from flowgression import FlowAR
from flowgression.families.flowar.training import flowar_losses
from tests.families.flowar.cases import latents_and_labels, small_model

SIZE = {
    "sample_size": 2, "in_channels": 2, "scales": (1, 2), "num_classes": 4, "hidden_size": 16, "encoder_depth": 1,
    "decoder_depth": 1, "num_heads": 2, "flow_width": 16, "flow_depth": 1, "flow_num_heads": 2,
}  # fmt: skip


def hard_latents() -> torch.Tensor:
    """[4, 2, 2, 2]: a tiny, a constant and a huge image, and one with a single huge value."""
    latents = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(2))
    latents *= torch.tensor([1e-4, 0.0, 1e4, 1.0])[:, None, None, None]
    latents[1] = 3.0
    latents[3, 0, 0, 0] = 1e5
    return latents


def test_loss_and_gradients_stay_finite_for_300_steps() -> None:
    torch.manual_seed(0)
    model = FlowAR(**SIZE, cross_attention=True, dropout=0.1, attention_dropout=0.1).train()
    latents, labels = hard_latents(), torch.arange(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    for _ in range(300):
        with torch.autocast("cpu", torch.bfloat16):
            losses, loss = flowar_losses(model, latents, labels, torch.rand(4, 2), torch.randn(4, 5, 2))
        loss.backward()
        assert losses.isfinite().all()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(parameter.abs().max() > 0 for parameter in model.parameters())  # the zeros of the start have moved


def test_autocast_changes_the_loss_to_rounding_only() -> None:
    model = small_model("six")
    latents, labels = latents_and_labels(model)
    times, noise = torch.rand(3, 4), torch.randn(3, 50, 3)
    with torch.no_grad():
        exact, _ = flowar_losses(model, latents, labels, times, noise)
        with torch.autocast("cpu", torch.bfloat16):
            rounded, loss = flowar_losses(model, latents, labels, times, noise)
    assert rounded.dtype == loss.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.03, atol=0)
