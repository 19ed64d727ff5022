"""What a model that reads examples makes of fonts that nobody trained on: the table of docs/glyphs.md.

    python benchmarks/glyphs.py --fonts fonts/judge --train fonts/train [--model arflow-glyphs] [--picture sheet.png]

One font of every family that has all letters and digits. For each, K of its characters are shown and 10 others drawn.
Columns: the mean difference from the true glyphs (0 to 1); how often the font is the nearest of all (mean squared
difference of the one glyph) to what was drawn; how often a classifier of real glyphs names what was drawn, of all and
of those whose true glyph it names. The last rows need no network: the glyphs of the training font whose K examples are
nearest. Intervals are over fonts.

F fonts, K examples, T targets, H = W pixels.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from glyph_classifier import Classifier, classifier_of
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from flowgression.cli.font import CANDIDATES, OPTIONS
from flowgression.data import DataConfig, open_dataset
from flowgression.data.config import FontsConfig
from flowgression.data.fonts.collect import distances, shapes
from flowgression.data.fonts.dataset import GlyphImages
from flowgression.evaluation.hardware import processor_name
from flowgression.files import atomic_write
from flowgression.sampling.images import save_png
from flowgression.sampling.loading import load_pipeline
from flowgression.typeface.typical import typical

TARGETS = 10
LETTERS = 62  # A-Z a-z 0-9, the first of the characters
NEAR = 0.04  # a training font nearer than this in mean squared difference of letters is a near relative


class Font(NamedTuple):
    """What is asked of one font: characters shown and drawn, by their ids."""

    number: int
    shown: NDArray[np.int64]
    drawn: NDArray[np.int64]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="arflow-glyphs")
    parser.add_argument("--fonts", required=True, help="folder of the fonts that are judged")
    parser.add_argument("--train", required=True, help="folder of the fonts that the model was trained on")
    parser.add_argument("--split", default="all", help="of --fonts (all)")
    parser.add_argument("--examples", type=int, nargs="*", default=[0, 1, 4, 8], metavar="K")
    parser.add_argument("--steps", type=int, default=OPTIONS["num_inference_steps"])
    parser.add_argument("--guidance", type=float, default=OPTIONS["guidance_scale"])
    parser.add_argument("--example-guidance", type=float, default=OPTIONS["example_guidance_scale"])
    parser.add_argument("--history", default=OPTIONS["history"])
    parser.add_argument(
        "--candidates", type=int, nargs="*", default=[1, CANDIDATES], metavar="N", help=f"draws (1 {CANDIDATES})"
    )
    parser.add_argument("--families", type=int, metavar="N", help="the first N only")
    parser.add_argument(
        "--classifier", default="runs/glyph-classifier.pt", help="made there if not there; none: no column"
    )
    parser.add_argument("--out", metavar="JSON", help="keep every row here, and measure none again that it holds")
    parser.add_argument("--picture", help="a PNG: K = 4 examples, what is drawn, the true glyphs")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    size = pipe.transformer.size[0]
    judged, train = (
        open_dataset(DataConfig(path=f"fonts:{folder}", split=split, image_size=size, fonts=options))
        for folder, split, options in (
            (args.fonts, args.split, FontsConfig()),
            (args.train, "train", FontsConfig(most_per_family=12)),
        )
    )
    assert isinstance(judged, GlyphImages) and isinstance(train, GlyphImages)  # noqa: PT018
    fonts = choose(judged, args.families)
    true = as_images(judged.fonts.images[[font.number for font in fonts]])
    kept = Kept(args.out)
    numbers = [font.number for font in fonts]
    near = np.array(kept("near relatives", lambda: [relatives(judged, train, numbers).tolist()])[0])
    classifier = None if args.classifier == "none" else classifier_of(train, Path(args.classifier))
    options = {
        "num_inference_steps": args.steps,
        "guidance_scale": args.guidance,
        "example_guidance_scale": args.example_guidance,
        "history": args.history,
    }
    print(f"{len(fonts)} families of {args.fonts}, {int(near.sum())} of them with a near relative in {args.train}")
    print(f"model {args.model}, {options}; {processor_name(torch.device('cpu'))}")
    print("\n| examples | difference | own font is nearest | named by the classifier | of those named if true |")
    print("|---|---:|---:|---:|---:|")
    readable = None if classifier is None else named(classifier, fonts, targets_of(fonts, true))
    measured = {}

    def row(name: str, key: str, make: Callable[[Font, Tensor], Tensor], picture: str | None = None) -> None:
        def measure() -> list[list[float]]:
            drawn = torch.stack([make(font, images) for font, images in zip(fonts, true, strict=True)])
            if picture:
                save_png(Image.fromarray(sheet(fonts, true, drawn, 4)), picture)
            return [column.tolist() for column in columns_of(fonts, true, drawn, classifier, readable)]

        measured[name] = [torch.tensor(column) for column in kept(key, measure)]
        print(f"| {name} | {' | '.join(cells(measured[name], readable))} |", flush=True)

    for count, candidates in product(args.examples, args.candidates):
        make = partial(draw, pipe, count=count, options=options, candidates=candidates)
        several = f", median of {candidates} draws" if candidates > 1 else ""
        last = count == 4 and candidates == args.candidates[-1]
        row(f"{count}{several}", f"{args.model}, {options}, {count}{several}", make, args.picture if last else None)
    for count in (1, 4, 8):
        row(f"no network, {count}", f"no network, {count}", partial(nearest, train, count=count))
    row("the true glyphs", "the true glyphs", lambda font, images: images[font.drawn])
    print("\n| paired by font | difference | own font is nearest, points |\n|---|---:|---:|")
    pairs_of_rows = [(ours, f"no network, {ours.split(',')[0]}") for ours in measured if ours[0].isdigit()]
    pairs_of_rows += [(ours, ours.split(",")[0]) for ours in measured if ours[0].isdigit() and "," in ours]
    pairs_of_rows += [(ours, "4" + ours[1:]) for ours in measured if ours[0] == "8"]
    for ours, theirs in pairs_of_rows:
        if ours in measured and theirs in measured:
            pairs = list(zip(measured[ours][:2], measured[theirs][:2], strict=True))
            apart = groups(near) if theirs.startswith("no network") else groups(near)[:1]
            for title, chosen in apart:
                texts = [form(mine[chosen] - other[chosen]) for form, (mine, other) in zip(FORMS, pairs, strict=False)]
                print(f"| {ours} - {theirs}{title} | {' | '.join(texts)} |")


def choose(dataset: GlyphImages, most: int | None) -> list[Font]:
    """One font of each family that has all letters and digits, with what is shown and drawn of it."""
    random = np.random.default_rng(0)
    complete = dataset.fonts.present[:, :LETTERS].all(1)
    result = []
    for number in np.unique(dataset.fonts.clusters):
        members = np.flatnonzero((dataset.fonts.clusters == number) & complete)
        order = random.permutation(LETTERS)
        if len(members):
            result.append(Font(int(members[0]), order[: LETTERS - TARGETS], order[LETTERS - TARGETS :]))
    return result[:most]


def as_images(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [..., H, W] -> float32 [..., 1, H, W] in [0, 1], ink 1."""
    return torch.from_numpy(pixels).float().div(255).unsqueeze(-3)


