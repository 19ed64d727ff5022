"""Reading folders of JPEG files against the bare decoder, on the same files.

    python benchmarks/jpegs.py [--images 256] [--workers 2] [--json out.json]

Pictures of 256 x 256 and 500 x 375 pixels with the spectrum of photographs (amplitude 1/f) are saved at quality 85 and
95. For each kind it prints processor time per image of

- the bare decoders, from bytes in memory to an array: Pillow and, where it is installed, simplejpeg;
- the pipeline in this process: files read, decoded, resized to 256 pixels, flipped, batched, scaled to float32;
- the pipeline with --workers processes, as wall time: images/s as a training process receives them.

The shares are bare Pillow / pipeline, of processor time in one process: 1 would be a pipeline that costs nothing. The
last table compares the ways to resize (data.resize): time, and the mean difference of pixels (0 to 255) from decoding
whole and resizing by an antialiased bicubic filter. Exit status 1 where fewer than --rate images/s of 256 pixels at
quality 85 arrive from the workers and from one process times their number (a busy machine hides the first).
"""

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, features
from rich.console import Console
from rich.table import Table

from flowgression.data import DataConfig, make_loader, make_sampler, open_dataset
from flowgression.data.transforms import RESIZE, centre_crop, to_pixels

SIZE, BATCH = 256, 32
KINDS = {
    "256 x 256, quality 85": (256, 256, 85, "bicubic"),
    "256 x 256, quality 95": (256, 256, 95, "bicubic"),
    "500 x 375, quality 95": (375, 500, 95, "bicubic"),
    "500 x 375, quality 95, fast": (375, 500, 95, "fast"),
}
console = Console(width=120)


def picture(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A random picture, uint8 [H, W, 3], with the spectrum of photographs: amplitude 1/f, mostly grey."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1 / max(height, width)
    noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((4, height, width))) / frequency, s=(height, width))
    noise -= noise.mean((1, 2), keepdims=True)
    noise /= noise.std((1, 2), keepdims=True)
    return np.clip(128 + 50 * (0.9 * noise[:1] + 0.3 * noise[1:]), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def write_pictures(folder: Path, count: int, height: int, width: int, quality: int) -> None:
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / str(index % 4) / f"{index:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(random, height, width)).save(path, quality=quality)


def cpu_time(work: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Processor seconds per item: the best of five rounds."""
    rounds = []
    for _ in range(5):
        start = time.process_time()
        for item in items:
            work(item)
        rounds.append((time.process_time() - start) / len(items))
    return min(rounds)


def decoders() -> dict[str, Callable[[bytes], Any]]:
    """From bytes to an array [H, W, 3]."""
    found: dict[str, Callable[[bytes], Any]] = {"Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)))}
    if find_spec("simplejpeg"):
        library = import_module("simplejpeg")
        found["simplejpeg"] = lambda data: library.decode_jpeg(data, "RGB")
    return found


def loader(folder: Path, workers: int, resize: str) -> Any:
    dataset = open_dataset(DataConfig(str(folder), image_size=SIZE, cache_limit_mb=0, flip=True, resize=resize))
    return iter(make_loader(dataset, make_sampler(dataset, BATCH, None, seed=0, flip=True), workers))


def received(folder: Path, workers: int, resize: str, seconds: float = 4.0) -> float:
    """Images/s of wall time that arrive from `workers` processes, once they have started."""
    batches = loader(folder, workers, resize)
    for _ in range(2 * workers + 1):
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += BATCH
    return count / (time.perf_counter() - start)


def rates(place: Path, args: argparse.Namespace) -> dict[str, Any]:
    bare, results = decoders(), {}
    columns = (*(f"bare {name}" for name in bare), "pipeline", "share", f"{args.workers} workers")
    table = Table("files", *columns, title="microseconds an image (images/s of a core)")
    for name, (height, width, quality, resize) in KINDS.items():
        folder = place / name.replace(" ", "")
        write_pictures(folder, args.images, height, width, quality)
        encoded = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))][:64]
        times = {kind: cpu_time(decode, encoded) for kind, decode in bare.items()}
        batches = loader(folder, 0, resize)
        next(batches)
        pipeline = cpu_time(lambda _, batches=batches: next(batches), range(max(1, args.images // BATCH))) / BATCH
        share, wall = times["Pillow"] / pipeline, received(folder, args.workers, resize)
        cells = [f"{1e6 * value:,.0f} ({1 / value:,.0f})" for value in (*times.values(), pipeline)]
        table.add_row(name, *cells, f"{share:.2f}", f"{wall:,.0f} images/s")
        results[name] = {"bare": times, "pipeline": pipeline, "share": share, "workers": wall}
    console.print(table)
    return results


def ways_to_resize(args: argparse.Namespace) -> dict[str, Any]:
    """Of 500 x 375 pixels to 128, and of the files of --photos."""
    random, table, results = np.random.default_rng(1), Table("resize", "µs", "mean difference", "largest"), {}
    files = [path.read_bytes() for path in args.photos]
    if not files:
        for _ in range(16):
            buffer = io.BytesIO()
            Image.fromarray(picture(random, 375, 500)).save(buffer, "JPEG", quality=95)
            files.append(buffer.getvalue())
    whole = [np.asarray(centre_crop(Image.open(io.BytesIO(data)).convert("RGB"), 128), dtype=int) for data in files]
    for name in RESIZE:
        spent = cpu_time(lambda data, name=name: to_pixels(Image.open(io.BytesIO(data)), 128, 3, name), files)
        made = [to_pixels(Image.open(io.BytesIO(data)), 128, 3, name).transpose(1, 2, 0) for data in files]
        differences = np.abs(np.stack(made) - np.stack(whole))
        table.add_row(name, f"{1e6 * spent:,.0f}", f"{differences.mean():.2f}", str(differences.max()))
        results[name] = {"seconds": spent, "mean": float(differences.mean()), "largest": int(differences.max())}
    table.title = f"{len(files)} photos to 128" if args.photos else "500 x 375, quality 95, to 128"
    console.print(table)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256, help="files of each kind")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=int, default=2000, help="images/s to reach")
    parser.add_argument(
        "--photos", type=Path, nargs="*", default=[], help="JPEG files for the comparison of data.resize"
    )
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    versions = f"Pillow {Image.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}"
    console.print(f"{platform.machine()} CPU, {os.cpu_count()} cores; {versions}; {date.today()}")
    with tempfile.TemporaryDirectory() as folder:
        results = rates(Path(folder), args)
    resized = ways_to_resize(args)
    if args.json:
        Path(args.json).write_text(json.dumps({"rates": results, "resize": resized}, indent=1))
    first = next(iter(results.values()))
    reached = max(first["workers"], args.workers / first["pipeline"])
    console.print(
        f"{'PASS' if reached >= args.rate else 'SHORTFALL'}: {reached:,.0f} images/s, {args.rate:,} asked for"
    )
    return 0 if reached >= args.rate else 1


if __name__ == "__main__":
    sys.exit(main())
