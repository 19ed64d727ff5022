"""ARFlow: a flow transformer that reads several images of one class in order of falling noise.

B: sequences, S: images of a sequence, C: channels, H W: size, D: width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.families.arflow.presets import preset_config
from flowgression.families.dit.model import DiffusionTransformer
from flowgression.layers.hybrid_attention import HybridAttention
from flowgression.ops.hybrid_linear import CONTEXTS
from flowgression.ops.hybrid_linear.kinds import accumulation_dtype, has_constant_state


@dataclass
class ARFlowOutput(BaseOutput):
    """What one call of ARFlow gives.

    velocity: [B, S, C, H, W], the predicted derivative of x_t by t (x1 - x0 on the linear path) of every image.
    state: what the images leave for those that follow, one entry per block. Pass it to the next call as it is.
    """

    velocity: Tensor
    state: list[Any]

    @property
    def sample(self) -> Tensor:
        """velocity, by diffusers' name for what a transformer gives."""
        return self.velocity


class ARFlow(DiffusionTransformer):
    """ARFlow (arXiv 2501.16085): one class for training and for sampling.

    In training a call sees a whole sequence, ordered by rising t (noisier images first). In sampling it sees one
    image and the state that the earlier denoising steps left. Both compute the same. Nothing is stored in the
    module between calls.

    Args:
        sample_size: side of the square input, or (H, W); a multiple of `patch_size`.
        patch_size: P. in_channels: C. hidden_size: D, divisible by 4 and by `num_heads`. depth: blocks.
        mlp_ratio: width of the MLP over D.
        num_classes: labels are 0 .. num_classes - 1, and num_classes is the null label of guidance.
        class_dropout_prob: how often training drops the label of a sequence; only stored here.
        context: what an image sees of the images before it: "hybrid" (the paper's), "full" (softmax attention to
            them all), "linear" (linear attention everywhere) or "none".
        path: the path between noise and data that it is trained on: "linear", "gvp" or "vp"; only stored here.
        sequence_length: images of a training sequence; only stored here. None: unknown.
        clean: mean share of a training sequence's images that had no noise and came first; only stored here. Above 0,
            examples are read without noise.
        decay: whether the state of earlier images fades by the model's gates, as in the paper; False: log-decay 0, so
            that "hybrid" and "linear" sum over all earlier tokens alike. No other context has a decay to leave out.
        prediction_type: what the network's last layer gives: "velocity", or "sample", the image x1, from which a call
            makes the velocity ("Back to Basics", arXiv 2511.13720): large patches then need no wide network.
        refine_width: channels inside two convolutions that smooth the seams of patches; 0: none.
        average_velocity: the model also reads r, the end of an interval from t on, and predicts the velocity averaged
            over it (MeanFlow, arXiv 2505.13447), by which one call crosses the interval; see `objective: meanflow`.
        dropout: share of the output of each branch of a block that training drops.
        augment_dim: numbers by which training may tell what was done to an image; 0: none.
        learn_sigma: keep a second, unused half of the output channels, as the released weights have.

    Raises:
        InputError: sizes that do not fit each other, or an unknown context.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 18,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        class_dropout_prob: float = 0.1,
        context: str = "hybrid",
        learn_sigma: bool = True,
        path: str = "linear",
        sequence_length: int | None = None,
        decay: bool = True,
        prediction_type: str = "velocity",
        clean: float = 0.0,
        refine_width: int = 0,
        average_velocity: bool = False,
        dropout: float = 0.0,
        augment_dim: int = 0,
    ):
        super().__init__()
        if context not in CONTEXTS:
            raise InputError(f"context {context!r} is unknown: {did_you_mean(context, CONTEXTS)}")
        if not decay and not has_constant_state(context):
            raise InputError(f"context {context!r} has no decay; leave decay=False out.")
        self._build(lambda: HybridAttention(hidden_size, num_heads, context, decay))

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "ARFlow":
        """A new model of a published size, such as "XL/2"; see `presets.py`. Keywords override single values."""
        return cls(**preset_config(name, **overrides))

    def new_state(self, batch_size: int) -> list[Tensor] | None:
        """What a sequence finds at its start: states of zeros, where they have a constant size; None elsewhere.

        A call with None computes the same.
        """
        if not has_constant_state(self.config.context):
            return None
        heads = self.config.num_heads
        width = self.config.hidden_size // heads
        kind = accumulation_dtype(self.pos_embed.to(self.dtype))
        return [torch.zeros(batch_size, heads, width, width, dtype=kind, device=self.device) for _ in self.blocks]

    def forward(
        self,
        x: Tensor | None = None,
        t: Tensor | None = None,
        class_labels: Tensor | None = None,
        state: list[Any] | None = None,
        *,
        return_state: bool = True,
        r: Tensor | None = None,
        augment_labels: Tensor | None = None,
        prepared: Tensor | None = None,
        hidden_states: Tensor | None = None,
        timestep: Tensor | None = None,
        return_dict: bool = True,
    ) -> ARFlowOutput | tuple[Any, ...]:
        """Predict the velocity of every image of a sequence.

        Args:
            x: [B, S, C, H, W], the noisy images, S >= 1, in order of rising t.
            t: [B, S], or [B] or [] for all images, in [0, 1]; 0 is noise, 1 is data.
            class_labels: [B], int64 in 0 .. num_classes (the last is the null label); or [B, S], one for each image.
            state: `ARFlowOutput.state` of the call on the images before these; None at the start.
            return_state: False leaves out the new state (a None per block), as in training, where no image follows.
            r: [B, S], t <= r <= 1: of a model with `average_velocity`, the end of the interval of each image; None: t.
            augment_labels: [B, augment_dim], what was done to all images of a sequence (`data.augment`); None: nothing.
            prepared: rows of `prepare` instead of t and class_labels, [R, S, F], or [R, F] where all images of a
                sequence have one time. R is B or a multiple mB of it: velocity and state have R rows, of the same
                images m times.
            hidden_states, timestep: x and t by the names that diffusers gives them.
            return_dict: return an `ARFlowOutput` instead of a tuple (velocity, state).

        Raises:
            InputError: shapes that do not fit the model or each other, or an empty sequence.
        """
        x, t = self._inputs(x, t, hidden_states, timestep)
        self._check_images(x, "B, S")
        if x.shape[1] == 0:
            raise InputError("the sequence holds no image (S = 0); give at least one.")
        self._check_conditions(x, t, class_labels, prepared, r)
        if state is not None and len(state) != len(self.blocks):
            raise InputError(f"the state has {len(state)} entries, but this model has {len(self.blocks)} blocks.")
        labels = class_labels[:, None] if class_labels is not None and class_labels.ndim == 1 else class_labels
        prepared = prepared[:, None] if prepared is not None and prepared.ndim == 2 else prepared
        found = self._velocity(x, t, labels, state, return_state, prepared, r, augment_labels)
        return ARFlowOutput(*found) if return_dict else found
