"""ARFlow as one graph, with its state.

B: images, C H W: channels and size, L: blocks, A: heads, d: head width, N: tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn

from flowgression.errors import InputError
from flowgression.export.graph import Exported, Graph, stable_logsigmoid
from flowgression.families.dit.export import example_inputs, interval_ends
from flowgression.layers.hybrid_attention import GATE_TEMPERATURE


def exported(model: Any) -> Exported:
    """The graph of an ARFlow. Raises InputError for one whose state is no matrix."""
    if model.config.context != "hybrid":
        raise InputError(f"an ARFlow with context={model.config.context!r} has no export; only 'hybrid' has.")
    blocks, heads = len(model.blocks), model.config.num_heads
    d = model.config.hidden_size // heads
    inputs = example_inputs(model) | {"state": torch.randn(2, blocks, heads, d, d)} | interval_ends(model)
    graph = Graph(VelocityWithState(model), inputs, ["velocity", "next_state", "log_decay"])
    return Exported({"velocity": graph}, states={"state": "next_state"})


class VelocityWithState(nn.Module):
    """x, t, class_labels, state [B,L,A,d,d] and, with average velocities, r [B] -> velocity, the next state, and
    log-decay [B,L,A], its mean over tokens.

    A state of zeros is that of no earlier image.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(
        self, x: Tensor, t: Tensor, class_labels: Tensor, state: Tensor, r: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not self.model.config.decay:
            velocity, states = self._call(x, t, class_labels, state, r)
            return velocity, states, torch.zeros_like(state[..., 0, 0])
        gates: list[Tensor] = []  # of each block in turn: the projection of the tokens, then that of the condition
        hooks = [
            block.attn.gt_proj.register_forward_hook(lambda module, given, found: gates.append(found))
            for block in self.model.blocks
        ]
        velocity, states = self._call(x, t, class_labels, state, r)
        for hook in hooks:
            hook.remove()
        decays = [
            stable_logsigmoid(tokens[:, 0] + condition[:, 0]).mean(1) / GATE_TEMPERATURE
            for tokens, condition in zip(gates[::2], gates[1::2], strict=True)
        ]
        return velocity, states, torch.stack(decays, 1)

    def _call(
        self, x: Tensor, t: Tensor, class_labels: Tensor, state: Tensor, r: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ends = None if r is None else r[:, None]
        output = self.model(x[:, None], t[:, None], class_labels, list(state.unbind(1)), r=ends)
        return output.velocity[:, 0], torch.stack(output.state, 1)
