"""Noise of a generator per image, so that an image depends on its own seed and not on the batch it is made in; or of
one generator for a batch, as diffusers draws it.

Letters: B images, C H W channels and size of a latent.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from flowgression.errors import InputError


class SharedGenerator(list[Generator]):
    """B times the same generator: it draws the noise of a whole batch at once, as diffusers' `randn_tensor` does."""


def image_generators(generator: Generator | Sequence[Generator] | None, batch_size: int) -> list[Generator]:
    """The random generators of `batch_size` images.

    Args:
        generator: a list of `batch_size` generators is taken as it is: each image depends on its own alone. A single
            generator is shared by the batch and draws what it draws in diffusers; of one image that is what [generator]
            gives. None shares torch's global generator.
        batch_size: B >= 1.

    Raises:
        InputError: a list of another length than `batch_size`, or an entry that is no `torch.Generator`.
    """
    if generator is None or isinstance(generator, Generator):
        return SharedGenerator([torch.default_generator if generator is None else generator] * batch_size)
    generators = generator if isinstance(generator, SharedGenerator) else list(generator)
    wrong = next((entry for entry in generators if not isinstance(entry, Generator)), None)
    if wrong is not None:
        raise InputError(f"generator holds a {type(wrong).__name__}; expected torch.Generator objects")
    if len(generators) != batch_size:
        raise InputError(
            f"{len(generators)} generators for {batch_size} images; pass one generator, or a list with one per image"
        )
    return generators


def image_seeds(generator: Generator | None, count: int) -> list[int]:
    """A seed of 63 bits for each of `count` images, drawn in order from `generator`, or torch's global one."""
    return [_draw_seed(generator) for _ in range(count)]


def noise_like(
    shape: Sequence[int],
    generators: Sequence[Generator],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise [B,C,H,W] (any `shape` that starts with B), row i drawn from `generators[i]` only, or all
    rows at once from a `SharedGenerator`.

    Every row is drawn on the device of its generator and then moved, so that CPU generators give the same noise on
    every device. Rows of CPU generators go to a GPU together, from page-locked memory, so that nothing waits.

    Raises:
        InputError: as many generators as images are needed.
    """
    if len(generators) != shape[0]:
        raise InputError(f"{len(generators)} generators for noise of shape {tuple(shape)}; expected {shape[0]}")
    target = torch.device(device) if device is not None else generators[0].device
    shared = generators[0] if isinstance(generators, SharedGenerator) else None
    if any(g.device.type != "cpu" for g in generators):
        if shared is not None:
            return torch.randn(*shape, generator=shared, device=shared.device, dtype=dtype).to(target)
        rows = [torch.randn(*shape[1:], generator=g, device=g.device, dtype=dtype) for g in generators]
        return torch.stack([row.to(target) for row in rows])
    noise = torch.empty(*shape, dtype=dtype, pin_memory=target.type == "cuda")
    if shared is not None:
        torch.randn(*shape, generator=shared, dtype=dtype, out=noise)
    else:
        for row, g in zip(noise, generators, strict=True):
            torch.randn(*shape[1:], generator=g, dtype=dtype, out=row)
    return noise.to(target, non_blocking=True)


def _draw_seed(generator: Generator | None) -> int:
    device = generator.device if generator is not None else torch.device("cpu")
    return int(torch.randint(0, 2**63 - 1, (), generator=generator, device=device))
