"""A configuration for pictures of one's own, chosen by looking at them and by a measurement of the machine.

What it chooses between was compared at equal processor time; docs/log/pictures.md has the table.
"""

import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from flowgression.data.config import DataConfig
from flowgression.data.facts import PictureFacts, look_at_pictures
from flowgression.data.latents.index import is_cache
from flowgression.data.opening import open_dataset
from flowgression.flops import count_flops
from flowgression.registry import build_model

RECIPE = "pictures"  # the shipped configuration that everything else is taken from
TOKENS_SIDE = 4  # patches a side: twice as many cost four times the time
SMALL, LARGE = 32, 64  # pixels a side
MINUTES_FOR_LARGE = 20.0
SIZES = ((128, 6), (192, 8), (256, 10), (384, 12))  # width and depth
IMAGES_TO_SEE = 300_000  # a wider network, or smaller patches, are taken where it still sees so many
FEW_IMAGES, MANY_IMAGES = 300, 1_000  # below: the narrowest network and dropout; augmentation and a warning
AUGMENT, DROPOUT = 0.15, 0.1  # of few images
VALIDATION, ENOUGH_TO_HOLD_OUT = 0.05, 400  # share of the images, and of how many it is held out
CALIBRATION = 5.0  # seconds
OVERHEAD = 1.4  # optimiser, clipping, average, previews: time of a step over that of its gradient
OUTLOOK = (  # images seen, and what pictures looked like then (docs/your-pictures.md)
    (30_000, "colours and rough forms; give it more time"),
    (120_000, "the right colours and forms, few details"),
    (500_000, "objects that can be recognised in many pictures"),
)


class Choice(NamedTuple):
    """A configuration, nested as in YAML, and the reasons for it, a sentence each."""

    values: dict[str, Any]
    reasons: list[str]


