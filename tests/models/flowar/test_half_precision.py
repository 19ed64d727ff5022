"""Training under bfloat16: normalisation, softmax and loss stay in float32, so hard inputs do no harm."""

import torch

from flowgression.training.flowar_losses import flowar_losses
from tests.models.flowar.cases import latents_and_labels, small_model


def hard_latents(batch_size: int) -> torch.Tensor:
    """Images of norms from 1e-4 to 1e4, one constant, one with a single huge value."""
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(batch_size, 2, 4, 4, generator=generator)
    latents *= torch.logspace(-4, 4, batch_size)[:, None, None, None]
    latents[1] = 3.0
    latents[2, 0, 0, 0] = 1e5
    return latents


def test_loss_and_gradients_stay_finite_for_300_steps() -> None:
    model = small_model("powers", encoder_depth=1, flow_depth=1, cross_attention=True).train()
    latents, labels = hard_latents(8), torch.arange(8) % 5
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    norms = []
    for _ in range(300):
        times = torch.rand(8, 3, generator=generator)
        noise = torch.randn(8, 21, 2, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            losses, loss = flowar_losses(model, latents, labels, times, noise)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0, error_if_nonfinite=True))
        assert losses.isfinite().all()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.stack(norms).isfinite().all()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


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