def relatives(judged: GlyphImages, train: GlyphImages, numbers: list[int]) -> NDArray[np.bool_]:
    """Which of the fonts have a near relative in training, bool [F]."""
    images = np.concatenate([judged.fonts.images[numbers], train.fonts.images])[:, :LETTERS]
    present = np.concatenate([judged.fonts.present[numbers], train.fonts.present])[:, :LETTERS]
    return distances(shapes(images), present)[: len(numbers), len(numbers) :].min(1) < NEAR


def draw(pipe: Any, font: Font, images: Tensor, count: int, options: dict[str, Any], candidates: int = 1) -> Tensor:
    """What the pipeline draws of a font [C, 1, H, W] of which it sees `count` characters: [T, 1, H, W] in [0, 1].

    candidates: how many draws, of which is taken what `flowgression font` takes.
    """
    given = dict(options)
    if count:
        shown = font.shown[:count]
        given |= {"examples": images[shown], "example_labels": shown.tolist()}
    else:
        given.pop("example_guidance_scale", None)
    generators = [torch.Generator().manual_seed(1000 * font.number + index) for index in range(TARGETS)]
    draws = [
        pipe(class_labels=font.drawn.tolist(), generator=generators, output_type="np", **given).images[..., 0]
        for _ in range(candidates)
    ]
    return as_images(typical((255 * np.stack(draws)).round().astype(np.uint8)))


def nearest(train: GlyphImages, font: Font, images: Tensor, count: int) -> Tensor:
    """The glyphs [T, 1, H, W] of the training font, of those that have all letters, whose `count` are nearest."""
    complete = np.flatnonzero(train.fonts.present[:, :LETTERS].all(1))
    shown = font.shown[:count]
    candidates = as_images(train.fonts.images[complete][:, shown])
    best = complete[int((candidates - images[shown]).square().mean((1, 2, 3, 4)).argmin())]
    return as_images(train.fonts.images[best][font.drawn])


