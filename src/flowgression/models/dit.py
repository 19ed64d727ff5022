"""The transformer that ARFlow and SiT share; they differ in the attention and in the shape of their input.

C: channels, H W: size, P: patch size, N = (H / P)(W / P) tokens, D: width. `...` is [B] in SiT, [B, S] in ARFlow.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from torch import Tensor, nn

from flowgression.errors import InputError
from flowgression.layers.adaln_zero import AdaLNZeroBlock
from flowgression.layers.embeddings import LabelEmbedder, TimestepEmbedder, sincos_position_table
from flowgression.layers.modulation import AdaLN, FinalLayer
from flowgression.layers.patches import PatchEmbed, unpatchify
from flowgression.models.weights import OwnedWeights


class DiffusionTransformer(OwnedWeights, ConfigMixin):  # type: ignore[misc]  # both declare config_name
    """Patches, positions, conditions and blocks around an attention. Parameter names are the released ones."""

    _supports_gradient_checkpointing = True
    config: Any  # the arguments of the constructor, kept by register_to_config
    _gradient_checkpointing_func: Any  # set by enable_gradient_checkpointing

    def _build(
        self,
        make_attention: Callable[[], nn.Module],
        *,
        sample_size: int | tuple[int, int],
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        depth: int,
        mlp_ratio: float,
        num_classes: int,
        learn_sigma: bool,
    ) -> None:
        self.size = _checked_size(sample_size, patch_size)
        self.grid = (self.size[0] // patch_size, self.size[1] // patch_size)
        for name, value in (("depth", depth), ("num_classes", num_classes), ("in_channels", in_channels)):
            if value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1.")
        out_channels = in_channels * (2 if learn_sigma else 1)
        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size)
        self.blocks = nn.ModuleList(AdaLNZeroBlock(hidden_size, make_attention(), mlp_ratio) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, patch_size**2 * out_channels)
        self.register_buffer("pos_embed", sincos_position_table(hidden_size, self.grid), persistent=False)
        self.gradient_checkpointing = False
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.flatten(1))
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for parameter in self.t_embedder.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        # Zero at the start: every block is the identity and the velocity is 0 (adaLN-Zero).
        zeros = [module for module in self.modules() if isinstance(module, AdaLN)]
        for module in (*zeros, self.final_layer.linear):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)

    def _velocity(
        self, x: Tensor, t: Tensor, class_labels: Tensor, states: list[Any] | None, return_states: bool
    ) -> tuple[Tensor, list[Any]]:
        """x [..., C, H, W], t [...], class_labels broadcastable to t -> velocity [..., C, H, W], a state per block."""
        leading = x.shape[:-3]
        c = self.t_embedder(t) + self.y_embedder(class_labels)
        c = c[..., None, :]
        # Under autocast the patches are half precision and the weights are not: the residual stream stays float32.
        tokens = self.x_embedder(x.flatten(0, -4)).to(self.x_embedder.proj.weight.dtype)
        # from_pretrained(dtype=...) converts weights, not this table.
        tokens = (tokens + self.pos_embed.to(tokens.dtype)).unflatten(0, leading)
        new_states = []
        for i, block in enumerate(self.blocks):
            state = None if states is None else states[i]
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens, state = self._gradient_checkpointing_func(block, tokens, c, state, return_states)
            else:
                tokens, state = block(tokens, c, state, return_states)
            new_states.append(state)
        patches = self.final_layer(tokens, c).flatten(0, -3)
        image = unpatchify(patches, self.grid, self.config.patch_size)
        # With learn_sigma the second half of the channels is unused; it is there so that released weights load.
        return image[:, : self.config.in_channels].unflatten(0, leading), new_states

    def _check_images(self, x: Tensor, leading: str) -> None:
        expected = (self.config.in_channels, *self.size)
        dims = len(leading.split(", ")) + 3
        if x.ndim != dims or tuple(x.shape[-3:]) != expected:
            shape = f"[{leading}, {', '.join(map(str, expected))}]"
            raise InputError(f"x must be {shape} for this model; got {tuple(x.shape)}.")


def _checked_size(sample_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else tuple(sample_size)
    if patch_size < 1:
        raise InputError(f"patch_size is {patch_size}; it must be at least 1.")
    if min(height, width) < patch_size:
        raise InputError(
            f"an image of {height} x {width} is smaller than one patch of {patch_size} x {patch_size}; "
            "use larger images or a smaller patch_size."
        )
    if height % patch_size or width % patch_size:
        raise InputError(
            f"sample_size {height} x {width} is not divisible by patch_size {patch_size}; "
            "choose a patch_size that divides both sides."
        )
    return height, width
