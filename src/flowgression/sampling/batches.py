"""Many images of one model, batch by batch, and a record of how they were made.

Letters: B images of a batch, H W C size and channels.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch

import flowgression
from flowgression.sampling.images import to_uint8
from flowgression.sampling.noise import image_seeds

CLASS_NAMES = "class_names"  # of the classes that the labels of images count, as `Classes.to_list`
ROUNDING = "clipped to [0, 1], times 255, rounded to the nearest uint8"


class Batch(NamedTuple):
    """images uint8 [B,H,W,C], their labels, and the frames of a film, each like images."""

    images: np.ndarray
    labels: list[int]
    frames: list[np.ndarray]


def sample_batches(
    pipe: Any,
    labels: Sequence[int],
    call: Mapping[str, Any],
    *,
    seed: int,
    batch_size: int,
    frames: int = 0,
    only: Sequence[int] | None = None,
    shown: bool = True,
) -> Iterator[Batch]:
    """Make one image for each label; image i depends on the seed and i alone, up to floating-point error.

    Args:
        pipe: a pipeline; its progress bar names the batches.
        labels: class ids.
        call: further keywords of the pipeline's call.
        frames: how many states on the way to keep for a film; 0 keeps none.
        only: numbers of the batches to make, from 0; None for all. The others' images are not made, and those of
            these are the same, bit for bit.
        shown: whether a terminal shows progress bars.

    Raises:
        InputError: what the pipeline refuses.
        FloatingPointError: a result is not finite.
    """
    seeds = image_seeds(torch.Generator().manual_seed(seed), len(labels))
    count = math.ceil(len(labels) / batch_size)
    film = {"return_trajectory": frames} if frames else {}
    for number in range(count) if only is None else only:
        here = slice(number * batch_size, (number + 1) * batch_size)
        part = list(labels[here])
        generators = [torch.Generator().manual_seed(image_seed) for image_seed in seeds[here]]
        pipe.set_progress_bar_config(
            desc=f"batch {number + 1}/{count}" if count > 1 else "sampling",
            leave=False,
            disable=None if shown else True,
        )
        output = pipe(class_labels=part, generator=generators, output_type="np", **call, **film)
        yield Batch(to_uint8(output.images), part, [to_uint8(frame) for frame in output.trajectory or []])


def sampling_facts(pipe: Any, call: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """How images are made, as values for JSON: settings of the call with its defaults, precision, versions.

    Args:
        given: further facts, such as model and seed.
    """
    return {
        **given,
        "pipeline": type(pipe).__name__,
        **pipe.sampling_options(call).facts(),
        "precision": _precision(pipe),
        "device": str(pipe.device),
        "rounding": ROUNDING,
        **({CLASS_NAMES: pipe.classes.to_list()} if pipe.classes.are_named else {}),
        "versions": {
            "flowgression": flowgression.__version__,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "numpy": np.__version__,
        },
    }


def _precision(pipe: Any) -> str:
    """The network's dtype, and whether its matrix products are less precise than that."""
    name = str(pipe.transformer.dtype).removeprefix("torch.")
    reduced = torch.get_float32_matmul_precision() != "highest"
    return f"{name} with TF32" if reduced and name == "float32" and pipe.device.type == "cuda" else name
