"""FlowAR: a transformer that predicts the next scale of a latent, and a flow head that draws it.

B: images, C: channels, H: side of the latent, P: patch size, K: scales with sides s_1 < ... < s_K = H / P in tokens,
L = sum of s_k^2: tokens of all scales, T: tokens at hand, D: width of the transformer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import silu

from flowgression.errors import InputError, did_you_mean
from flowgression.families.flowar.approximated import put_polynomials
from flowgression.families.flowar.flow_head import FlowHead
from flowgression.families.flowar.outputs import FlowARCache, FlowAROutput, ReadLabels
from flowgression.families.flowar.presets import preset_config
from flowgression.families.flowar.scales import check_scales, default_scales, next_input, pyramid
from flowgression.layers.embeddings import augment_embedder, embed_augment, embed_labels
from flowgression.layers.lowrank_attention import LowRank
from flowgression.layers.modulated_block import ModulatedBlock
from flowgression.layers.modulation import AdaLN
from flowgression.layers.norms import RMSNorm
from flowgression.layers.patches import patchify
from flowgression.layers.rotary import ScaleRotary
from flowgression.layers.scale_attention import AttentionState, ScaleAttention, check_heads
from flowgression.layers.weights import OwnedWeights

ATTENTIONS = ("exact", "bounded", "lowrank")
FLOW_HEAD_WIDTH = 64  # width of an attention head in the released flow heads


class FlowAR(OwnedWeights, ConfigMixin):  # type: ignore[misc]  # both declare config_name
    """FlowAR (arXiv 2412.15205): one class for training (`forward`) and for sampling (`next_semantics`).

    Args:
        sample_size: H, side of the square latent.
        in_channels: C.
        scales: increasing sides in tokens, the last is sample_size / patch_size; None: powers of two and that side.
        hidden_size: D. encoder_depth, decoder_depth: blocks before and after the second position table.
        num_heads: heads of the transformer; their width must be divisible by 4.
        flow_width, flow_depth: width and blocks of the flow head.
        flow_num_heads: heads of the flow head; None: heads of width 64.
        cross_attention: Attn-CrossAttn-MLP blocks in the flow head instead of Spatial-adaLN blocks.
        num_classes: labels are 0 .. num_classes - 1, and num_classes is the null label of guidance.
        patch_size: P; tokens are P x P patches of a map.
        class_dropout_prob: how often training drops the label of an image; only stored here.
        dropout, attention_dropout: of the transformer's branches and of its attention weights, in training.
        path: the path between noise and data that it is trained on: "linear", "gvp" or "vp"; only stored here.
        attention: "exact" softmax; "bounded": exact softmax of logits tau times a cosine, with 0 < tau <
            attention_max_tau learned per head; or "lowrank": the same with a polynomial in place of exp, in time almost
            quadratic in H (FastFlowAR, arXiv 2502.16490). Both in the transformer and in the flow head; they share all
            weights. Narrow heads, of width 8 or 16, make low rank worth it.
        attention_degree: degree of the polynomial of "lowrank", even.
        attention_max_tau: bound in (0, 5] on the logits of "bounded" and "lowrank".
        attention_unit_values: whether these two normalise values to length 1, so that the entries of V are bounded as
            well; None: with "bounded" only.
        average_velocity: the flow head also reads the end of an interval of time, and predicts the velocity averaged
            over it, which one call follows (MeanFlow, arXiv 2505.13447).
        augment_dim: numbers by which training may tell what was done to an image; 0: none.
        approximation: what `approximate` chose, by the name of the layer: degree and half-width of the interval of the
            polynomial that stands in for exp there, or a pair for each head; None: nothing.

    Raises:
        InputError: sizes that do not fit each other.
    """

    _supports_gradient_checkpointing = True
    label_table = "class_embed.weight"  # a row for each class, and that of the null label
    config: Any  # the arguments of the constructor, kept by register_to_config
    head_chunks = 1  # set by enable_head_chunking
    _gradient_checkpointing_func: Any  # set by enable_gradient_checkpointing

    @register_to_config
    def __init__(
        self,
        sample_size: int = 16,
        in_channels: int = 16,
        scales: Sequence[int] | None = None,
        hidden_size: int = 768,
        encoder_depth: int = 6,
        decoder_depth: int = 6,
        num_heads: int = 12,
        flow_width: int = 1024,
        flow_depth: int = 2,
        flow_num_heads: int | None = None,
        cross_attention: bool = False,
        num_classes: int = 1000,
        patch_size: int = 1,
        class_dropout_prob: float = 0.1,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        attention: str = "exact",
        attention_degree: int = 2,
        attention_max_tau: float = 2.0,
        attention_unit_values: bool | None = None,
        path: str = "linear",
        average_velocity: bool = False,
        approximation: Mapping[str, Sequence[Any]] | None = None,
        augment_dim: int = 0,
    ):
        super().__init__()
        chosen = default_scales(sample_size // max(patch_size, 1)) if scales is None else scales
        self.scales = check_scales(chosen, sample_size, patch_size)
        for name in ("in_channels", "encoder_depth", "decoder_depth", "flow_depth", "num_classes"):
            if self.config[name] < 1:
                raise InputError(f"{name} is {self.config[name]}; it must be at least 1.")
        check_heads(hidden_size, num_heads)
        if flow_num_heads is None:
            flow_num_heads = max(flow_width // FLOW_HEAD_WIDTH, 1)
        check_heads(flow_width, flow_num_heads)

        if attention not in ATTENTIONS:
            raise InputError(f"attention is {attention!r}: {did_you_mean(attention, ATTENTIONS)}")
        unit_values = attention == "bounded" if attention_unit_values is None else attention_unit_values
        degree = attention_degree if attention == "lowrank" else None
        lowrank = None if attention == "exact" else LowRank(degree, attention_max_tau, unit_values)

        token_channels = in_channels * patch_size**2
        num_tokens = sum(side**2 for side in self.scales)
        self.class_embed = nn.Embedding(num_classes + 1, hidden_size)
        self.augment_embedder = augment_embedder(augment_dim, hidden_size)
        self.input_proj = nn.Linear(token_channels, hidden_size)
        self.input_norm = RMSNorm(hidden_size)
        self.encoder_position = nn.Parameter(torch.empty(1, num_tokens, hidden_size))
        self.decoder_position = nn.Parameter(torch.empty(1, num_tokens, hidden_size))
        self.semantics_position = nn.Parameter(torch.empty(1, num_tokens, hidden_size))
        self.rotary = ScaleRotary(self.scales, hidden_size // num_heads)

        def blocks(depth: int) -> nn.ModuleList:
            args: dict[str, Any] = {"causal": True, "qkv_bias": True}
            args |= {"attention_dropout": attention_dropout, "dropout": dropout, "lowrank": lowrank}
            return nn.ModuleList(
                ModulatedBlock(ScaleAttention(hidden_size, num_heads, **args), hidden_size, dropout)
                for _ in range(depth)
            )

        self.encoder_blocks = blocks(encoder_depth)
        self.encoder_norm = RMSNorm(hidden_size)
        self.decoder_proj = nn.Linear(hidden_size, hidden_size)
        self.decoder_blocks = blocks(decoder_depth)
        self.decoder_norm = RMSNorm(hidden_size)
        sizes = (token_channels, hidden_size, flow_width, flow_depth, flow_num_heads, cross_attention, lowrank)
        self._add_flow_heads(lambda: FlowHead(self.scales, *sizes, average_velocity))
        self.gradient_checkpointing = False
        self._initialise()
        put_polynomials(self, approximation or {})

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "FlowAR":
        """A new model of a published size, such as "S"; see `presets.py`. Keywords override single values."""
        return cls(**preset_config(name, **overrides))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """torch.compile of both networks in place: the transformer's training pass and the flow head."""
        super().compile(*args, **kwargs)  # type: ignore[misc]
        for head in self.flow_heads:
            head.compile(*args, **kwargs)

    def enable_head_chunking(self, chunks: int) -> None:
        """Compute the flow heads and their loss in training for so many groups of images, one after the other: less
        memory for more time. See `families.flowar.training`.
        """
        self.head_chunks = chunks

    def _add_flow_heads(self, make_head: Callable[[], FlowHead]) -> None:
        """Make the networks of `flow_heads`; a family built on this one may make more than one."""
        self.flow_head = make_head()

    @property
    def flow_heads(self) -> tuple[FlowHead, ...]:
        """The networks that predict the derivatives of x_t by t, the velocity first."""
        return (self.flow_head,)

    def forward(
        self,
        latents: Tensor | None = None,
        class_labels: Tensor | None = None,
        *,
        augment_labels: Tensor | None = None,
        hidden_states: Tensor | None = None,
        return_dict: bool = True,
    ) -> FlowAROutput | tuple[Any, ...]:
        """All scales in one pass, each reading the true coarser ones (teacher forcing).

        Args:
            latents: [B, C, H, H].
            class_labels: [B], int64 in 0 .. num_classes (the last is the null label).
            augment_labels: [B, augment_dim], what was done to the images (`data.augment`); None: nothing.
            hidden_states: latents by the name that diffusers gives them.
            return_dict: return a `FlowAROutput` instead of a tuple (semantics, targets).

        Raises:
            InputError: latents of another shape, or another number of labels.
        """
        latents = hidden_states if latents is None else latents
        if latents is None or class_labels is None:
            raise InputError("give latents (or hidden_states, as diffusers calls them) and class_labels.")
        self._check_latents(latents, class_labels)
        patch = self.config.patch_size
        maps = pyramid(latents, self.scales, patch)
        semantics = self.semantics(maps[:-1], class_labels, augment_labels)
        output = FlowAROutput(semantics=semantics, targets=[patchify(each, patch) for each in maps])
        return output if return_dict else output.to_tuple()

    def semantics(
        self, maps: Sequence[Tensor], class_labels: Tensor, augment_labels: Tensor | None = None
    ) -> list[Tensor]:
        """The semantic maps of the first j + 1 scales, given the maps of the first j, without a cache.

        Args:
            maps: j < K maps, coarse to fine: [B, C, s_k P, s_k P].
            class_labels, augment_labels: as in `forward`.

        Returns:
            j + 1 tensors [B, s_k^2, D].

        Raises:
            InputError: maps of other shapes, or more than K - 1.
        """
        if len(maps) >= len(self.scales):
            raise InputError(f"{len(maps)} maps are given, but no scale follows the last of {len(self.scales)}.")
        for k, each in enumerate(maps):
            self._check_map(k, each, class_labels)
        condition = embed_labels(self.class_embed, class_labels)[:, None]
        if augment_labels is not None:
            condition = condition + embed_augment(self.augment_embedder, augment_labels)[:, None]
        inputs = [self._input_tokens(k, maps[k - 1] if k else None, condition) for k in range(len(maps) + 1)]
        sides = self.scales[: len(inputs)]
        # A block reads the condition itself, so that checkpointing makes its modulations again.
        conditions = (silu(condition),) * len(self._blocks())
        semantics, _ = self._transform(torch.cat(inputs, dim=1), conditions, sides, None)
        return list(semantics.split([side**2 for side in sides], dim=1))

    def next_semantics(
        self, previous: Tensor | None, class_labels: Tensor | ReadLabels, cache: FlowARCache
    ) -> tuple[Tensor, FlowARCache]:
        """The semantic map of the next scale, given the map of the last one and the memory of all before it.

        Args:
            previous: map of scale `cache.scale - 1`, [B, C, s P, s P], or those of the first B / m images where the
                others' are the same ones; None at the first scale.
            class_labels: [B], as in `forward`, or what `read_labels` made of them.
            cache: from `new_cache` or from the last call, of the same batch size.

        Returns:
            semantics [B, s_k^2, D] and the cache for the next call.

        Raises:
            InputError: a map of another scale, a cache of another batch size, or no scale left.
        """
        k = cache.scale
        if k >= len(self.scales):
            raise InputError(f"all {len(self.scales)} scales are done; start again with a new cache.")
        read = self.read_labels(class_labels) if isinstance(class_labels, Tensor) else class_labels
        if k:
            self._check_map(k - 1, previous, read.condition, shared=True)
        tokens = self._input_tokens(k, previous, read.condition)
        semantics, layers = self._transform(tokens, read.blocks, self.scales[k : k + 1], cache.layers)
        return semantics, FlowARCache(layers, k + 1)

    def read_labels(self, class_labels: Tensor) -> ReadLabels:
        """What the transformer makes of class labels [B], the same at every scale."""
        condition = embed_labels(self.class_embed, class_labels)[:, None]
        activated = silu(condition)
        return ReadLabels(condition, tuple(block.read(activated) for block in self._blocks()))

    def new_cache(
        self, batch_size: int, *, max_scales: int | None = None, dtype: torch.dtype | None = None
    ) -> FlowARCache:
        """An empty cache for `batch_size` images, allocated once for `max_scales` scales (default: all).

        Keys and values are kept in `dtype` (default: the model's); low-rank states are always float32.
        """
        return FlowARCache(
            tuple(
                block.attn.new_state(batch_size, self._tokens(max_scales), dtype or self.dtype)
                for block in self._blocks()
            )
        )

    def cache_bytes(self, batch_size: int, *, max_scales: int | None = None, dtype: torch.dtype | None = None) -> int:
        """Memory of `new_cache` with the same arguments once a scale was read.

        With exact attention 2 * blocks * B * L * D numbers, with low rank 4 * blocks * B * A * r * (d + 1) bytes, where
        d is the width and A the number of heads, and r = C(d + degree, degree).
        """
        sizes = (self._tokens(max_scales), dtype or self.dtype)
        return sum(block.attn.state_bytes(batch_size, *sizes) for block in self._blocks())

    def _blocks(self) -> list[Any]:
        return [*self.encoder_blocks, *self.decoder_blocks]

    def _tokens(self, max_scales: int | None) -> int:
        return sum(side**2 for side in self.scales[:max_scales])

    def _input_tokens(self, k: int, previous: Tensor | None, condition: Tensor) -> Tensor:
        """What scale k reads: the class at the first scale, else the resized map before it. [B, s_k^2, D]."""
        if k == 0 or previous is None:
            return condition.expand(-1, self.scales[0] ** 2, -1)
        patch = self.config.patch_size
        resized = next_input(previous, self.config.sample_size, self.scales[k] * patch)
        return self.input_proj(patchify(resized, patch).to(self.dtype))

    def _transform(
        self,
        tokens: Tensor,
        conditions: Sequence[Any],
        sides: Sequence[int],
        caches: Sequence[AttentionState] | None,
    ) -> tuple[Tensor, tuple[AttentionState, ...]]:
        """Input tokens [B, T, D] of the scales `sides` and each block's condition -> semantics, extended caches."""
        start = sum(side**2 for side in self.scales[: self.scales.index(sides[0])])
        here = slice(start, start + tokens.shape[1])
        rotation, lengths = self.rotary(sides), [side**2 for side in sides]
        extended: list[Any] = []

        def run(blocks: nn.ModuleList, x: Tensor) -> Tensor:
            for block in blocks:
                cache, condition = None if caches is None else caches[len(extended)], conditions[len(extended)]
                if self.gradient_checkpointing and torch.is_grad_enabled():
                    x, cache = self._gradient_checkpointing_func(block, x, condition, rotation, lengths, cache)
                else:
                    x, cache = block(x, condition, rotation, lengths, cache)
                extended.append(cache)
            return x

        x = self.input_norm(tokens + self.encoder_position[:, here])
        x = self.encoder_norm(run(self.encoder_blocks, x))
        x = self.decoder_proj(x) + self.decoder_position[:, here]
        x = self.decoder_norm(run(self.decoder_blocks, x))
        return x + self.semantics_position[:, here], tuple(extended)

    def _check_map(self, k: int, given: Tensor | None, labels: Tensor, *, shared: bool = False) -> None:
        side = self.scales[k] * self.config.patch_size
        expected = (len(labels), self.config.in_channels, side, side)
        rows = 0 if given is None or not len(given) else len(given)
        fits = rows and (len(labels) % rows == 0 if shared else len(labels) == rows)
        if given is None or not fits or tuple(given.shape[1:]) != expected[1:]:
            got = None if given is None else list(given.shape)
            raise InputError(f"the map of scale {k + 1} must be {list(expected)} for these labels; got {got}.")

    def _check_latents(self, latents: Tensor, class_labels: Tensor) -> None:
        side = self.config.sample_size
        expected = (self.config.in_channels, side, side)
        if latents.ndim != 4 or tuple(latents.shape[1:]) != expected:
            raise InputError(f"latents must be [B, {', '.join(map(str, expected))}]; got {tuple(latents.shape)}.")
        if tuple(class_labels.shape) != (len(latents),):
            raise InputError(f"class_labels must be [{len(latents)}], one per image; got {tuple(class_labels.shape)}.")

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for table in (self.class_embed.weight, self.encoder_position, self.decoder_position, self.semantics_position):
            nn.init.normal_(table, std=0.02)
        if self.augment_embedder is not None:
            nn.init.zeros_(self.augment_embedder.weight)
        for head in self.flow_heads:
            head.initialise()
        # Zero at the start: every modulated branch is closed (adaLN-Zero).
        for module in self.modules():
            if isinstance(module, AdaLN):
                for parameter in module.parameters():
                    nn.init.zeros_(parameter)
