"""`flowgression font`: a font file from pictures of some letters."""

import argparse
from pathlib import Path
from typing import Any

from flowgression.cli._examples import example_files
from flowgression.cli._options import add_option_flags
from flowgression.cli._parser import CommandParser
from flowgression.cli.sample import call_arguments
from flowgression.errors import InputError, reading
from flowgression.text import say

SUMMARY = "make a font from pictures of a few letters"

DESCRIPTION = """Show a few letters, and get a font: the model draws all other characters in their style, outlines are
traced, widths and kerning are found, and a TrueType file is written. Letters are dark on light paper or light on dark.

  flowgression font --photo page.jpg --text Rags --out mine.ttf      letters in a row on paper, from left to right
  flowgression font --examples A=a.png g=g.png --out mine.ttf        a picture of each, or a folder of such files"""

# Chosen on held-out families of the training fonts.
OPTIONS: dict[str, Any] = {
    "num_inference_steps": 10,
    "guidance_scale": 1.0,
    "example_guidance_scale": 2.0,
    "history": "none",
}
CANDIDATES, MOST_CANDIDATES = 5, 99  # the first chosen there too; each takes as long as one alone
VISIBLE = 3  # the sheet's glyphs are enlarged so many times


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("font", DESCRIPTION)
    add = parser.add_argument
    add("--examples", nargs="+", metavar="PATH", help="CHARACTER=FILE, or a folder of files that are named so")
    add("--photo", metavar="FILE", help="a picture of letters in a row, with gaps between them")
    add("--text", metavar="LETTERS", help="what the photo shows, from left to right, each letter once")
    add("--name", default="My Hand", help="of the font (My Hand)")
    add("--out", required=True, metavar="FILE", help="the font, X.ttf")
    add("--sheet", metavar="FILE", help="also a picture of all characters, X.png")
    add("--redraw", action="store_true", help="draw the shown letters too, instead of taking them as they are")
    add("--model", default="arflow-glyphs", help="built-in name, folder, or owner/name on the hub (arflow-glyphs)")
    add(
        "--candidates",
        type=int,
        default=CANDIDATES,
        metavar="N",
        help=f"draw each character N times and keep the ink that most draws have; 1: the first draw ({CANDIDATES})",
    )
    add_option_flags(parser, list(OPTIONS), OPTIONS)
    parser.add_seed("another seed is another font")
    parser.add_num_threads()
    return parser


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    args = make_parser().parse(argv)
    check(args)
    from flowgression.data.fonts.dataset import character_of
    from flowgression.sampling.loading import load_pipeline
    from flowgression.typeface.build import build_font, save_font
    from flowgression.typeface.letters import place

    pipe = load_pipeline(args.model)
    characters = [character_of(name) for name in pipe.class_names]
    if None in characters:
        raise InputError(f"--model {args.model} has classes that are no characters, such as {pipe.class_names[0]!r}")
    shown = place(letters_shown(pipe, args), pipe.transformer.size[0])
    glyphs = draw(pipe, shown, args)
    if not args.redraw:
        glyphs |= shown
    save_font(build_font(glyphs, args.name), Path(args.out))
    say(f"wrote {args.out}: {args.name}, {len(glyphs)} characters from {len(shown)} letters")
    if args.sheet:
        write_sheet(glyphs, Path(args.sheet))
        say(f"wrote {args.sheet}")
    return 0


def check(args: argparse.Namespace) -> None:
    """InputError unless letters come from one source, files have their endings and numbers are in range."""
    if (args.photo is None) == (args.examples is None):
        raise InputError("give either --examples, pictures of single letters, or --photo, a picture of some in a row")
    if (args.photo is None) != (args.text is None):
        raise InputError("--photo and --text go together: --text says which letters the photo shows")
    if not 1 <= args.candidates <= MOST_CANDIDATES:
        raise InputError(f"--candidates {args.candidates}: expected 1 to {MOST_CANDIDATES} draws of each character")
    for name, value, ending in (("out", args.out, ".ttf"), ("sheet", args.sheet, ".png")):
        if value is not None and Path(value).suffix.lower() != ending:
            raise InputError(f"--{name} {value}: expected a file that ends in {ending}")


def letters_shown(pipe: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Ink float32 [H, W] of each character that is shown.

    Raises:
        InputError: what is no picture, no character of the model, or shown twice.
    """
    from PIL import Image

    from flowgression.data.fonts.dataset import character_of
    from flowgression.typeface.letters import as_ink, cut

    fix = "give an image file"
    if args.photo:
        with reading(f"--photo {args.photo}", fix), Image.open(args.photo) as photo:
            photo.load()
            shown = cut(photo, args.text)
            pipe.class_ids(list(shown))
            return shown
    shown = {}
    for label, path in example_files(pipe, args.examples):
        if label is None:
            raise InputError(f"--examples {path}: which character is it? Name it: A={path}, or call the file A.png")
        character = character_of(pipe.class_names[pipe.class_ids(label)[0]]) or label
        if character in shown:
            raise InputError(f"--examples {path}: {character!r} is shown twice; give one picture of each character")
        with reading(f"--examples {path}", fix), Image.open(path) as picture:
            picture.load()
            try:
                shown[character] = as_ink(picture)
            except InputError as error:
                raise InputError(f"--examples {path}: {error}") from error
    return shown


def draw(pipe: Any, shown: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """All characters of the model in the style of those shown: uint8 [s, s] of each."""
    import numpy as np
    import torch

    from flowgression.data.fonts.dataset import character_of
    from flowgression.typeface.typical import typical

    count = len(pipe.class_names)
    # Each draw goes on with the noise of the one before, so the first one does not depend on how many there are.
    generators = [torch.Generator().manual_seed(args.seed * count + index) for index in range(count)]
    draws = []
    for _ in range(args.candidates):
        images = pipe(
            class_labels=list(range(count)),
            examples=torch.from_numpy(np.stack(list(shown.values())))[:, None],
            example_labels=list(shown),
            generator=generators,
            output_type="np",
            **{**OPTIONS, **call_arguments(pipe, args)},
        ).images
        draws.append((255 * images[..., 0]).round().astype(np.uint8))
    pixels = typical(np.stack(draws))
    return {character_of(name) or name: glyph for name, glyph in zip(pipe.class_names, pixels, strict=True)}


def write_sheet(glyphs: dict[str, Any], path: Path) -> None:
    """All characters in one picture, black on white."""
    import numpy as np

    from flowgression.sampling.images import make_grid, save_png

    pictures = 255 - np.stack(list(glyphs.values()))[..., None]
    save_png(make_grid(pictures, columns=14, scale=VISIBLE), path)