def choose(data: DataConfig, minutes: float | None, clock: str = "wall") -> Choice:
    """A configuration for the pictures of `data`, which `minutes` (None: 30) of this machine can train.

    Raises:
        InputError: the pictures cannot be read.
    """
    values = recipe()
    minutes = values["minutes"] if minutes is None else minutes
    facts = look_at_pictures(data)
    values["data"] = {"path": data.path}
    if is_cache(Path(data.path).expanduser()):
        latents = open_dataset(data)
        size, channels = latents.image_size, latents.channels
    else:
        size, channels = data.image_size or _image_size(facts, minutes), data.channels or (1 if facts.grey else 3)
        values["data"] |= {"image_size": size, "channels": channels}
        values["data"]["augment"] = AUGMENT if facts.total < MANY_IMAGES else 0.0
    values["data"]["validation"] = VALIDATION if facts.total >= ENOUGH_TO_HOLD_OUT else 0.0
    args = {**values["model"]["args"], "patch_size": _patch_size(size)}
    shape = {"sample_size": size, "in_channels": channels, "num_classes": len(facts.counts)}
    speed = measured_speed(values["model"]["family"], {**args, **shape}, clock)
    network, images = _network(values["model"]["family"], {**args, **shape}, speed * minutes * 60, facts.total)
    values["model"]["args"] = args | network
    if facts.total < FEW_IMAGES:
        values["model"]["args"]["dropout"] = DROPOUT
    values |= {"minutes": minutes, "out": default_out(data)}
    schedule = values["schedule"]
    schedule["warmup_steps"] = min(schedule["warmup_steps"], 1 + images // values["batch_size"] // 10)
    classes = len(facts.counts)
    values["preview"]["num_images"] = classes * max(1, min(8, 40 // classes))
    if classes == 1:
        values["preview"]["guidance_scale"] = 1.0  # the label says nothing
    return Choice(values, _reasons(facts, values, size, speed, images))


def recipe() -> dict[str, Any]:
    """The configuration to start from."""
    return yaml.safe_load((resources.files("flowgression") / "configs" / f"{RECIPE}.yaml").read_text())


def default_out(data: DataConfig) -> str:
    """The folder of a run on these pictures."""
    return str(Path("runs") / (Path(data.path).expanduser().resolve().name or "pictures"))


def _image_size(facts: PictureFacts, minutes: float) -> int:
    if facts.common_size is not None and facts.common_size <= SMALL:
        return facts.common_size
    return LARGE if facts.median_side >= LARGE and minutes >= MINUTES_FOR_LARGE else SMALL


def _patch_size(size: int) -> int:
    """The divisor of `size` that makes about TOKENS_SIDE patches a side, twice as many of large pictures: patches of
    16 pixels show as a mosaic.
    """
    wanted = TOKENS_SIDE if size < LARGE else 2 * TOKENS_SIDE
    return min((p for p in range(1, size + 1) if size % p == 0), key=lambda p: abs(size / p - wanted))


def _network(family: str, args: Mapping[str, Any], work: float, total: int) -> tuple[dict[str, int], int]:
    """The arguments that set the size, and the images that training will see in `work` FLOP."""
    chosen, seen = _sized(SIZES[0]), 0
    for size in SIZES:
        model = build_model(family, **{**args, **_sized(size)})
        images = int(work / (OVERHEAD * 3 * _forward_flops(model, 1)))
        if seen and (images < IMAGES_TO_SEE or total < FEW_IMAGES):
            break
        chosen, seen = _sized(size), max(images, 1)
    return chosen, seen


def _sized(size: tuple[int, int]) -> dict[str, int]:
    width, depth = size
    return {"hidden_size": width, "depth": depth, "num_heads": width // 32}


def measured_speed(family: str, args: Mapping[str, Any], clock: str = "wall") -> float:
    """FLOP/s of forward and backward passes of the smallest network, measured for five seconds."""
    read = time.process_time if clock == "processor" else time.perf_counter
    model, rows = build_model(family, **{**args, **_sized(SIZES[0])}), 16
    work, done, end = 3 * _forward_flops(model, rows), 0, time.perf_counter() + CALIBRATION
    _gradient(model, rows)  # warms up
    begin = read()
    while time.perf_counter() < end or not done:
        _gradient(model, rows)
        done += 1
    return done * work / max(read() - begin, 1e-9)


def _forward(model: Any, rows: int) -> Any:
    x = torch.zeros(rows, model.config.in_channels, *model.size)
    return model(x, torch.full((rows,), 0.5), torch.zeros(rows, dtype=torch.int64)).velocity


def _gradient(model: Any, rows: int) -> None:
    _forward(model, rows).square().mean().backward()


def _forward_flops(model: Any, rows: int) -> int:
    with torch.no_grad():
        return count_flops(lambda: _forward(model, rows))


def _reasons(facts: PictureFacts, values: Mapping[str, Any], size: int, speed: float, images: int) -> list[str]:
    args, total = values["model"]["args"], facts.total
    unit = "pixels" if "image_size" in values["data"] else "latents"
    sides = f"{facts.smallest} to {facts.largest} pixels" if facts.smallest != facts.largest else f"{facts.smallest}"
    outlook = next((text for least, text in reversed(OUTLOOK) if images >= least), "colour fields; give it more time")
    said = [
        f"{total} {'grey' if facts.grey else 'colour'} images, short sides {sides}"
        + (", transparent ones on white" if facts.transparent else "")
        + ": "
        + ", ".join(f"{name} {count}" for name, count in facts.counts.items()),
        f"This machine: {speed / 1e9:.0f} GFLOP/s in training, so about {images:,} images in {values['minutes']:g} "
        f"minute{'s' * (values['minutes'] != 1)}, each {images / total:.{0 if images >= total else 1}f} times.",
        f"{values['model']['family']}, {size} x {size} {unit}, patches of {args['patch_size']}, width "
        f"{args['hidden_size']}, depth {args['depth']}; the network predicts the image. Expect {outlook}.",
    ]
    if values["data"]["validation"]:
        said.append(
            f"{values['data']['validation']:.0%} of the images are held out, and the weights with the lowest loss on "
            "them are taken (data.validation)."
        )
    if total < MANY_IMAGES:
        dropout = f" and dropout ({args['dropout']:g})" if args.get("dropout") else ""
        if values["data"].get("augment"):
            said.append(f"Few images: they are changed at random, which the network is told (data.augment){dropout}.")
        said.append(
            f"A network can learn {total} images by heart all the same. Look at the nearest training images of what it "
            "draws: `flowgression nearest`."
        )
    return said
