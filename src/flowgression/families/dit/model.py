"""The transformer that ARFlow and SiT share; they differ in the attention and in the shape of their input.

C: channels, H W: size, P: patch size, N = (H / P)(W / P) tokens, D: width. `...` is [B] in SiT, [B, S] in ARFlow.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn.functional import silu

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.paths import get_path
from flowgression.layers.adaln_zero import AdaLNZeroBlock, BlockCondition
from flowgression.layers.embeddings import (
    LabelEmbedder,
    TimestepEmbedder,
    augment_embedder,
    embed_augment,
    sincos_position_table,
)
from flowgression.layers.mlp import check_dropout
from flowgression.layers.modulation import AdaLN, FinalLayer, match_rows
from flowgression.layers.patches import PatchEmbed, unpatchify
from flowgression.layers.refine import Refine
from flowgression.layers.weights import OwnedWeights, compute_dtype

PREDICTION_TYPES = ("velocity", "sample")
LEAST_SIGMA = 1e-3
"""Nearer to the data a predicted image is turned into a velocity as if sigma were this much, which keeps it finite."""


class DiffusionTransformer(OwnedWeights, ConfigMixin):  # type: ignore[misc]  # both declare config_name
    """Patches, positions, conditions and blocks around an attention. Parameter names are the released ones."""

    _supports_gradient_checkpointing = True
    label_table = "y_embedder.embedding_table.weight"  # a row for each class, and that of the null label
    config: Any  # the arguments of the constructor, kept by register_to_config
    _gradient_checkpointing_func: Any  # set by enable_gradient_checkpointing

    def _build(self, make_attention: Callable[[], nn.Module]) -> None:
        """Make all parts, as the arguments of the constructor say, which `config` holds."""
        c = self.config
        self.size = _checked_size(c.sample_size, c.patch_size)
        self.grid = (self.size[0] // c.patch_size, self.size[1] // c.patch_size)
        if c.refine_width < 0:
            raise InputError(f"refine_width is {c.refine_width}; it must be 0 (no refinement) or more.")
        check_dropout(c.dropout)
        for name in ("depth", "num_classes", "in_channels"):
            if c[name] < 1:
                raise InputError(f"{name} is {c[name]}; it must be at least 1.")
        if c.prediction_type not in PREDICTION_TYPES:
            known = did_you_mean(c.prediction_type, PREDICTION_TYPES)
            raise InputError(f"prediction_type {c.prediction_type!r} is unknown: {known}")
        self._path = get_path(c.path)
        self._predicts_data = c.prediction_type == "sample"
        self.x_embedder = PatchEmbed(c.patch_size, c.in_channels, c.hidden_size)
        self.t_embedder = TimestepEmbedder(c.hidden_size)
        self.interval_embedder = TimestepEmbedder(c.hidden_size) if c.average_velocity else None
        self.y_embedder = LabelEmbedder(c.num_classes, c.hidden_size)
        self.augment_embedder = augment_embedder(c.augment_dim, c.hidden_size)
        blocks = (AdaLNZeroBlock(c.hidden_size, make_attention(), c.mlp_ratio, c.dropout) for _ in range(c.depth))
        self.blocks = nn.ModuleList(blocks)
        out_channels = c.in_channels * (2 if c.learn_sigma else 1)
        self.final_layer = FinalLayer(c.hidden_size, c.patch_size**2 * out_channels)
        self.refine = Refine(c.in_channels, c.refine_width) if c.refine_width else None
        self.register_buffer("pos_embed", sincos_position_table(c.hidden_size, self.grid), persistent=False)
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
        # Zero at the start: every block is the identity and the output is 0 (adaLN-Zero).
        zeros: list[nn.Module] = [module for module in self.modules() if isinstance(module, AdaLN)]
        if self.augment_embedder is not None:
            zeros.append(self.augment_embedder)
        for module in (*zeros, self.final_layer.linear):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
        if self.refine is not None:
            self.refine.initialise()
        if self.interval_embedder is not None:  # at first, and so behind weights without it, averages are velocities
            for parameter in self.interval_embedder.mlp[2].parameters():
                nn.init.zeros_(parameter)

    @apply_forward_hook
    def prepare(self, t: Tensor, class_labels: Tensor, r: Tensor | None = None) -> Tensor:
        """All that the network makes of times and labels alone, for calls of many images and steps.

        Args:
            t: [n] in [0, 1]. class_labels: [R], int64 in 0 .. num_classes, or weights [R, num_classes + 1] of mixtures.
            r: [n], ends of intervals, of a model with `average_velocity`; None: t itself.

        Returns:
            [n, R, F]. A call takes the rows of one time as `prepared`, [R, F] in any choice and order of rows.
        """
        c = self._embedded_times(t, r)[:, None] + self.y_embedder(class_labels)
        activated = silu(c)
        parts = [part for block in self._blocks() for part in block.read(c, activated)]
        parts += self.final_layer.read(activated)
        if self._predicts_data:
            factors = torch.stack(self._path.data_coefficients(t, LEAST_SIGMA), dim=-1).to(c.dtype)  # [n, 2]
            parts.append(factors[:, None].expand(*c.shape[:-1], -1))
        return torch.cat(parts, dim=-1)

    def _embedded_times(self, t: Tensor, r: Tensor | None) -> Tensor:
        """t [...] and the length of the interval to r [...] as a condition [..., D]."""
        if self.interval_embedder is None:
            if r is not None:
                raise InputError("r ends an interval, and this model predicts velocities (average_velocity=False).")
            return self.t_embedder(t)
        return self.t_embedder(t) + self.interval_embedder(torch.zeros_like(t) if r is None else r - t)

    @property
    def prepared_sizes(self) -> list[int]:
        """The widths of the parts that `prepare` puts side by side; F is their sum."""
        width = self.final_layer.linear.in_features
        of_blocks = [size for block in self._blocks() for size in [width] * 6 + [block.attn.read_size]]
        return of_blocks + [width] * 2 + [2] * self._predicts_data

    def _blocks(self) -> list[Any]:
        return list(self.blocks)

    def _prepared_parts(
        self, prepared: Tensor
    ) -> tuple[list[BlockCondition], tuple[Tensor, ...], tuple[Tensor, Tensor] | None]:
        """prepared [..., 1, F] -> what each block and the final layer read, and (a, b) of `_as_velocity`."""
        parts = prepared.split(self.prepared_sizes, dim=-1)
        size = len(BlockCondition._fields)
        last = size * len(self.blocks)
        blocks = [BlockCondition(*parts[i : i + size]) for i in range(0, last, size)]
        factors = None
        if self._predicts_data:
            a, b = parts[-1].squeeze(-2).unbind(-1)
            factors = (a, b)
        return blocks, parts[last : last + 2], factors

    def _velocity(
        self,
        x: Tensor,
        t: Tensor | None,
        class_labels: Tensor | None,
        states: list[Any] | None,
        return_states: bool,
        prepared: Tensor | None,
        r: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> tuple[Tensor, list[Any]]:
        """x [..., C, H, W], t [...], class_labels broadcastable to t -> velocity [..., C, H, W], a state per block.

        Instead of t and labels `prepared` [..., F], of as many rows as x or a multiple of them. augment_labels: [B, A].
        """
        conditions: Sequence[Any]
        factors: tuple[Tensor, Tensor] | None = None
        if prepared is not None:
            conditions, final, factors = self._prepared_parts(prepared[..., None, :])
        else:
            assert t is not None  # or the conditions were refused
            c = self._embedded_times(t, r) + self.y_embedder(class_labels)
            if augment_labels is not None:
                told = embed_augment(self.augment_embedder, augment_labels)
                c = c + told.unflatten(0, (-1, *(1,) * (c.ndim - 2)))
            c = c[..., None, :]
            activated = silu(c)
            conditions, final = [(c, activated)] * len(self.blocks), self.final_layer.read(activated)
            if self._predicts_data:
                assert t is not None
                factors = self._path.data_coefficients(t, LEAST_SIGMA)
        leading = x.shape[:-3]
        # Under autocast the patches are half precision and the weights are not: the residual stream stays float32.
        tokens = self.x_embedder(x.flatten(0, -4)).to(compute_dtype(self.x_embedder.proj))
        # from_pretrained(dtype=...) converts weights, not this table.
        tokens = (tokens + self.pos_embed.to(tokens.dtype)).unflatten(0, leading)
        if prepared is not None:
            tokens = match_rows(tokens, prepared)
        new_states = []
        for i, (block, c) in enumerate(zip(self.blocks, conditions, strict=True)):
            state = None if states is None else states[i]
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens, state = self._gradient_checkpointing_func(block, tokens, c, state, return_states)
            else:
                tokens, state = block(tokens, c, state, return_states)
            new_states.append(state)
        leading = tokens.shape[:-2]
        patches = self.final_layer(tokens, *final).flatten(0, -3)
        image = unpatchify(patches, self.grid, self.config.patch_size)
        # With learn_sigma the second half of the channels is unused; it is there so that released weights load.
        output = image[:, : self.config.in_channels]
        if self.refine is not None:
            # As with the patches, what the network is made of decides the dtype, not autocast.
            output = self.refine(output, match_rows(x.flatten(0, -4), output).to(output.dtype)).to(output.dtype)
        output = output.unflatten(0, leading)
        return (output if factors is None else _as_velocity(output, x, *factors)), new_states

    def _check_conditions(
        self, x: Tensor, t: Tensor | None, class_labels: Tensor | None, prepared: Tensor | None, r: Tensor | None
    ) -> None:
        """InputError unless there are times [...] and labels [B], or prepared rows, that fit x [..., C, H, W]."""
        if r is not None and (t is None or r.shape != t.shape):
            raise InputError(
                f"r must have the shape of t; got {tuple(r.shape)} and {None if t is None else tuple(t.shape)}."
            )
        rows, times = x.shape[0], tuple(x.shape[:-3])  # len(x) would be a constant in an exported graph
        if prepared is None:
            if (
                t is None
                or class_labels is None
                or tuple(t.shape) != times
                or tuple(class_labels.shape) not in (times[:1], times)
            ):
                got = [None if each is None else tuple(each.shape) for each in (t, class_labels)]
                raise InputError(
                    f"for x of shape {tuple(x.shape)}, t must be {list(times)} and class_labels {list(times[:1])}; "
                    f"got {got[0]} and {got[1]}."
                )
        elif t is not None or class_labels is not None:
            raise InputError("prepared holds times and labels; t and class_labels cannot be combined with it.")
        elif (
            prepared.shape[1:-1] not in ((), times[1:])
            or prepared.shape[-1] != sum(self.prepared_sizes)
            or len(prepared) % max(rows, 1)
        ):
            raise InputError(
                f"prepared must be {[rows, *times[1:], sum(self.prepared_sizes)]}, or of a multiple of these rows, as "
                f"`prepare` makes them; got {tuple(prepared.shape)}."
            )

    def _inputs(
        self, x: Tensor | None, t: Tensor | None, hidden_states: Tensor | None, timestep: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Images and times by our names or by diffusers' own; a time [] or [B] counts for all images it can.

        Raises:
            InputError: both names of one, or no images.
        """
        for ours, theirs, names in ((x, hidden_states, "x and hidden_states"), (t, timestep, "t and timestep")):
            if ours is not None and theirs is not None:
                raise InputError(f"{names} are two names of one argument; give one of them.")
        x, t = (hidden_states if x is None else x), (timestep if t is None else t)
        if x is None:
            raise InputError("give the noisy images: x, or hidden_states as diffusers calls them.")
        times = x.shape[:-3]
        if t is not None and t.ndim < len(times) and tuple(t.shape) == tuple(times[: t.ndim]):
            t = t.reshape(*t.shape, *(1,) * (len(times) - t.ndim)).expand(times)
        return x, t

    def _check_images(self, x: Tensor, leading: str) -> None:
        expected = (self.config.in_channels, *self.size)
        dims = len(leading.split(", ")) + 3
        if x.ndim != dims or tuple(x.shape[-3:]) != expected:
            shape = f"[{leading}, {', '.join(map(str, expected))}]"
            raise InputError(f"x must be {shape} for this model; got {tuple(x.shape)}.")


def _as_velocity(data: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a x1 + b x for predicted images x1 of which several may belong to one row of x; a, b as `data_coefficients`."""
    a, b = (each.reshape(*each.shape, *(1,) * (data.ndim - each.ndim)) for each in (a, b))
    return (a * data + b * match_rows(x, data)).to(data.dtype)


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
