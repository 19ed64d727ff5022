"""Looking at queries, keys and values inside a FlowAR while it reads images, layer by layer.

B: images, A: heads, d: width of a head, L: tokens of all scales, C: channels of a token.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgression.families.flowar.model import FlowAR


class Observed(NamedTuple):
    """The inputs of one attention, all scales at once.

    name: the layer's name in the model, such as "encoder_blocks.0.attn".
    attention: what is called with them.
    q, k, v: [B, A, L, d], after the rotary positions; lengths: tokens of each scale, coarse to fine.
    """

    name: str
    attention: Any
    q: Tensor
    k: Tensor
    v: Tensor
    lengths: tuple[int, ...]


def attention_names(model: FlowAR) -> list[str]:
    """The names of all layers with attention, in the order in which a pass meets them."""
    layers = [(name, layer) for name, layer in model.named_modules() if name]  # without the model itself
    return [name for name, layer in layers if hasattr(getattr(layer, "attention", None), "logit_factors")]


@torch.no_grad()
def observe(
    model: FlowAR,
    latents: Tensor,
    class_labels: Tensor,
    visit: Callable[[Observed], None],
    *,
    generator: torch.Generator | None = None,
) -> None:
    """One teacher-forced pass of the transformer and one of the flow head, with `visit` called at every attention.

    The flow head reads x_t = t x + (1 - t) e at uniformly drawn times, as in training; one per image and scale.

    Args:
        latents: [B, C', H, H] and class_labels: [B], as in `FlowAR.forward`.
        visit: what it is given must not be changed, and takes memory as long as it is kept.
        generator: of the times and the noise e.

    Raises:
        InputError: latents of another shape, or another number of labels.
    """
    network: Any = model  # nn.Module types its children as Tensor | Module
    with observing(model, visit):
        out = network(latents, class_labels)
        data = torch.cat(out.targets, dim=1)
        lengths = torch.tensor([target.shape[1] for target in out.targets])
        level = torch.rand(len(data), len(lengths), generator=generator).to(data.device)  # of noise, 1 - t
        noise = torch.randn(data.shape, generator=generator).to(data)
        x_t = torch.lerp(data, noise, level.repeat_interleave(lengths.to(data.device), dim=1)[..., None].to(data.dtype))
        network.flow_head(x_t, 1 - level, torch.cat(out.semantics, dim=1), sides=model.scales)


@contextmanager
def observing(model: FlowAR, visit: Callable[[Observed], None]) -> Iterator[None]:
    """Within, the model is in evaluation mode and `visit` is called at every attention."""
    training = model.training
    hooks = [
        model.get_submodule(f"{name}.attention").register_forward_pre_hook(_hook(name, visit))
        for name in attention_names(model)
    ]
    try:
        model.eval()
        yield
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()


def _hook(name: str, visit: Callable[[Observed], None]) -> Callable[..., None]:
    def hook(module: Any, inputs: tuple[Any, ...]) -> None:
        q, k, v, lengths = inputs[:4]
        visit(Observed(name, module, q, k, v, tuple(lengths)))

    return hook
