"""Many images into one npz or a folder, in parts that are kept: a run that was killed resumes with the parts it lacks.

    images.npz.parts/           beside images.npz while it is made, removed when it is done
        sampling.json           what the images are; another sampling must not resume with these parts
        part-000017.npy         the images of batch 17, uint8 [B,H,W,C]

    folder/                     for --out folder/
        sampling.json           likewise; it stays
        000000-zero.png         the images are their own parts

Batches are cut in the same way whoever makes them, so any number of processes gives the same images.
Letters: N images in all, B of a batch, H W C size and channels.
"""

import json
import math
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from flowgression.documents import read_json
from flowgression.errors import InputError
from flowgression.files import atomic_write
from flowgression.sampling.images import save_png, to_pil

FACTS_NAME = "sampling.json"
# What may differ between the runs that make the parts; the last bits may, too.
_FREE_FACTS = ("device", "versions", "class_names")
_PNG = re.compile(r"\d{6,}-.*\.png")


class Parts(Protocol):
    """Where the batches of a sampling are kept until all are there."""

    def missing(self) -> list[int]:
        """The numbers of the batches that are not there yet; InputError if others' images are in the way."""

    def write(self, number: int, images: np.ndarray) -> None:
        """Keep batch `number`, whole or not at all."""

    def finish(self) -> str:
        """Bring everything into its final form, once no batch is missing. Returns what was written."""

    @property
    def kept_in(self) -> Path:
        """Where the finished batches are."""


class NpzParts:
    """Parts of one npz: `arr_0` uint8 [N,H,W,C], `labels` int64 [N], and `sampling`, the facts as JSON text.

    Args:
        out: the npz.
        labels: class ids of all N images.
        batch_size: B.
        facts: what the images are, as by `sampling_facts`.
    """

    def __init__(self, out: Path, labels: Sequence[int], batch_size: int, facts: Mapping[str, Any]) -> None:
        self.out = out
        self.labels = labels
        self.facts = facts
        self.count = math.ceil(len(labels) / batch_size)
        self.kept_in = out.with_name(f"{out.name}.parts")

    def missing(self) -> list[int]:
        _check_facts(self.kept_in, self.facts)
        return [number for number in range(self.count) if not self._file(number).exists()]

    def write(self, number: int, images: np.ndarray) -> None:
        _check_images(images)
        if not self.kept_in.exists():
            check_space(self.out.parent, 2 * images[0].nbytes * len(self.labels))  # the parts and the npz
            self.kept_in.mkdir(parents=True, exist_ok=True)
        _write_facts(self.kept_in, self.facts)
        with atomic_write(self._file(number)) as file:
            np.save(file, images)

    def finish(self) -> str:
        # Not beside the npz: what a killed run left half-written is then overwritten, or goes with the folder.
        unfinished = self.kept_in / "whole.npz"
        parts = (np.load(self._file(number)) for number in range(self.count))
        with unfinished.open("wb") as file:
            shape = write_npz(file, parts, self.labels, self.facts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.out)
        shutil.rmtree(self.kept_in)
        return f"{self.out}: arr_0 uint8 {list(shape)}, labels [{len(self.labels)}]"

    def _file(self, number: int) -> Path:
        return self.kept_in / f"part-{number:06d}.npy"


