"""`flowgression convert`: weights of the authors' releases to a folder that from_pretrained and sample load."""

import argparse
import hashlib
import inspect
from pathlib import Path
from typing import Any

from flowgression.cli._outputs import check_folder
from flowgression.cli._parser import CommandParser
from flowgression.documents import parse_json
from flowgression.errors import InputError, did_you_mean
from flowgression.registry import FAMILIES, find_family
from flowgression.text import say

SUMMARY = "turn released weights into a model folder"

DESCRIPTION = """Turn a checkpoint of the authors' released code (.pt, .pth or .safetensors) into a folder that
`flowgression sample --model` and from_pretrained load. The EMA weights are taken where a checkpoint holds both.
The model's sizes are read from the shapes. The family mar-vae makes an AutoencoderKL of MAR's KL-16 (kl16.ckpt) or of
any checkpoint in the layout of latent diffusion. The folder has a model card, and can be uploaded to the hub."""

AUTOENCODER = "mar-vae"
RELEASED = [family.name for family in FAMILIES.values() if family.converter is not None]


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("convert", DESCRIPTION)
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="the released checkpoint")
    add("--family", required=True, help=f"{', '.join(RELEASED)} or {AUTOENCODER}")
    add("--out", required=True, metavar="DIR", help="the folder to write")
    add("--num-heads", type=int, metavar="A", help="attention heads, where no shape shows them (the published size's)")
    add("--num-classes", type=int, metavar="C", help="classes, where the table of labels has no row for the null label")
    add("--vae", metavar="NAME", help="AutoencoderKL to include: a folder, sd-vae, or owner/name on the hub (none)")
    add("--scaling-factor", type=float, metavar="S", help="mar-vae: what models multiply latents by (0.2325)")
    add("--license", metavar="ID", help="licence of the weights for the model card, such as mit (not stated)")
    add("--push-to-hub", metavar="OWNER/NAME", help="upload the folder to the Hugging Face hub")
    add("--private", action="store_true", help="with --push-to-hub: make a private repository")
    add(
        "--class-names",
        metavar="FILE",
        help='names of the classes: one per line, or JSON {"0": "tench", ...} (none)',
    )
    return parser


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    args = make_parser().parse(argv)
    if args.family not in (*RELEASED, AUTOENCODER):
        raise InputError(f"unknown family {args.family!r}: {did_you_mean(args.family, [*RELEASED, AUTOENCODER])}")
    check_options(args)
    names = read_class_names(Path(args.class_names)) if args.class_names else None
    from flowgression.sampling.hub import check_upload, push_to_hub, save_card

    if args.push_to_hub:
        check_upload(args.push_to_hub)
    check_folder(Path(args.out))
    model, card = convert_autoencoder(args) if args.family == AUTOENCODER else convert_model(args, names)
    save_card(card, args.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    say(f"wrote {args.out}: {type(model).__name__} with {count:,} parameters")
    if names is None and args.family != AUTOENCODER:
        say(f"It has {model.config.num_classes} classes without names; --class-names FILE gives them some.")
    if args.push_to_hub:
        say(f"uploaded to {push_to_hub(args.out, args.push_to_hub, private=args.private)}")
    return 0


def check_options(args: argparse.Namespace) -> None:
    """Raise InputError for an option that the family does not have."""
    models_only = {
        "--vae": args.vae, "--num-heads": args.num_heads, "--num-classes": args.num_classes,
        "--class-names": args.class_names,
    }  # fmt: skip
    if args.family == AUTOENCODER:
        if wrong := [flag for flag, value in models_only.items() if value is not None]:
            raise InputError(f"{wrong[0]} has no meaning for an autoencoder; leave it out.")
    elif args.scaling_factor is not None:
        raise InputError("--scaling-factor belongs to --family mar-vae; a model takes that of its --vae.")
    if args.private and not args.push_to_hub:
        raise InputError("--private goes with --push-to-hub OWNER/NAME.")


def convert_model(args: argparse.Namespace, names: dict[int, str] | None) -> tuple[Any, str]:
    """Write the pipeline's folder. Returns the model and the card."""
    from flowgression.autoencoders.loading import load_vae
    from flowgression.autoencoders.presets import PRESETS
    from flowgression.sampling.hub import pipeline_card
    from flowgression.sampling.loading import make_pipeline

    model = load_released(args.family, args.weights, num_heads=args.num_heads, num_classes=args.num_classes)
    autoencoder = find_family(args.family).autoencoder
    latents = None if autoencoder is None else PRESETS[autoencoder]
    space = None
    if latents is not None and model.config.in_channels == latents.latent_channels:
        space = {"scaling_factor": latents.scaling_factor, "shift_factor": 0.0}
    vae = load_vae(args.vae) if args.vae else None
    pipe = make_pipeline(model, vae=vae, id2label=names, latent_space=space)
    pipe.save_pretrained(args.out)
    return model, pipeline_card(pipe, title(args), origin=origin(args), license=args.license)


def convert_autoencoder(args: argparse.Namespace) -> tuple[Any, str]:
    """Write the autoencoder's folder. Returns the autoencoder and the card."""
    from flowgression.autoencoders.released import load_released as load_autoencoder
    from flowgression.sampling.hub import autoencoder_card

    scale = {} if args.scaling_factor is None else {"scaling_factor": args.scaling_factor}
    vae = load_autoencoder(args.weights, **scale)
    vae.save_pretrained(args.out)
    return vae, autoencoder_card(vae, title(args), origin=origin(args), license=args.license)


def title(args: argparse.Namespace) -> str:
    """What the model is called in its card."""
    return args.push_to_hub or Path(args.out).name


def origin(args: argparse.Namespace) -> str:
    """Where the weights come from, to the bit."""
    path = Path(args.weights)
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return f"Converted from the released checkpoint `{path.name}` (SHA-256 `{checksum}`)."


def load_released(family: str, weights: str, **sizes: int | None) -> Any:
    """The model of a released checkpoint.

    Args:
        sizes: num_heads and num_classes, where they are given.

    Raises:
        InputError: an unreadable file, another model's weights, or a size that the weights themselves show.
    """
    function = find_family(family).load_released()
    given = {name: value for name, value in sizes.items() if value is not None}
    for name in given:
        if name not in inspect.signature(function).parameters:
            what = {"num_heads": "heads", "num_classes": "classes"}[name]
            raise InputError(f"--{name.replace('_', '-')}: the weights of {family} show their {what}; leave it out.")
    return function(weights, **given)


def read_class_names(path: Path) -> dict[int, str]:
    """Class names by id from a JSON object, or from lines of text, the first being class 0.

    Raises:
        InputError: the file is missing or of another form.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--class-names {path} cannot be read ({error}).") from error
    if path.suffix != ".json":
        return dict(enumerate(text.splitlines()))
    try:
        return {int(key): str(value) for key, value in parse_json(text).items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f'--class-names {path} must hold {{"0": "name", ...}} ({error}).') from error
