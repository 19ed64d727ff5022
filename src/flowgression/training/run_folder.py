"""The folder of a run: what lies where, and the checks that are cheaper before training than after.

<out>/config.yaml       the configuration, usable with --config
<out>/metrics.jsonl     one line per logged step
<out>/loss.png          the curve of it
<out>/samples/          sample grids
<out>/tensorboard/      metrics for TensorBoard, if that is the tracker
<out>/checkpoints/      see checkpoint.py
<out>/snapshots/        with ema.snapshot_every: see post_hoc_ema.py
<out>/pipeline/         the trained model, once training is through: from_pretrained loads it
<out>/adapter/          with lora.rank: the adapters alone, see sampling/lora.py
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from flowgression.documents import parse_json
from flowgression.errors import InputError
from flowgression.files import atomic_write, try_writing
from flowgression.training.checkpoint import latest_checkpoint


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run under `root`, and what is written there as text."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def samples(self) -> Path:
        return self.root / "samples"

    @property
    def pipeline(self) -> Path:
        return self.root / "pipeline"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def loss_plot(self) -> Path:
        return self.root / "loss.png"

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    def check_unused(self, resume: bool) -> None:
        """Raise InputError if a run that does not resume would mix with one that is already here."""
        if not resume and (latest_checkpoint(self.checkpoints) or self.pipeline.exists()):
            raise InputError(
                f"out={str(self.root)!r} already holds a run; add --resume to resume it, or choose another --out"
            )

    @contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """Gives a function that takes the folder for this process; it is free again at the end, or when this dies.

        The function raises InputError if another process writes into the folder.
        """
        lock = FileLock(self.root / ".lock")

        def take() -> None:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise InputError(
                    f"out={str(self.root)!r}: another run is writing into this folder; wait for it, or choose another "
                    "--out"
                ) from None
            except NotImplementedError:  # a file system without locks
                pass

        try:
            yield take
        finally:
            lock.release()

    def check_writable(self) -> None:
        """Create the folder if need be and write a file into it.

        Raises:
            InputError: it cannot be created or written to.
        """
        try:
            try_writing(self.root)
        except OSError as error:
            raise InputError(f"out={str(self.root)!r} cannot be written to ({error}); choose another folder") from error

    def check_space(self, needed: int) -> None:
        """Raise InputError if fewer than `needed` bytes are free, counting those of checkpoints that are there."""
        held = sum(file.stat().st_size for file in self.checkpoints.rglob("*") if file.is_file())
        free = shutil.disk_usage(self.root).free + held
        if free < needed:
            raise InputError(
                f"out={str(self.root)!r} has {_size(free)} free, but this run needs about {_size(needed)}; "
                "free some space, choose another folder or lower keep_checkpoints"
            )

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the configuration as YAML."""
        with atomic_write(self.config, "w") as file:
            yaml.safe_dump(config, file, sort_keys=False)

    def keep_metrics_until(self, step: int) -> None:
        """Drop the lines of metrics after `step`: they are of steps that will be done again."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        with atomic_write(self.metrics, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in kept)

    def append_metrics(self, values: dict[str, float]) -> None:
        """Append one line; floats are written so that reading them gives the same bits."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def read_metrics(self) -> list[dict[str, float]]:
        """All whole lines of metrics.jsonl. A run killed while writing may leave half a line at the end."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text().split("\n")[:-1]
        return [parse_json(line) for line in lines]


def training_bytes(parameter_bytes: int, keep_checkpoints: int, snapshots: int = 0, *, best: bool = False) -> int:
    """Bytes that a run with `parameter_bytes` of weights writes at most at one time.

    A checkpoint holds the weights, their average and two moments of AdamW; while one is written the others are
    still there. The final pipeline holds the average once more. Each of so many snapshots of post-hoc EMA holds two
    averages, and then a checkpoint does, too. With images held out it also holds the best average (`best`). 64 MiB are
    for pictures, logs and metrics.
    """
    tracks = 2 * parameter_bytes * (keep_checkpoints + 1 + snapshots) if snapshots else 0
    return (4 + best) * parameter_bytes * (keep_checkpoints + 1) + parameter_bytes + tracks + 64 * 2**20


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