class PngParts:
    """Parts of a folder with a file NUMBER-CLASS.png for each image.

    Args:
        folder: where the files go.
        labels, batch_size, facts: as for `NpzParts`.
        names: names of the classes; the id where there is none.
    """

    def __init__(
        self, folder: Path, labels: Sequence[int], batch_size: int, facts: Mapping[str, Any], names: Mapping[int, str]
    ) -> None:
        self.kept_in = folder
        self.facts = facts
        plain = {label: re.sub(r"[^\w-]+", "_", names.get(label, str(label))) for label in set(labels)}
        self.files = [f"{index:06d}-{plain[label]}.png" for index, label in enumerate(labels)]
        self.batch_size = batch_size

    def missing(self) -> list[int]:
        there = {entry.name for entry in os.scandir(self.kept_in)} if self.kept_in.exists() else set()
        if FACTS_NAME not in there and any(_PNG.fullmatch(name) for name in there):
            raise InputError(f"{self.kept_in}/ already holds numbered images; choose another folder, or remove them.")
        _check_facts(self.kept_in, self.facts)
        absent = (index // self.batch_size for index, name in enumerate(self.files) if name not in there)
        return [number for number, _ in groupby(absent)]

    def write(self, number: int, images: np.ndarray) -> None:
        _check_images(images)
        _write_facts(self.kept_in, self.facts)
        for image, name in zip(images, self.files[number * self.batch_size :], strict=False):
            save_png(to_pil(image), self.kept_in / name)

    def finish(self) -> str:
        for entry in self.kept_in.glob(".*.png.*.tmp"):  # of a run that was killed
            entry.unlink()
        return f"{len(self.files)} PNG files to {self.kept_in}/"


def write_npz(
    file: Any, parts: Iterable[np.ndarray], labels: Sequence[int], facts: Mapping[str, Any] | None = None
) -> tuple[int, ...]:
    """Write an npz of images part by part, so that they need not fit into memory. Not compressed, as ADM's are.

    Args:
        file: open for writing, binary.
        parts: uint8 [B,H,W,C] each, N images in all.
        labels: N class ids.

    Returns:
        [N,H,W,C].

    Raises:
        InputError: parts of different shapes, or another number of images than labels.
    """
    shape: tuple[int, ...] = ()
    written = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as entry:
            for images in parts:
                if not shape:
                    shape = (len(labels), *images.shape[1:])
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(entry, header)
                _check_images(images, shape[1:])
                entry.write(np.ascontiguousarray(images).data)
                written += len(images)
        if written != len(labels):
            raise InputError(f"{written} images for {len(labels)} labels; remove the parts and sample again.")
        others = {"labels": np.asarray(labels, dtype=np.int64)}
        if facts is not None:
            others["sampling"] = np.array(json.dumps(facts))
        for name, array in others.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    return shape


def check_space(folder: Path, needed: int) -> None:
    """Raise InputError if fewer than `needed` bytes are free in `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder} has {free / 2**20:.0f} MiB free, but these images need about {needed / 2**20:.0f} MiB while "
            "they are made; free some space or choose another place."
        )


def weights_checksum(model: nn.Module) -> int:
    """CRC-32 of up to 64 values of each tensor of a model: other weights have another one, at next to no cost."""
    checksum = 0
    for tensor in model.state_dict().values():
        values = tensor.detach().flatten()
        few = values[:: max(1, len(values) // 64)][:64].float().cpu().numpy()
        checksum = zlib.crc32(few.tobytes(), checksum)
    return checksum


def _check_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Raise InputError if `folder` holds parts of another sampling."""
    file = folder / FACTS_NAME
    if not file.exists():
        return
    try:
        there = read_json(file)
    except ValueError as error:
        raise InputError(f"cannot read {file} ({error}); remove {folder} to start anew.") from error
    now = json.loads(json.dumps(facts))
    names = [name for name in {**there, **now} if name not in _FREE_FACTS]
    changed = [f"{name} {there.get(name)!r} -> {now.get(name)!r}" for name in names if there.get(name) != now.get(name)]
    if changed:
        raise InputError(
            f"{folder} holds finished parts of another sampling ({', '.join(changed)}); put that back to resume with "
            "them, remove the folder, or choose another --out."
        )


def _write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    if not (folder / FACTS_NAME).exists():
        with atomic_write(folder / FACTS_NAME, "w") as file:
            file.write(json.dumps(facts, indent=2) + "\n")


def _check_images(images: np.ndarray, size: tuple[int, ...] | None = None) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or (size is not None and images.shape[1:] != size):
        raise InputError(f"expected images uint8 [B,{size or 'H,W,C'}]; got {images.dtype} {list(images.shape)}.")