class Kept:
    """What was measured, by name, in a JSON file if there is one."""

    def __init__(self, path: str | None) -> None:
        self.path = None if path is None else Path(path)
        known = self.path is not None and self.path.is_file()
        self.rows: dict[str, list[list[float]]] = json.loads(self.path.read_text()) if known and self.path else {}

    def __call__(self, name: str, measure: Callable[[], list[list[float]]]) -> list[list[float]]:
        """The columns of this name, measured if they are not known."""
        if name not in self.rows:
            self.rows[name] = measure()
            if self.path is not None:
                with atomic_write(self.path) as file:
                    file.write(json.dumps(self.rows).encode())
        return self.rows[name]


def targets_of(fonts: list[Font], true: Tensor) -> Tensor:
    """The true glyphs of what is drawn, [F, T, 1, H, W]."""
    return torch.stack([images[font.drawn] for font, images in zip(fonts, true, strict=True)])


def named(classifier: Classifier, fonts: list[Font], images: Tensor) -> Tensor:
    """Which of the glyphs [F, T, 1, H, W] the classifier names rightly, bool [F, T]."""
    labels = torch.from_numpy(np.stack([font.drawn for font in fonts]))
    return classifier.right(images.flatten(0, 1), labels.flatten()).view(len(fonts), -1)


def columns_of(
    fonts: list[Font], true: Tensor, drawn: Tensor, classifier: Classifier | None, readable: Tensor | None
) -> list[Tensor]:
    """What is measured of drawn glyphs [F, T, 1, H, W], [F] each.

    readable: whose true glyph the classifier names, bool [F, T]; the last column is of what it names among them.
    """
    difference = (drawn - targets_of(fonts, true)).abs().mean((1, 2, 3, 4))
    own = []
    for number, font in enumerate(fonts):
        of_all = true[:, font.drawn]  # [F, T, 1, H, W]
        own.append(((drawn[number] - of_all).square().mean((2, 3, 4)).argmin(0) == number).float().mean())
    columns = [difference, torch.stack(own)]
    if classifier is not None and readable is not None:
        right = named(classifier, fonts, drawn)
        columns += [right.float().mean(1), (right & readable).float().mean(1)]
    return columns


def groups(near: NDArray[np.bool_]) -> list[tuple[str, Tensor]]:
    """What rows are of: all fonts, and those without a near relative in training; bool [F]."""
    return [("", torch.ones(len(near), dtype=torch.bool)), (", no near relative", torch.from_numpy(~near))]


def cells(columns: list[Tensor], readable: Tensor | None) -> list[str]:
    """What was measured of all fonts, as text."""
    found = [form(values) for form, values in zip(FORMS, columns[:3], strict=False)]
    if readable is not None:
        found.append(percent(columns[3], readable.float().mean(1)))
    return found + ["-"] * (4 - len(found))


def bootstrap(values: Tensor, of: Tensor | None) -> tuple[float, float, float]:
    """The mean over fonts, as a share of the mean of `of` if given, and its interval of 95 %."""
    random = np.random.default_rng(0)
    whole = torch.ones_like(values) if of is None else of
    chosen = random.integers(len(values), size=(2000, len(values)))
    means = values.numpy()[chosen].mean(1) / whole.numpy()[chosen].mean(1)
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    return (values.mean() / whole.mean()).item(), low, high


def plain(values: Tensor, of: Tensor | None = None) -> str:
    """Mean and interval as they are."""
    mean, low, high = bootstrap(values, of)
    return f"{mean:.4f} [{low:.4f}, {high:.4f}]"


def percent(values: Tensor, of: Tensor | None = None) -> str:
    """Mean and interval in percent."""
    mean, low, high = (100 * each for each in bootstrap(values, of))
    return f"{mean:.1f} % [{low:.1f}, {high:.1f}]"


FORMS = (plain, percent, percent)  # of the columns


def sheet(fonts: list[Font], true: Tensor, drawn: Tensor, count: int, rows: int = 30) -> NDArray[np.uint8]:
    """A picture with a row for each font: examples, what was drawn, the true glyphs; black on white."""
    gap = torch.zeros(true.shape[-1], true.shape[-1] // 3)
    lines = []
    for font, images, made in zip(fonts[:rows], true, drawn, strict=False):
        parts = (images[font.shown[:count]], made, images[font.drawn])
        lines.append(torch.cat([piece for part in parts for piece in (*part[:, 0], gap)], dim=1))
    return (255 * (1 - torch.cat(lines))).round().to(torch.uint8).numpy()


if __name__ == "__main__":
    main()
