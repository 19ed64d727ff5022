"""Reading a latent cache against reading image files, and a cache that survives kill -9.

    python benchmarks/data.py [--images 20000] [--json out.json] [--keep DIR]

1. Writes the built-in digits as PNG files, one folder a class, and caches them with `flowgression cache-latents`; the
   command is killed (SIGKILL) twice on the way and repeated. The cache is verified, finished shards are checked to be
   untouched by the repetition, and a small model trains from it for 20 steps.
2. Reads random batches of the same pixels from the PNG files and from the cache, in one process, through the loader
   that training uses. Prints images/s and processor time per image.
3. The same for pictures of 256 x 256 pixels against latents of 16 x 16 x 16 in the form of MAR's KL-16, the posterior
   drawn anew for every image.

Exit status 1 where the cache is less than 5 times faster, or where feeding --rate images/s takes more than one core.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from flowgression.data import DataConfig, load_mnist, make_loader, make_sampler, open_dataset
from flowgression.data.dataset import LabeledImages, MemoryImages
from flowgression.data.latents.index import CachePlan
from flowgression.data.latents.writer import write_cache
from flowgression.training.config import TrainConfig
from flowgression.training.loop import train
from flowgression.training.settings import ModelConfig, PreviewConfig

FACTOR = 5  # how many times faster the cache has to be
PROGRAM = [sys.executable, "-c", "import sys; from flowgression.cli.main import main; sys.exit(main())"]
console = Console(width=110)


class Speed(NamedTuple):
    """Images per second of wall time, and seconds of processor time per image."""

    rate: float
    cpu: float


def write_digits(folder: Path, count: int) -> None:
    """`count` digits as PNG files in ten folders."""
    images, labels = load_mnist("all")
    for index in range(count):
        path = folder / str(labels[index % len(labels)]) / f"{index:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[index % len(images)]).save(path)


def cache_with_kills(images: Path, cache: Path, count: int, kills: int = 2) -> None:
    """Cache a folder with a command that is killed several times on the way, then finished and verified."""
    shard_size = max(1, count // 8)
    command = [*PROGRAM, "cache-latents", "--images", images, "--autoencoder", "identity", "--out", cache]
    command += ["--shard-size", shard_size, "--verify"]
    for kill in range(1, kills + 1):
        process = subprocess.Popen([str(part) for part in command])
        while process.poll() is None and len(records(cache)) < 2 * kill:
            time.sleep(0.001)
        if process.poll() is not None:
            raise SystemExit(f"the command ended before it could be killed (status {process.returncode})")
        process.kill()
        process.wait()
        console.print(f"killed with {len(records(cache))} of {-(-count // shard_size)} shards finished")
    before = records(cache)
    subprocess.run([str(part) for part in command], check=True)
    after = records(cache)
    if any(after[name] != before[name] for name in before):
        raise SystemExit("FAIL: a finished shard was made again")
    console.print(f"finished; the {len(before)} shards finished before the kills are untouched")


def records(cache: Path) -> dict[str, int]:
    """Inodes of the finished shards: a file written again has another one."""
    found = {}
    for record in sorted(cache.glob("shard-*.json")):
        found[record.stem] = record.with_suffix(".safetensors").stat().st_ino
    return found


def train_from(cache: Path, folder: Path) -> None:
    """Twenty steps of a small model."""
    args = {"patch_size": 4, "hidden_size": 32, "depth": 1, "num_heads": 2}
    train(
        TrainConfig(
            model=ModelConfig(family="sit", args=args),
            data=DataConfig(str(cache), num_workers=0),
            sequence_length=1,
            batch_size=32,
            max_steps=20,
            device="cpu",
            out=str(folder),
            log_every=10,
            preview=PreviewConfig(every=0),
            tracker="none",
        )
    )


def write_pictures(folder: Path, count: int) -> None:
    """Noisy pictures of 256 x 256 pixels as PNG files of the size of photographs (about 100 KB)."""
    random = np.random.default_rng(0)
    for index in range(count):
        smooth = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((256, 256))
        pixels = np.asarray(smooth) + random.integers(0, 8, (256, 256, 3), dtype=np.uint8)
        path = folder / str(index % 4) / f"{index:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_latents(cache: Path, count: int) -> None:
    """A cache of `count` latents in the form of KL-16; what they are does not matter for the time."""
    labels = np.arange(count, dtype=np.int64) % 4
    images = MemoryImages(np.zeros((count, 1, 16, 16), dtype=np.uint8), labels, list("0123"), 1)
    facts: dict[str, Any] = {"source": "made up", "split": "train", "num_images": count, "class_names": list("0123")}
    facts |= {"labels_crc32": zlib.crc32(labels.tobytes()), "image_size": 256, "pixel_channels": 3}
    facts |= {"autoencoder": "KL-16", "autoencoder_sha256": "0", "latent_channels": 16, "latent_size": 16}
    plan = CachePlan(**facts, scaling_factor=0.2325, shift_factor=0.0, store="bf16", flip=True, shard_size=2048)

    def moments(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (len(batch), 16, 16, 16)
        return 4 * torch.randn(shape), torch.randn(shape) - 4

    write_cache(cache, plan, images, moments, batch_size=256)


def speed(dataset: LabeledImages, batch_size: int, batches: int) -> Speed:
    """Of random batches through training's loader, read in this process; the first batch is not counted."""
    loader = iter(make_loader(dataset, make_sampler(dataset, batch_size, None, seed=0), num_workers=0))
    next(loader)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(loader)
    images = batches * batch_size
    return Speed(images / (time.perf_counter() - wall), (time.process_time() - cpu) / images)


