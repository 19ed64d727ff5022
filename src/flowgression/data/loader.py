"""From a data set and a sampler to batches of tensors, in this process or read ahead by workers."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowgression.data.dataset import LabeledImages, to_unit_range
from flowgression.data.sampler import LABELLED_EACH, Batch, SequenceBatchSampler
from flowgression.errors import InputError


def make_sampler(
    dataset: LabeledImages,
    batch_size: int,
    sequence_length: int | None,
    seed: int,
    *,
    process_index: int = 0,
    num_processes: int = 1,
    flip: bool = False,
    start_batch: int = 0,
    contents: str = "class",
    shortest: int | None = None,
) -> SequenceBatchSampler:
    """The sampler that fits a data set: its labels and groups, its best order of reading, keys if its items are drawn.

    Args and errors as in `SequenceBatchSampler`.
    """
    return SequenceBatchSampler(
        dataset.labels,
        batch_size,
        sequence_length,
        seed,
        process_index=process_index,
        num_processes=num_processes,
        flip=flip,
        start_batch=start_batch,
        class_names=dataset.class_names,
        read_order=dataset.read_order,
        with_keys=dataset.stochastic,
        contents=contents,
        groups=dataset.groups,
        group_names=dataset.group_names,
        shortest=shortest,
    )


class _Batches(Dataset[dict[str, Tensor]]):
    """Turns one batch of the sampler into tensors at once, which is many times faster than image by image."""

    def __init__(self, images: LabeledImages, *, label_images: bool) -> None:
        self.images = images
        self.label_images = label_images  # whether each image of a sequence has a label of its own

    def __getitems__(self, batch: Batch) -> dict[str, Tensor]:
        items = np.array(batch, dtype=np.int64)  # [B, 2] or [B, S, 2]: index, flip, and maybe a key
        indices, flips = items[..., 0], items[..., 1].astype(bool)
        keys = items[..., 2].ravel().tolist() if items.shape[-1] == 3 else None
        images = self.images.items(indices.ravel().tolist(), flips.ravel().tolist(), keys)
        labels = self.images.labels[indices if indices.ndim == 1 or self.label_images else indices[:, 0]]
        return {
            "images": images.reshape(*indices.shape, *images.shape[1:]),
            "class_labels": torch.from_numpy(labels),
        }


class _Loader(DataLoader[dict[str, Tensor]]):
    """Takes pixels from its workers as uint8, and makes float32 of them where they are used."""

    device: torch.device | str | None = None

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        for batch in DataLoader.__iter__(self):
            if self.device is not None:
                batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
            yield batch | {"images": to_unit_range(batch["images"])}


def make_loader(
    dataset: LabeledImages,
    sampler: SequenceBatchSampler,
    num_workers: int | None = None,
    *,
    pin_memory: bool | None = None,
    device: torch.device | str | None = None,
) -> DataLoader:
    """Endless batches `{"images": float32 [B, S, C, H, W] in [-1, 1], "class_labels": int64 [B]}`.

    With a sampler of `sequence_length=None` images are [B, C, H, W]. With one of groups or of mixed classes every image
    has its own label, class_labels [B, S]. Batches and their order depend on the sampler
    alone, not on `num_workers`; torch's global random state is neither read nor moved.

    Args:
        dataset: Where images come from.
        sampler: Which images make a batch; must be built from `dataset.labels`.
        num_workers: Processes that read ahead; 0 reads in this process; None means 0 for images in memory, else one
            per free core, at most the data set's `max_workers`.
        pin_memory: Page-locked batches for faster copies to a GPU; None means where CUDA is available.
        device: Where batches are put, pixels as uint8; None leaves them on the CPU.

    Raises:
        InputError: negative num_workers.
    """
    if num_workers is None:
        num_workers = 0 if dataset.in_memory else max(1, min(dataset.max_workers, _free_cores() - 1))
    if num_workers < 0:
        raise InputError(f"num_workers is {num_workers}; expected 0 or more")
    loader = _Loader(
        _Batches(dataset, label_images=sampler.contents in LABELLED_EACH),
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=_as_is,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        generator=torch.Generator(),
        worker_init_fn=_leave_interrupts_to_parent,
    )
    loader.device = device
    return loader


def _as_is(batch: Any) -> Any:
    return batch


def _leave_interrupts_to_parent(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the training process decides what happens, workers keep serving it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _free_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
