"""Statistics as files: safetensors with everything, or the npz of guided-diffusion's evaluator (mu and sigma).

safetensors: mean [D], covariance [D,D] (float64), kept [M,D], class_labels [K], class_means [K,D],
class_covariances [K,D,D], class_counts [K], spatial_mean [E], spatial_covariance [E,E]; the metadata name the
extractor. npz: mu, sigma, and mu_s, sigma_s of spatial features.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from flowgression.classes import Classes
from flowgression.documents import parse_json
from flowgression.errors import InputError, reading
from flowgression.evaluation.features.base import ExtractorInfo
from flowgression.evaluation.gaussian import Gaussian
from flowgression.evaluation.npz import npz_names, read_small_array
from flowgression.evaluation.statistics import Statistics
from flowgression.files import atomic_write
from flowgression.typed import check_fields

FORMAT = "flowgression image statistics 1"


def save_statistics(statistics: Statistics, path: str | Path) -> None:
    """Write statistics: X.safetensors, or X.npz with mu and sigma only, as guided-diffusion reads it.

    Raises:
        InputError: another ending, or fewer than two images.
    """
    path = Path(path)
    gaussian = statistics.gaussian
    if gaussian is None:
        raise InputError(f"{statistics.title} holds fewer than two images; they have no covariance to store")
    if path.suffix == ".npz":
        with atomic_write(path) as file:
            arrays: dict[str, Any] = {"mu": gaussian.mean.numpy(), "sigma": gaussian.covariance.numpy()}
            if statistics.spatial is not None:
                arrays |= {"mu_s": statistics.spatial.mean.numpy(), "sigma_s": statistics.spatial.covariance.numpy()}
            np.savez(file, **arrays)
        return
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: statistics are written as .safetensors, or as .npz for other evaluators")
    tensors = {"mean": gaussian.mean, "covariance": gaussian.covariance}
    if statistics.kept is not None:
        tensors["kept"] = statistics.kept
    if statistics.spatial is not None:
        tensors |= {"spatial_mean": statistics.spatial.mean, "spatial_covariance": statistics.spatial.covariance}
    if statistics.classes:
        per_class = statistics.classes.values()
        tensors["class_labels"] = torch.tensor(list(statistics.classes))
        tensors["class_means"] = torch.stack([entry.mean for entry in per_class])
        tensors["class_covariances"] = torch.stack([entry.covariance for entry in per_class])
        tensors["class_counts"] = torch.tensor([entry.count for entry in per_class])
    metadata = {
        "format": FORMAT,
        "extractor": json.dumps(asdict(statistics.extractor) if statistics.extractor else None),
        "class_names": json.dumps(statistics.names.to_list()),
        "title": statistics.title,
        "facts": json.dumps(statistics.facts),
    }
    with atomic_write(path) as file:
        file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))


def is_statistics(path: Path) -> bool:
    """Whether a file holds statistics and no images; InputError if an npz file is damaged."""
    if path.suffix == ".npz" and path.is_file():
        names = npz_names(path)
        return "arr_0" not in names and {"mu", "sigma"} <= set(names)
    return path.suffix == ".safetensors"


def load_statistics(path: str | Path) -> Statistics:
    """Read what `save_statistics` or guided-diffusion's evaluator wrote.

    Raises:
        InputError: no such file, a damaged one, one of something else, or shapes that do not fit each other.
    """
    path = Path(path)
    return _load_npz(path) if path.suffix == ".npz" else _load_safetensors(path)


def _load_npz(path: Path) -> Statistics:
    gaussian = _npz_gaussian(path, "mu", "sigma")
    if gaussian is None:
        raise InputError(f"{path} holds no mu and sigma")
    spatial = _npz_gaussian(path, "mu_s", "sigma_s")
    return Statistics(str(path), None, gaussian, spatial=spatial, facts={"file": str(path)})


def with_own_moments(statistics: Statistics, path: Path) -> Statistics:
    """Statistics of the images of an npz that also holds mu and sigma, as guided-diffusion's references do.

    There the moments are those of the whole data set and the images a part of it, for precision and recall: so the
    moments are taken from the file, for FID and sFID, if they are of the same features; else those of the images stay.
    """
    gaussian = _npz_gaussian(path, "mu", "sigma")
    if gaussian is None or len(gaussian.mean) != statistics.num_features:
        return statistics
    facts = {**statistics.facts, "num_images": None, "moments": "mu and sigma of the file"}
    spatial = _npz_gaussian(path, "mu_s", "sigma_s")
    return replace(statistics, gaussian=gaussian, spatial=spatial, classes={}, moments=None, facts=facts)


def _npz_gaussian(path: Path, *names: str) -> Gaussian | None:
    """Mean and covariance under these names of an npz; None where one is missing."""
    arrays = [read_small_array(path, name) for name in names]
    if arrays[0] is None or arrays[1] is None:
        return None
    with reading(path, "make it again"):
        mean, covariance = (torch.from_numpy(array.astype(np.float64)) for array in arrays if array is not None)
        return _checked(path, mean.squeeze(), covariance, None)


def _load_safetensors(path: Path) -> Statistics:
    if not path.is_file():
        raise InputError(f"there is no file {path}; make it with `flowgression reference`")
    with reading(path, "make it with `flowgression reference`"):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise InputError(f"{path} holds no statistics of images; make some with `flowgression reference`")
        facts: dict[str, Any] = {**parse_json(metadata["facts"])}
        extractor = parse_json(metadata["extractor"])
        info = ExtractorInfo(**extractor) if extractor else None
        if info is not None:
            check_fields(info, "extractor.")
        mean, kept = tensors["mean"], tensors.get("kept")
        if kept is not None and (kept.ndim != 2 or kept.shape[1] != len(mean) or not kept.isfinite().all()):
            raise InputError(f"{path}: kept must be finite [M, {len(mean)}], features of images; make it again")
        count = facts.get("num_images")
        if not isinstance(count, int | None):
            raise InputError(f"{path}: num_images is {count!r}, no number; make it again")
        per_class = {}
        if "class_labels" in tensors:
            names = ("class_labels", "class_means", "class_covariances", "class_counts")
            for label, centre, covariance, number in zip(*(tensors[name] for name in names), strict=True):
                per_class[int(label)] = _checked(path, centre, covariance, int(number), len(mean))
        spatial = None
        if "spatial_mean" in tensors:
            spatial = _checked(path, tensors["spatial_mean"], tensors["spatial_covariance"], count)
        return Statistics(
            title=str(path),
            extractor=info,
            gaussian=_checked(path, mean, tensors["covariance"], count),
            spatial=spatial,
            classes=per_class,
            names=Classes(parse_json(metadata["class_names"])),
            kept=None if kept is None else kept.float(),
            facts={**facts, "file": str(path)},
        )


def _checked(
    path: Path, mean: torch.Tensor, covariance: torch.Tensor, count: int | None, width: int | None = None
) -> Gaussian:
    if mean.ndim != 1 or len(mean) != (width or len(mean)) or covariance.shape != (len(mean), len(mean)):
        raise InputError(
            f"{path}: a mean of shape {list(mean.shape)} and a covariance of {list(covariance.shape)} do not fit"
        )
    if not (torch.isfinite(mean).all() and torch.isfinite(covariance).all()):
        raise InputError(f"{path} holds values that are not finite; make it again")
    if mean.is_complex() or covariance.is_complex() or len(mean) == 0:
        raise InputError(f"{path} holds no real numbers; make it again")
    return Gaussian(mean.double(), covariance.double(), count)
