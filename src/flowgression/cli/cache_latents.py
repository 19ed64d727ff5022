"""`flowgression cache-latents`: encode a data set once, so that training reads latents instead of images."""

import argparse
import multiprocessing
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from flowgression.cli._device import DTYPES
from flowgression.cli._outputs import readable_size
from flowgression.cli._parser import CommandParser, use_threads
from flowgression.errors import InputError
from flowgression.text import say

SUMMARY = "encode images once into latents for training"

DESCRIPTION = """Encode all images of a data set with an autoencoder into a latent cache: few large files with the mean
and log-variance of every latent, of the image and of its mirror image. `flowgression train --data.path DIR` reads it.

The same command resumes where an earlier one was stopped or killed; finished shards are never made again. Several
processes share the work: --num-processes N on one machine, torchrun or accelerate launch on many."""


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("cache-latents", DESCRIPTION)
    add = parser.add_argument
    add("--data", metavar="DATA", help="a folder of class folders, mnist, or hf:NAME")
    add("--out", required=True, metavar="DIR", help="the cache")
    add(
        "--autoencoder",
        metavar="NAME",
        help="identity (pixels), pictures-kl8 (built in), a folder, sd-vae, or owner/name on the hub",
    )
    add("--verify", action="store_true", help="read all of the cache and compare checksums; alone or after caching")
    add("--split", default="train", help="part of the data set (train)")
    add("--image-size", type=int, metavar="PIXELS", help="short side resized and centre cropped (the images' own)")
    add("--resize", choices=("bicubic", "fast", "adm"), default="bicubic", help="how, as data.resize (bicubic)")
    add("--channels", type=int, metavar="C", help="for identity: 1 (grey) or 3 (the data set's)")
    for name in ("subset", "image-column", "label-column"):
        add(f"--{name}", metavar="NAME", help="of a Hugging Face data set that has several")
    add("--group-by", metavar="NAME", help="what images share, as data.group_by")
    add("--no-flip", action="store_true", help="leave the mirrored images out")
    add("--store", choices=("bf16", "fp32"), default="bf16", help="how moments are kept (bf16; pixels always exactly)")
    add("--scaling-factor", type=float, metavar="S", help="what models multiply latents by (the autoencoder's)")
    add("--shift-factor", type=float, metavar="S", help="what models subtract from latents before (the autoencoder's)")
    add("--shard-size", type=int, default=8192, metavar="N", help="images in a file (8192)")
    add("--batch-size", type=int, default=32, metavar="B", help="images encoded at once (32)")
    add("--num-workers", type=int, default=0, metavar="N", help="processes that decode images ahead, for each (0)")
    add("--num-processes", type=int, default=1, metavar="N", help="processes that encode on this machine (1)")
    add("--tile", type=int, metavar="PIXELS", help="encode larger images in tiles of this size (whole)")
    add("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    add("--dtype", default="float32", choices=DTYPES, help="precision of the autoencoder (float32)")
    parser.add_num_threads()
    return parser


def run(argv: list[str]) -> int:
    """Run the command.

    Returns:
        0 when the cache is complete (and whole, with --verify); 1 when it is not.
    """
    args = make_parser().parse(argv)
    for name in ("shard_size", "batch_size", "num_processes"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(args, name)}.")
    if not args.verify or args.data or args.autoencoder:
        for name in ("data", "autoencoder"):
            if getattr(args, name) is None:
                raise InputError(f"--{name} is missing; see flowgression cache-latents --help.")
        if status := start(args):
            return status
    return verify(Path(args.out)) if args.verify else 0


def start(args: argparse.Namespace) -> int:
    """Encode in this process, in those of a launcher, or in `--num-processes` new ones. Returns the exit status."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and args.num_processes > 1:
        raise InputError(f"the launcher started {launched} processes; leave --num-processes out.")
    if args.num_processes == 1:
        return encode(args, int(os.environ.get("RANK", "0")), launched)
    context = multiprocessing.get_context("spawn")  # forked processes cannot use a GPU
    children = [
        context.Process(target=_child, args=(args, number, args.num_processes)) for number in range(args.num_processes)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    codes = [child.exitcode for child in children]
    if not any(codes):
        return 0
    failed = ", ".join(f"{number} (status {code})" for number, code in enumerate(codes) if code)
    say(
        f"flowgression cache-latents: of {len(codes)} processes these failed: {failed}. Finished shards are kept; run "
        "the same command again.",
        file=sys.stderr,
    )
    return 1


def _child(args: argparse.Namespace, number: int, count: int) -> None:
    import torch

    use_threads(args.num_threads or max(1, torch.get_num_threads() // count))
    try:
        sys.exit(encode(args, number, count))
    except InputError as error:
        say(f"flowgression cache-latents: process {number}: {error}", file=sys.stderr)
        sys.exit(2)


def encode(args: argparse.Namespace, process_index: int, num_processes: int) -> int:
    """Encode this process's shards. Returns the exit status."""
    from flowgression.data.latents.writer import CacheError, write_cache
    from flowgression.terminal import progress_bar

    dataset, autoencoder, plan = prepare(args, process_index)
    begin = time.perf_counter()
    mine = sum(len(plan.members(shard)) for shard in range(process_index, plan.num_shards, num_processes))

    def moments(images: Any) -> Any:
        return autoencoder.encode(images.to(autoencoder.vae.device) if plan.stochastic else images)

    try:
        with progress_bar(shown=process_index == 0) as bar:
            task = bar.add_task(f"Encoding {args.data}", total=mine)
            complete = write_cache(
                Path(args.out),
                plan,
                dataset,
                moments,
                process_index=process_index,
                num_processes=num_processes,
                batch_size=args.batch_size,
                num_workers=args.num_workers,
                advance=lambda images: bar.advance(task, images),
            )
    except (CacheError, FloatingPointError) as error:
        say(f"flowgression cache-latents: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - begin
    if complete:
        size = readable_size(plan.num_images * plan.bytes_per_image)
        shown = f"{plan.latent_channels} x {plan.latent_size} x {plan.latent_size}"
        say(f"{args.out}: {plan.num_images} latents of {shown} in {plan.num_shards} shards, {size}, {seconds:.1f} s")
    return 0


def prepare(args: argparse.Namespace, process_index: int) -> tuple[Any, Any, Any]:
    """The images, the autoencoder on its device, and the plan of the cache.

    Raises:
        InputError: something about them cannot work.
    """
    from flowgression.autoencoders.loading import load_autoencoder
    from flowgression.data.latents.index import AUTOENCODER, is_cache, start_or_go_on
    from flowgression.files import atomic_folder

    out = Path(args.out)
    if out.exists() and not is_cache(out) and (out.is_file() or any(out.iterdir())):
        raise InputError(f"--out {out} exists and is no latent cache; choose another folder")
    options = {"scaling_factor": args.scaling_factor, "shift_factor": args.shift_factor}
    exact: Any = load_autoencoder(args.autoencoder, **options)
    dataset = open_images(args, exact)
    plan = make_plan(args, dataset, exact)
    if not plan.stochastic:
        return dataset, exact, plan
    out.mkdir(parents=True, exist_ok=True)
    start_or_go_on(out, plan)  # refuses a cache of another kind before its autoencoder would be replaced
    if process_index == 0 and not (out / AUTOENCODER / "config.json").is_file():
        with atomic_folder(out / AUTOENCODER) as folder:
            exact.vae.save_pretrained(folder)
    from flowgression.cli._device import pick_dtype

    device = own_device(args.device, process_index)
    autoencoder = load_autoencoder(
        args.autoencoder, **options, dtype=pick_dtype(args.dtype), device=device, tile=args.tile
    )
    return dataset, autoencoder, plan


def open_images(args: argparse.Namespace, autoencoder: Any) -> Any:
    """The data set, with the channels that the autoencoder reads and sides that fit it; InputError if they cannot."""
    from flowgression.data import DataConfig, open_dataset
    from flowgression.data.latents.index import is_cache

    if is_cache(Path(args.data)):
        raise InputError(f"--data {args.data} is a latent cache already")
    config = DataConfig(
        path=args.data,
        split=args.split,
        image_size=args.image_size,
        channels=autoencoder.pixel_channels or args.channels,
        subset=args.subset,
        image_column=args.image_column,
        label_column=args.label_column,
        group_by=args.group_by,
        cache_limit_mb=0,  # each image is read once
        resize=args.resize,
    )
    dataset, factor = open_dataset(config), autoencoder.downsampling
    if dataset.image_size % factor:
        raise InputError(
            f"images of {dataset.image_size} pixels do not fit autoencoder {args.autoencoder}, which makes them "
            f"{factor} times smaller; give an --image-size that is a multiple of {factor}"
        )
    return dataset


def make_plan(args: argparse.Namespace, dataset: Any, autoencoder: Any) -> Any:
    """What the cache will hold."""
    from flowgression.data.latents.index import CachePlan
    from flowgression.layers.weights import weights_sha256

    is_pixels = autoencoder.latent_channels is None
    return CachePlan(
        source=args.data,
        split=args.split,
        num_images=len(dataset),
        labels_crc32=zlib.crc32(dataset.labels.tobytes()),
        class_names=dataset.classes.to_list(),
        groups_crc32=None if dataset.groups is None else zlib.crc32(dataset.groups.tobytes()),
        group_names=dataset.group_names,
        image_size=dataset.image_size,
        resize=args.resize,
        pixel_channels=dataset.channels,
        autoencoder=args.autoencoder,
        autoencoder_sha256=None if is_pixels else weights_sha256(autoencoder.vae.state_dict()),
        latent_channels=dataset.channels if is_pixels else autoencoder.latent_channels,
        latent_size=dataset.image_size // autoencoder.downsampling,
        scaling_factor=autoencoder.scaling_factor,
        shift_factor=autoencoder.shift_factor,
        store="uint8" if is_pixels else args.store,
        flip=not args.no_flip,
        shard_size=min(args.shard_size, len(dataset)),
        files_crc32=dataset.files_crc32,
    )


def own_device(name: str, process_index: int) -> Any:
    """The device of a process: on a machine with several GPUs, each local process has its own."""
    import torch

    from flowgression.devices import pick_device

    device = pick_device(name)
    if device.type == "cuda" and device.index is None:
        number = int(os.environ.get("LOCAL_RANK", process_index))
        return torch.device("cuda", number % torch.cuda.device_count())
    return device


def verify(folder: Path) -> int:
    """Say whether a cache is whole. Returns the exit status."""
    from flowgression.data.latents.verify import complete, verify_cache

    faults = verify_cache(folder)
    if faults:
        for fault in faults:
            say(f"flowgression cache-latents: {folder}: {fault}", file=sys.stderr)
        say(
            "Remove these files and run the command that made the cache again: only they are made anew.",
            file=sys.stderr,
        )
        return 1
    plan = complete(folder).plan
    say(f"{folder}: {plan.num_images} latents in {plan.num_shards} shards are whole")
    return 0
