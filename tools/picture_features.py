"""Train the extractor `pictures-1` on free pictures: python tools/picture_features.py --out FOLDER [--steps N]

Open Clip Art (public domain), the icons of Oxygen, GNOME and MATE (LGPL, CC BY-SA, GPL) and crops of the photographs
that `tools/pictures.py photos` cuts; all from Debian packages. No emoji and no flags are among them, so that these
can test it.

The network names what a picture shows (a category of Open Clip Art, an icon's name, the photograph it was cut from) and
what was done to it: nothing, blur, tiles of one colour, noise of pixels, noise of colour, shuffled tiles or faded
contrast, and how strongly. One thread and seeded draws.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import pictures

from flowgression.data.transforms import to_pixels
from flowgression.evaluation.features.mnist import resize
from flowgression.evaluation.features.pictures import NUM_FEATURES, SIZE, PictureNetwork
from flowgression.files import atomic_write

PACKAGES = ("openclipart-png", "oxygen-icon-theme", "gnome-icon-theme", "mate-icon-theme")
ICON_SIZES = ("48x48", "128x128")
LEAST, MOST = 4, 120  # pictures of a class
LARGEST = 4e6  # pixels; a few clips are enormous
BATCH = 64
LR = 2e-3
DAMAGES = ("none", "blur", "tiles", "pixel noise", "colour noise", "shuffled", "faded")
SMALLEST = 24  # pixels to which pictures are shrunk, as small models make them


def gather(folder: Path) -> Iterator[tuple[str, Path]]:
    """(class, file) of all pictures."""
    clips = folder / "usr/share/openclipart/png"
    for file in sorted(clips.rglob("*.png")):
        yield "clip " + "/".join(file.relative_to(clips).parts[:2][: len(file.relative_to(clips).parts) - 1]), file
    for theme in ("oxygen/base", "gnome", "mate"):
        for size in ICON_SIZES:
            for file in sorted((folder / "usr/share/icons" / theme / size).rglob("*.png")):
                yield "icon " + file.stem, file
    for file in sorted((folder / "photos").rglob("*.png")):
        yield "photo " + file.stem.rpartition("-")[0], file


def read(found: list[tuple[str, Path]]) -> tuple[Tensor, Tensor, int]:
    """uint8 [N,3,64,64], class labels int64 [N] (-1: of a class with too few), and the number of classes."""
    Image.MAX_IMAGE_PIXELS = None  # files of Debian
    counts: Counter[str] = Counter()
    names: list[str] = []
    images = []
    for name, file in found:
        if not file.is_file():  # a link into another package
            continue
        counts[name] += 1
        if counts[name] > MOST:
            continue
        with Image.open(file) as image:
            if image.width * image.height < LARGEST:
                images.append(to_pixels(image, SIZE, 3).copy())
                names.append(name)
    kept = sorted(name for name, count in counts.items() if count >= LEAST)
    number = {name: index for index, name in enumerate(kept)}
    return torch.from_numpy(np.stack(images)), torch.tensor([number.get(name, -1) for name in names]), len(kept)


def damaged(x: Tensor, kind: int, level: float, random: torch.Generator) -> Tensor:
    """Pictures float [B,3,S,S] in [-1, 1], damaged in one way; level: 0 (hardly) to 1 (strongly)."""
    size = x.shape[-1]
    match DAMAGES[kind]:
        case "blur":
            small = max(4, round(size / (1.3 + 4 * level)))
            return F.interpolate(
                F.interpolate(x, size=small, mode="bilinear", antialias=True), size=size, mode="bicubic"
            )
        case "tiles":
            small = max(3, round(size / (2 + 8 * level)))
            return F.interpolate(F.interpolate(x, size=small, mode="area"), size=size, mode="nearest")
        case "pixel noise":
            return x + (0.05 + 0.7 * level) * torch.randn(x.shape, generator=random)
        case "colour noise":
            coarse = torch.randn(len(x), 3, 6, 6, generator=random)
            return x + (0.1 + 0.7 * level) * F.interpolate(coarse, size=size, mode="bicubic")
        case "shuffled":
            parts = 2 if level < 0.33 else 4 if level < 0.67 else 8
            side = size // parts
            tiles = F.unfold(x[..., : side * parts, : side * parts], side, stride=side)
            order = torch.randperm(tiles.shape[-1], generator=random)
            shuffled = F.fold(tiles[..., order], side * parts, side, stride=side)
            return F.interpolate(shuffled, size=size, mode="nearest") if side * parts != size else shuffled
        case "faded":
            mean = x.mean(dim=(2, 3), keepdim=True)
            return mean + (x - mean) * (0.8 - 0.7 * level)
    return x


def varied(images: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A batch uint8 [B,3,64,64] cropped, mirrored, shrunk and damaged: pixels in [-1, 1], kinds and levels [B]."""
    x = images.float().div(127.5).sub(1.0)
    side = int(torch.randint(SIZE * 2 // 3, SIZE + 1, (), generator=random))
    top, left = torch.randint(0, SIZE - side + 1, (2,), generator=random).tolist()
    x = x[..., top : top + side, left : left + side]
    if torch.rand((), generator=random) < 0.5:
        x = x.flip(-1)
    gain = 1 + 0.15 * torch.randn(len(x), 3, 1, 1, generator=random)
    x = (x + 1) * gain - 1
    size = SIZE if torch.rand((), generator=random) < 0.3 else SMALLEST + 8 * int(6 * torch.rand((), generator=random))
    x = resize(x, size).clamp(-1, 1)
    kinds = torch.zeros(len(x), dtype=torch.int64)
    levels = torch.zeros(len(x))
    for start in range(0, len(x), 8):  # eights are damaged alike
        if torch.rand((), generator=random) < 0.6:
            kind = int(torch.randint(1, len(DAMAGES), (), generator=random))
            level = float(torch.rand((), generator=random))
            x[start : start + 8] = damaged(x[start : start + 8], kind, level, random)
            kinds[start : start + 8], levels[start : start + 8] = kind, level
    x = ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1  # as files hold it
    return resize(x, SIZE), kinds, levels


def train(images: Tensor, labels: Tensor, num_classes: int, steps: int, seed: int) -> tuple[PictureNetwork, dict]:
    """`steps` steps; prints both losses now and then."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model = PictureNetwork()
    shows = nn.Sequential(nn.ReLU(), nn.Linear(NUM_FEATURES, num_classes))
    damage = nn.Linear(NUM_FEATURES, len(DAMAGES) + 1)
    parameters = [*model.parameters(), *shows.parameters(), *damage.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    begin, sums = time.process_time(), np.zeros(4)
    facts = {}
    for step in range(1, steps + 1):
        chosen = torch.randint(len(images), (BATCH,), generator=random)
        x, kinds, levels = varied(images[chosen], random)
        features = model.read(x)
        guessed = damage(features)
        named = labels[chosen] >= 0
        what = F.cross_entropy(shows(features)[named], labels[chosen][named])
        kind = F.cross_entropy(guessed[:, :-1], kinds)
        level = F.mse_loss(guessed[:, -1].sigmoid(), levels)
        optimizer.zero_grad()
        (what + kind + 4 * level + 1e-3 * features.square().mean()).backward()
        optimizer.step()
        schedule.step()
        right = (shows(features)[named].argmax(1) == labels[chosen][named]).float().mean()
        sums += [what.item(), kind.item(), right.item(), (guessed[:, :-1].argmax(1) == kinds).float().mean().item()]
        if step % 100 == 0 or step == steps:
            every = 100 if step % 100 == 0 else step % 100
            facts = dict(
                zip(("what", "damage", "named", "damage named"), (sums / every).round(3).tolist(), strict=True)
            )
            facts["seconds"] = round(time.process_time() - begin)
            print(f"{step}: {facts}", flush=True)
            sums[:] = 0
    return normalised(model.eval(), images), facts


@torch.inference_mode()
def normalised(model: PictureNetwork, images: Tensor) -> PictureNetwork:
    """The same network with features whose mean square over the pictures is 1, a fit scale for KID."""
    features = torch.cat([model(part) for part in images.split(500)])
    scale = features.double().square().mean().sqrt().float()
    model.features.weight.div_(scale)
    model.features.bias.div_(scale)
    return model


def main() -> int:
    """Fetch, train and write model.safetensors and config.json. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for model.safetensors and config.json")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="file of the pictures as arrays, made if it is not there")
    args = parser.parse_args()
    if args.cache and args.cache.is_file():
        held = torch.load(args.cache, weights_only=True)
        images, labels, num_classes = held["images"], held["labels"], held["classes"]
    else:
        with tempfile.TemporaryDirectory() as folder:
            pictures.debian(*PACKAGES, into=Path(folder))
            pictures.photos(Path(folder) / "photos")
            images, labels, num_classes = read(list(gather(Path(folder))))
        if args.cache:
            torch.save({"images": images, "labels": labels, "classes": num_classes}, args.cache)
    print(f"{len(images)} pictures, {num_classes} classes", flush=True)
    model, facts = train(images, labels, num_classes, args.steps, args.seed)
    with atomic_write(args.out / "model.safetensors") as file:
        file.write(save({name: value.contiguous() for name, value in model.state_dict().items()}))
    config = {"network": "PictureNetwork", "version": 1, "pictures": len(images), "classes": num_classes}
    config |= {"steps": args.steps, "batch_size": BATCH, "seed": args.seed, "last_100_steps": facts}
    with atomic_write(args.out / "config.json", "w") as file:
        file.write(json.dumps(config, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