def compare(name: str, files: LabeledImages, cache: LabeledImages, args: argparse.Namespace, table: Table) -> dict:
    """Both speeds in a row of the table, and whether they pass. The two take turns, the best of three counts."""
    best: dict[str, Speed] = {}
    for _ in range(3):
        for kind, dataset, batches in (("files", files, args.batches), ("cache", cache, 10 * args.batches)):
            measured = speed(dataset, args.batch_size, batches)
            best[kind] = min(best.get(kind, measured), measured, key=lambda found: found.cpu)
    ratio, cores = best["files"].cpu / best["cache"].cpu, args.rate * best["cache"].cpu
    passed = ratio >= FACTOR and cores <= 1
    cells = [f"{best[kind].rate:,.0f} ({1e6 * best[kind].cpu:,.0f} µs)" for kind in ("files", "cache")]
    table.add_row(name, *cells, f"{ratio:.1f}", f"{cores:.2f}", "PASS" if passed else "SHORTFALL")
    return {"files": best["files"]._asdict(), "cache": best["cache"]._asdict(), "ratio": ratio, "passed": passed}


def timed(title: str, work: Callable[[], None]) -> None:
    start = time.perf_counter()
    work()
    console.print(f"{title}: {time.perf_counter() - start:.1f} s")


def report(args: argparse.Namespace, place: Path) -> dict[str, Any]:
    digits, cache = place / "digits", place / "digits-cache"
    timed(f"{args.images} digits written as PNG files", lambda: write_digits(digits, args.images))
    timed("cached, with two kills", lambda: cache_with_kills(digits, cache, args.images))
    timed("20 steps of training from the cache", lambda: train_from(cache, place / "run"))
    pictures, latents = place / "pictures", place / "latents"
    write_pictures(pictures, args.pictures)
    write_latents(latents, 4096)
    head = ("data", "PNG files: images/s (CPU)", "cache: images/s (CPU)", "ratio", f"cores at {args.rate:,}/s", "")
    table, results = Table(*head), {}
    for name, files, cached in (
        (f"{args.images} digits, 28 x 28 pixels", digits, cache),
        ("256 x 256 pixels, latents 16 x 16 x 16", pictures, latents),
    ):
        read, mapped = (open_dataset(DataConfig(str(path), cache_limit_mb=0)) for path in (files, cached))
        results[name] = compare(name, read, mapped, args, table)
    console.print(table)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="digits")
    parser.add_argument("--pictures", type=int, default=256, help="pictures of 256 x 256 pixels")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=10, help="of files; ten times as many of the cache")
    parser.add_argument("--rate", type=int, default=2000, help="images/s that a model takes")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--keep", help="work in this folder and leave it")
    args = parser.parse_args()
    console.print(f"{platform.machine()} CPU, {os.cpu_count()} cores; torch {torch.__version__}; {date.today()}")
    if args.keep:
        results = report(args, Path(args.keep))
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = report(args, Path(folder))
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))
    passed = all(entry["passed"] for entry in results.values())
    console.print(
        "PASS" if passed else f"SHORTFALL: the cache has to be {FACTOR} times faster and take one core or less"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
