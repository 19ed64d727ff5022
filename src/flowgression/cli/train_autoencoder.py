"""`flowgression train-autoencoder`: an autoencoder of one's own, between pixels and latents."""

import shlex
import sys
from pathlib import Path
from typing import Any

from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError
from flowgression.text import say

SUMMARY = "train a small autoencoder on your own pictures"

DESCRIPTION = """Train an AutoencoderKL of diffusers that makes pictures eight times smaller, for models of latents. Its
scale is measured at the end. Ctrl-C saves a checkpoint and stops; --resume resumes from the newest one.

  flowgression train-autoencoder --data my-photos --minutes 30 --out runs/autoencoder
  flowgression train --data.path my-photos --autoencoder runs/autoencoder --minutes 30"""

BATCH, LEARNING_RATE, WARMUP, EMA = 16, 2e-3, 50, 0.998
HELD_OUT, ENOUGH = 0.05, 100  # share of the pictures that are held out, and of how many


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("train-autoencoder", DESCRIPTION)
    add = parser.add_argument
    add("--data", required=True, metavar="DIR", help="the pictures: as data.path of `flowgression train`")
    add("--split", default="train", help="part of the data set (train)")
    add("--out", default="runs/autoencoder", metavar="DIR", help="folder of the run (runs/autoencoder)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, metavar="M", help="length of the training (30)")
    length.add_argument(
        "--max-steps", type=int, metavar="N", help="steps instead of minutes: a run that repeats exactly"
    )
    add("--clock", choices=("wall", "processor"), default="wall", help="by which minutes are counted (wall)")
    add("--image-size", type=int, default=64, metavar="PIXELS", help="of the pictures in training (64)")
    add("--channels", type=int, choices=(1, 3), default=3, help="grey or colour (3)")
    add("--latent-channels", type=int, default=8, metavar="C", help="numbers of a latent's place (8)")
    add("--widths", default="16,32,48,64", metavar="W,W,...", help="channels at each resolution (16,32,48,64)")
    add("--perceptual", type=float, default=0.1, help="weight of what the features pictures-1 see (0.1)")
    add("--kl", type=float, default=1e-4, help="weight of the posterior's divergence (1e-4)")
    add("--batch-size", type=int, default=BATCH, metavar="B", help=f"pictures in a step ({BATCH})")
    add("--lr", type=float, default=LEARNING_RATE, help=f"learning rate ({LEARNING_RATE:g})")
    add("--resume", action="store_true", help="resume from the newest checkpoint in --out")
    add("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="auto, cpu, cuda or mps (auto)")
    parser.add_num_threads()
    parser.add_seed("initial weights, order and noise")
    return parser


def run(argv: list[str]) -> int:
    """Run the command. Returns 0 when training is through, 1 if it cannot continue, 128 + n if signal n stopped it."""
    args = make_parser().parse(argv)
    from functools import partial

    from flowgression.training.autoencoder import AutoencoderSession, AutoencoderTrainer
    from flowgression.training.errors import RunError
    from flowgression.training.loop import train

    config = make_config(args)
    describe = perceptual_maps(config.device) if args.perceptual else None
    trainer = partial(AutoencoderTrainer, describe=describe)
    try:
        result = train(config, resume=args.resume, make_trainer=trainer, make_session=AutoencoderSession)
    except RunError as error:
        say(f"flowgression train-autoencoder: {error}", file=sys.stderr)
        return 1
    if result.pipeline is None:
        say(f"Stopped at step {result.step}; saved {result.checkpoint}. Resume with the same command and --resume.")
        return 128 + (result.stopped_by or 0)
    say(f"Trained {result.step} steps. The autoencoder is in {result.pipeline}{quality(result.pipeline, config)}.")
    words = ("flowgression", "train", "--data.path", args.data, "--autoencoder", args.out, "--minutes", "30")
    say(f"  {shlex.join(words)}")
    return 0


def make_config(args: Any) -> Any:
    """The run that the arguments describe."""
    from flowgression.data.config import DataConfig
    from flowgression.data.facts import look_at_pictures
    from flowgression.training.autoencoder import AutoencoderConfig, NetworkConfig
    from flowgression.training.settings import EmaConfig, OptimizerConfig, PreviewConfig, ScheduleConfig

    try:
        widths = tuple(int(width) for width in args.widths.split(","))
    except ValueError:
        raise InputError(f"--widths {args.widths!r}: expected whole numbers with commas, such as 16,32,48,64") from None
    data = DataConfig(args.data, split=args.split, image_size=args.image_size, channels=args.channels)
    total = look_at_pictures(data).total
    length = {"max_steps": args.max_steps} if args.max_steps else {"minutes": args.minutes or 30.0}
    return AutoencoderConfig(
        autoencoder=NetworkConfig(
            latent_channels=args.latent_channels, widths=widths, perceptual=args.perceptual, kl=args.kl
        ),
        data=DataConfig(**{**vars(data), "validation": HELD_OUT if total >= ENOUGH else 0.0}),
        sequence_length=1,
        batch_size=args.batch_size,
        clock=args.clock,
        optimizer=OptimizerConfig(lr=args.lr, beta2=0.99, weight_decay=0.0, clip_norm=1.0, clip_value=None),
        schedule=ScheduleConfig(name="cosine", warmup_steps=WARMUP),
        ema=EmaConfig(decay=EMA),
        preview=PreviewConfig(every=500),
        device=args.device,
        num_threads=args.num_threads,
        seed=args.seed,
        out=args.out,
        log_every=20,
        checkpoint_every=500,
        tracker="none",
        **length,
    )


def perceptual_maps(device: str) -> Any:
    """What the extractor pictures-1 sees in colour images float [B, 3, H, W] in [-1, 1], of its first three stages."""
    from flowgression.devices import pick_device
    from flowgression.evaluation.features.names import PICTURE_FEATURES
    from flowgression.evaluation.features.registry import load_extractor

    network: Any = load_extractor(PICTURE_FEATURES, device=pick_device(device)).network.requires_grad_(False)
    return lambda images: network.maps(images)[:3]


def quality(folder: Path, config: Any) -> str:
    """What becomes of held-out pictures, as a part of a sentence; nothing where none are held out."""
    if not config.data.validation:
        return ""
    from flowgression.autoencoders.loading import load_vae
    from flowgression.data import open_dataset
    from flowgression.data.held_out import hold_out
    from flowgression.training.autoencoder import MEASURED, images_of, psnr, reconstructed

    held_out = hold_out(open_dataset(config.data), config.data.validation, config.seed)[1]
    images = images_of(held_out, MEASURED, config.seed)
    found = psnr(reconstructed(load_vae(str(folder)), images), images).item()
    return f"; of {len(images)} pictures that it never saw, PSNR {found:.2f} dB"
