"""Sampling that starts from a given image, or keeps parts of one.

Image to image (SDEdit, arXiv 2108.01073): the walk begins at t = 1 - strength, at the image noised to there, instead of
at noise. Inpainting: after each step what the mask keeps is replaced by the image noised to the time reached, on the
path and with the noise that the model was trained with (as in RePaint, arXiv 2201.09865, without its repetitions).

Letters: B images, x1 the image and x0 noise, t time from noise (0) to data (1); all tensors of one shape [B, ...].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.flow.paths import ProbabilityPath
from flowgression.flow.solvers import Callback, Solver

IMAGE_STRENGTH, MASK_STRENGTH = 0.6, 1.0
"""How much of the way is walked by default, without and with a mask."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What is given of the images to draw.

    Attributes:
        image: x1 as the model sees it, [B, ...].
        strength: in (0, 1], the share of the way from noise to data that is walked; 1 begins at noise and reads nothing
            of the image but what the mask keeps.
        mask: bool like x1, where images are drawn anew; None: everywhere.
        path: what the model was trained on.
    """

    image: Tensor
    strength: float
    path: ProbabilityPath
    mask: Tensor | None = None

    def check(self, solver: Solver) -> None:
        """InputError where `solver` cannot keep parts of an image."""
        if self.mask is not None and solver.adaptive:
            raise InputError(
                f"solver {solver.name!r} has no steps after which the kept pixels could be set; with mask_image use "
                "'euler' or 'heun'."
            )

    def remaining(self, grid: Tensor) -> Tensor:
        """The times of `grid` from 1 - strength on, which comes first.

        Raises:
            InputError: the whole grid lies before it.
        """
        if self.strength == 1:
            return grid
        start = grid.new_tensor(1 - self.strength)
        rest = grid[grid > start]
        if not len(rest):
            raise InputError(
                f"strength {self.strength:g} begins at t = {float(start):g}, behind the last step of this solver at "
                f"t = {float(grid[-1]):g}; give more strength, or solver 'euler'."
            )
        return torch.cat([start[None], rest])

    def skipped(self, grid: Tensor) -> Tensor:
        """The times of `grid` before the walk begins."""
        return grid[:0] if self.strength == 1 else grid[grid < 1 - self.strength]

    def noised(self, x0: Tensor, t: float) -> Tensor:
        """The image at time t, with noise x0; like x0."""
        return self.path.interpolate(self.image.to(x0), x0, x0.new_full((), t))

    def start(self, x0: Tensor) -> Tensor:
        """Where the walk begins."""
        return x0 if self.strength == 1 else self.noised(x0, 1 - self.strength)

    def keeping(self, x0: Tensor, callback: Callback | None) -> Callback | None:
        """The callback of a solver that sets what the mask keeps, in place, and then calls `callback`."""
        if self.mask is None:
            return callback
        kept = ~self.mask

        def after_step(step: int, t: float, x: Tensor) -> None:
            x.copy_(torch.where(kept, self.noised(x0, t).to(x), x))
            if callback is not None:
                callback(step, t, x)

        return after_step

    def mapped(self, change: Callable[[Tensor], Tensor], *, strength: float) -> "Edit":
        """The same of images and masks of another shape, by `change` of either."""
        mask = None if self.mask is None else change(self.mask.to(self.image)) > 0
        return Edit(image=change(self.image), mask=mask, strength=strength, path=self.path)


def check_strength(strength: Any, *, masked: bool) -> float:
    """`strength`, or the default where it is None. InputError outside of (0, 1]."""
    if strength is None:
        return MASK_STRENGTH if masked else IMAGE_STRENGTH
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 < strength <= 1:
        raise InputError(
            f"strength must be above 0 (the image as it is) and at most 1 (nothing of it but what a mask keeps), not "
            f"{strength!r}."
        )
    return float(strength)
