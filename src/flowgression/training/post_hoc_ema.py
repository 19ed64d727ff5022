"""Post-hoc EMA (Karras et al. 2023, arXiv 2312.02696, section 3): averages of any length, chosen after training.

    track of gamma after step t:  average <- b average + (1 - b) weights,  b = (1 - 1/t)^(gamma + 1)

so that a step tau <= t counts as tau^gamma. The length of such an average is its standard deviation in time over t,
0 < s < 0.29; a run keeps two, of s = 0.05 and 0.10, and writes them down now and then. Any other average is close to a
linear combination of these snapshots: the one that is nearest to it as a function of tau, by least squares.

n: snapshots, two a time.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from flowgression.errors import InputError
from flowgression.files import atomic_write
from flowgression.layers.weights import check_finite

LENGTHS = (0.05, 0.10)  # of the two tracks, as in the paper
LONGEST = 12**-0.5  # of the plain mean of all steps, gamma = 0
Snapshot = tuple[int, float]
"""Steps done, and the length of the track."""


def gamma_of(length: float) -> float:
    """The exponent of an average of this length: s^2 = (g + 1) / ((g + 2)^2 (g + 3)), g >= 0.

    Raises:
        InputError: a length that is not between 0 and 0.288, that of the plain mean.
    """
    if not 0 < length <= LONGEST:
        raise InputError(f"the length of an average is {length:g}; it must be above 0 and at most {LONGEST:.3f}.")
    roots = np.roots([1.0, 7.0, 16.0 - length**-2, 12.0 - length**-2])
    return float(max(roots[np.abs(roots.imag) < 1e-6 * np.abs(roots)].real.max(), 0.0))


class PostHocEma:
    """The two tracks of a model's trainable parameters."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._tracks = [[weight.detach().clone() for weight in self._weights.values()] for _ in LENGTHS]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Move the averages towards the present weights; so many steps have been done before this one."""
        for length, track in zip(LENGTHS, self._tracks, strict=True):
            kept = (1 - 1 / (steps + 1)) ** (gamma_of(length) + 1)
            torch._foreach_lerp_(track, list(self._weights.values()), 1.0 - kept)

    def tensors(self) -> dict[str, Tensor]:
        """The averages, named `<length>/<parameter>`."""
        return {
            f"{length}/{name}": average
            for length, track in zip(LENGTHS, self._tracks, strict=True)
            for name, average in zip(self._weights, track, strict=True)
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put averages named as by `tensors` in place. InputError unless they are of the model's names and shapes."""
        own = self.tensors()
        if {name: each.shape for name, each in own.items()} != {name: each.shape for name, each in tensors.items()}:
            raise InputError("the tracks of post-hoc EMA are of another model")
        for name, average in own.items():
            average.copy_(tensors[name])


def snapshot_path(folder: Path, step: int) -> Path:
    """Where the tracks are written down after so many steps."""
    return folder / f"step-{step:07d}.safetensors"


def save_snapshot(folder: Path, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Write the tracks down."""
    folder.mkdir(exist_ok=True)
    with atomic_write(snapshot_path(folder, step)) as file:
        file.write(save(dict(tensors)))


def snapshot_steps(folder: Path) -> dict[int, Path]:
    """The snapshots of a folder by step, oldest first."""
    found = {}
    for path in folder.glob("step-*.safetensors"):
        if match := re.fullmatch(r"step-(\d+)\.safetensors", path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def drop_snapshots_after(folder: Path, step: int) -> None:
    """Delete those of steps that will be done again."""
    for each, path in snapshot_steps(folder).items():
        if each > step:
            path.unlink()


def combination(snapshots: list[Snapshot], step: int, length: float) -> NDArray[np.float64]:
    """How much each snapshot counts, [n], in the average of `length` over the first `step` steps; their sum is 1."""
    times = np.array([each for each, _ in snapshots], dtype=np.float64)
    gammas = np.array([gamma_of(each) for _, each in snapshots])
    gram = _inner(times[:, None], gammas[:, None], times[None], gammas[None])
    wanted = _inner(times, gammas, np.float64(step), np.float64(gamma_of(length)))
    found = np.linalg.lstsq(gram, wanted, rcond=1e-12)[0]
    return found / found.sum()


def _inner(a: Any, gamma_a: Any, b: Any, gamma_b: Any) -> Any:
    """The integral over tau of the product of two profiles (gamma + 1) tau^gamma / t^(gamma + 1), 0 <= tau <= t."""
    ratio, exponent = a / b, np.where(a < b, gamma_b, -gamma_a)
    return (gamma_a + 1) * (gamma_b + 1) * ratio**exponent / ((gamma_a + gamma_b + 1) * np.maximum(a, b))


def reconstruct(folder: Path, length: float, step: int | None = None) -> dict[str, Tensor]:
    """The parameters averaged over the first `step` steps (all that have snapshots) with this length, in float32.

    Raises:
        InputError: no snapshots up to that step, one that cannot be read, a length out of range.
    """
    gamma_of(length)
    paths = {each: path for each, path in snapshot_steps(folder).items() if step is None or each <= step}
    if not paths or (step is not None and step not in paths):
        known = ", ".join(map(str, snapshot_steps(folder))) or "none; train with ema.snapshot_every"
        raise InputError(f"{folder} has no snapshot of step {step or 'any'}: there are {known}.")
    snapshots = [(each, track) for each in paths for track in LENGTHS]
    weights = dict(zip(snapshots, combination(snapshots, max(paths), length).tolist(), strict=True))
    total: dict[str, Tensor] = {}
    for each, path in paths.items():
        for name, average in _read(path).items():
            track, _, parameter = name.partition("/")
            part = weights[each, float(track)] * average.double()
            total[parameter] = part + total[parameter] if parameter in total else part
    return {name: average.float() for name, average in total.items()}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read {path} ({error}); remove it to do without") from error
    check_finite(found, path)
    return found
