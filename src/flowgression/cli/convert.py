"""`flowgression convert`: weights of the authors' releases to a folder that from_pretrained and sample load."""

import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from flowgression.cli._outputs import check_folder
from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError, did_you_mean

SUMMARY = "turn released weights into a model folder"

DESCRIPTION = """Turn a checkpoint of the authors' released code (.pt, .pth or .safetensors) into a folder that
`flowgression sample --model` and from_pretrained load. The averaged weights are taken where a checkpoint holds both.
The model's sizes are read from the shapes."""


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("convert", DESCRIPTION)
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="the released checkpoint")
    add("--family", required=True, help="arflow, sit or flowar")
    add("--out", required=True, metavar="DIR", help="the folder to write")
    add("--num-heads", type=int, metavar="A", help="attention heads, where no shape shows them (the published size's)")
    add("--vae", metavar="NAME", help="AutoencoderKL to include: a folder, or owner/name on the hub (none)")
    add(
        "--class-names",
        metavar="FILE",
        help='names of the classes: one per line, or JSON {"0": "tench", ...} (none)',
    )
    return parser


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    args = make_parser().parse(argv)
    from flowgression.models.registry import FAMILIES

    if args.family not in FAMILIES:
        raise InputError(f"unknown family {args.family!r}: {did_you_mean(args.family, FAMILIES)}")
    names = read_class_names(Path(args.class_names)) if args.class_names else None
    check_folder(Path(args.out))
    from flowgression.sampling.loading import make_pipeline

    model = load_released(args.family, args.weights, args.num_heads)
    pipe = make_pipeline(model, vae=load_vae(args.vae) if args.vae else None, id2label=names)
    pipe.save_pretrained(args.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"wrote {args.out}: {type(model).__name__} with {count:,} parameters")
    return 0


def load_released(family: str, weights: str, num_heads: int | None) -> Any:
    """The model of a released checkpoint.

    Raises:
        InputError: an unreadable file, another model's weights, or --num-heads where the weights show the heads.
    """
    function = import_module(f"flowgression.models.{family}.convert").load_released
    if num_heads is None:
        return function(weights)
    if "num_heads" not in inspect.signature(function).parameters:
        raise InputError(f"--num-heads: the weights of {family} show their heads; leave it out.")
    return function(weights, num_heads=num_heads)


def load_vae(name: str) -> Any:
    """An AutoencoderKL from a folder or the hub.

    Raises:
        InputError: there is none of that name.
    """
    if Path(name).is_file():
        raise InputError(f"--vae {name} is a file; give the folder of an AutoencoderKL, or owner/name on the hub.")
    from diffusers import AutoencoderKL

    try:
        return AutoencoderKL.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--vae {name!r}: no AutoencoderKL can be loaded from there ({reason}).") from error


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
        return {int(key): str(value) for key, value in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f'--class-names {path} must hold {{"0": "name", ...}} ({error}).') from error
