"""The kinds of cases: what is handed in to which command. `KINDS` is the table of contents."""

import json
import pickle
import random
import shutil
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image

from tests.fuzz.base import STUDY, TRAIN, Base
from tests.fuzz.harness import Case
from tests.fuzz.mutations import SMALL_NUMBERS, mutate_bytes, mutate_line, mutate_tree, odd_array
from tests.fuzz.naming import naming

Maker = Callable[[random.Random, Base, Path], Case]
CPU = ("--device", "cpu")


def with_output(place: Path, name: str) -> Path:
    """An output of an earlier command, which a failure must leave as it is."""
    path = place / name
    path.write_bytes(b"of an earlier command")
    return path


def changed_file(random: random.Random, source: Path, target: Path) -> Path:
    """A mutated copy of a file."""
    target.write_bytes(mutate_bytes(random, source.read_bytes()))
    return target


def copied(base: Base, name: str, place: Path) -> Path:
    """A copy of a folder of the base."""
    return Path(shutil.copytree(base.path(name), place / name))


def configuration(random: random.Random, base: Base, place: Path) -> Case:
    """A training configuration with wrong values, or damaged text; training itself is not started."""
    file = place / "train.yaml"
    if random.random() < 0.2:
        changed_file(random, base.path("train.yaml"), file)
    else:
        file.write_text(yaml.safe_dump(mutate_tree(random, TRAIN)))
    return Case(["train", "--config", "train.yaml"])


def planned(random: random.Random, base: Base, place: Path) -> Case:
    """The same, as far as a plan of the run goes: the network is built without memory, on small numbers."""
    tree = {**TRAIN, "data": {**TRAIN["data"], "path": str(base.path("images"))}}
    (place / "train.yaml").write_text(yaml.safe_dump(mutate_tree(random, tree, SMALL_NUMBERS)))
    return Case(["plan", "--config", "train.yaml"])


def training(random: random.Random, base: Base, place: Path) -> Case:
    """A run of one step with wrong values, into a folder of its own or one with a run."""
    tree = {**TRAIN, "data": {**TRAIN["data"], "path": str(base.path("images"))}}
    (place / "train.yaml").write_text(yaml.safe_dump(mutate_tree(random, tree, SMALL_NUMBERS)))
    flags = ["--max_steps", "1", "--device", "cpu", "--out", "run", "--num_threads", "1", "--data.num_workers", "0"]
    return Case(["train", "--config", "train.yaml", *flags, "--compile", "false"])


def resumed(random: random.Random, base: Base, place: Path) -> Case:
    """A run that is resumed from a damaged folder."""
    run = copied(base, "run", place)
    checkpoint = next(run.glob("checkpoints/step-*"))
    files = [file for file in checkpoint.rglob("*") if file.is_file()]
    file = random.choice(files)
    match random.randrange(4):
        case 0:
            file.unlink()
        case 1 if file.suffix == ".json":
            file.write_text(json.dumps(mutate_tree(random, json.loads(file.read_text()), SMALL_NUMBERS)))
        case _:
            changed_file(random, file, file)
    flags = ["--data.path", str(base.path("images")), "--out", "run", "--max_steps", "1", "--resume"]
    return Case(["train", "--config", str(base.path("train.yaml")), *flags], keep=[run / "pipeline"])


def study(random: random.Random, base: Base, place: Path) -> Case:
    """A study with wrong values; it is planned, not run."""
    file = place / "study.yaml"
    if random.random() < 0.2:
        changed_file(random, base.path("study.yaml"), file)
    else:
        file.write_text(yaml.safe_dump(mutate_tree(random, STUDY, SMALL_NUMBERS)))
    return Case(["study", "study.yaml", "--plan"])


# A line that works for each command, and the flags whose large values are long work.
LINES: dict[str, tuple[str, str]] = {
    "sample": (
        "--model {sit} --class-labels 0 two 1-3 --num-images 3 --num-inference-steps 2 --guidance-scale 2 "
        "--guidance-interval 0 0.5 --solver euler --seed 1 --batch-size 2 --device cpu --dtype float32 --out out.png",
        "--num-inference-steps --num-images --scale --batch-size --class-labels",
    ),
    "evaluate": (
        "--samples {samples.npz} --reference {reference.safetensors} --bootstrap 2 --keep 4 --json out.json "
        "--feature-batch-size 3 --feature-seed 1 --features mnist --device cpu",
        "--bootstrap --num-images --num-inference-steps --image-size --samples --reference --batch-size",
    ),
    "reference": (
        "{samples.npz} --out out.npz --keep 4 --feature-batch-size 3 --features mnist --device cpu --image-size 8",
        "--image-size",
    ),
    "convert": (
        "{sit.pt} --family sit --out out --num-heads 2 --num-classes 4 --class-names {names.json} --license mit",
        "",
    ),
    "info": ("{arflow}", ""),
    "criterion": (
        "--model {flowar} --data random --split train --num-images 2 --target-error 0.1 --seed 1 --json out.json "
        "--num-inference-steps 2 --guidance-scale 1.5 --device cpu",
        "--num-images --num-inference-steps",
    ),
    "lowrank": (
        "--model {flowar} --out out --degree 2 --max-tau 2 --data random --num-images 2 --seed 1 --device cpu",
        "--num-images --degree",
    ),
    "complexity": (
        "--what attention --max-seconds 0.01 --sides 2,3,4 --head-width 4 --width 8 --degrees 2 --max-tau 1 "
        "--num-threads 1 --device cpu --json out.json",
        "--max-seconds --sides --head-width --width --degrees --num-threads",
    ),
    "circuit": ("compile linear --n 1 --width 2 --bits 4 --fraction 2 --backend table --out out.npz", "--n --width"),
    "plan": (
        "--config {train.yaml} --gpus 2 --gpu h100 --efficiency 0.4 --tflops 100 --memory-gib 80 --price 2 "
        "--batch-size 8 --optimizer.lr 1e-3",
        "--batch-size --gpus",
    ),
    "study": ("{study.yaml} --out out --jobs 1 --plan", ""),
    "cache-latents": (
        "--data {images} --autoencoder identity --out out --split train --image-size 8 --channels 1 --store fp32 "
        "--shard-size 3 --batch-size 2 --device cpu --dtype float32 --no-flip --verify",
        "--image-size --num-workers --num-processes --tile",
    ),
    "train": (
        "--config {train.yaml} --data.path {images} --optimizer.lr 1e-3 --batch-size 8 --out run --resume "
        "--model.args.depth 2 --preview.every 0",
        "",
    ),
}


def command_line(random: random.Random, base: Base, place: Path) -> Case:
    """A command line with wrong, missing, doubled and odd arguments."""
    name = random.choice(list(LINES))
    line, long_work = LINES[name]
    tokens = [str(base.path(token[1:-1])) if token.startswith("{") else token for token in line.split()]
    flags = [token for token in tokens if token.startswith("--")] + long_work.split()
    given = mutate_line(random, tokens, flags or ["--help"], long_work.split())
    if name == "circuit" and "--suite" in given:
        given.remove("--suite")
    if random.random() < 0.02:
        name = random.choice((name.upper(), f"{name}s", name[:-1]))
    kept = [with_output(place, file) for file in ("out.png", "out.json", "out.npz")]
    return Case([name, *given], keep=kept)


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def odd_image(random: random.Random) -> tuple[str, bytes]:
    """The ending and content of an image file of a rare kind."""
    draw = np.random.default_rng(random.randrange(2**32))
    grey = Image.fromarray(draw.integers(0, 256, (9, 7), dtype=np.uint8))
    colour = Image.fromarray(draw.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = random.choice((0, 3, 6, 8, 9, 65535))  # orientation
    match random.randrange(14):
        case 0:
            deep = draw.integers(0, 2**16, (9, 7)).astype(np.uint16)
            kind = random.choice(("PNG", "TIFF"))
            return kind.lower(), _save(Image.fromarray(deep), kind)
        case 1:
            return "jpg", _save(colour.convert("CMYK"), "JPEG")
        case 2:
            return "png", _save(colour.convert("P"), "PNG", transparency=random.choice((0, bytes(range(256)))))
        case 3:
            kind = random.choice(("GIF", "PNG", "WEBP"))
            return kind.lower(), _save(
                colour, kind, save_all=True, append_images=[colour.rotate(90), grey.convert("RGB")]
            )
        case 4:
            size = random.choice(((1, 1), (30_000, 1), (1, 30_000), (2, 20_000)))
            return "png", _save(Image.new(random.choice(("L", "RGB", "1", "RGBA", "LA")), size, 1), "PNG")
        case 5:
            return "jpg", _save(colour, "JPEG", exif=exif, progressive=random.random() < 0.5)
        case 6:
            return "tif", _save(Image.fromarray(draw.random((9, 7)).astype(np.float32)), "TIFF")
        case 7:
            return "png", bomb(random.choice((20_000, 60_000, 2**31 - 1)))
        case 8:
            return random.choice(("png", "jpg", "webp")), _save(colour, random.choice(("PNG", "JPEG", "WEBP", "BMP")))
        case 9:
            return "gif", _save(grey.convert("1"), "GIF")
        case 10:
            return "png", _save(colour.convert("RGBA"), "PNG", exif=exif)
        case 11:
            return random.choice(("ppm", "pgm", "bmp", "jp2", "webp")), _save(colour, "PPM")
        case 12:
            return "png", random.choice((b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"BM", b"II*\0"))
        case _:
            return "png", _save(colour, "PNG", optimize=True)


def bomb(side: int) -> bytes:
    """A small PNG file that says it is `side` x `side` pixels."""
    content = bytearray(_save(Image.new("L", (2, 2)), "PNG"))
    content[16:24] = side.to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def image(random: random.Random, base: Base, place: Path) -> Case:
    """A folder of images, one of them rare or damaged, cached, judged or trained on."""
    folder = place / "images" / "a"
    folder.mkdir(parents=True)
    ending, content = odd_image(random)
    if random.random() < 0.4:
        content = mutate_bytes(random, content)
    (folder / f"odd.{ending}").write_bytes(content)
    if random.random() < 0.5:
        shutil.copy(base.path("images") / "a" / "0.png", folder)
    size = ["--image-size", "8"] if random.random() < 0.8 else []
    if random.random() < 0.5:
        flags = ["--autoencoder", "identity", "--out", "out", *CPU, *random.choice(([], ["--channels", "1"]))]
        return Case(["cache-latents", "--data", "images", *flags, *size])
    kept = with_output(place, "out.npz")
    return Case(["reference", random.choice(("images", "images/a")), "--out", "out.npz", *CPU, *size], keep=[kept])


def samples(random: random.Random, base: Base, place: Path) -> Case:
    """An npz of images with wrong arrays, or damaged, that is judged or names the labels to draw."""
    file = place / "x.npz"
    if random.random() < 0.5:
        changed_file(random, base.path("samples.npz"), file)
    else:
        arrays = dict(np.load(base.path("samples.npz")))
        name = random.choice(list(arrays))
        arrays[name] = odd_array(random, arrays[name])
        if random.random() < 0.2:
            arrays[random.choice(("arr_1", "labels", "mu", "x/../y"))] = arrays.pop(name)
        with file.open("wb") as opened:
            np.savez(opened, **arrays)
    kept = with_output(place, "out.json")
    if random.random() < 0.3:
        kept = with_output(place, "out.png")
        flags = ["--num-images", "1", "--num-inference-steps", "1", "--out", "out.png", *CPU]
        return Case(["sample", "--model", str(base.path("sit")), "--label-policy", "x.npz", *flags], keep=[kept])
    reference = ["--reference", str(base.path("reference.safetensors")), "--bootstrap", "0", "--json", "out.json", *CPU]
    return Case(["evaluate", "--samples", random.choice(("x.npz", "x.npz[1:]", "x.npz[9:3]")), *reference], keep=[kept])


def labels(random: random.Random, base: Base, place: Path) -> Case:
    """A file of labels or class names with wrong content."""
    if random.random() < 0.5:
        changed_file(random, base.path("names.json"), place / "names.json")
        known = ["--family", "sit", "--num-heads", "2", "--num-classes", "4"]
        flags = [*known, "--class-names", "names.json", "--out", "out"]
        return Case(["convert", str(base.path("sit.pt")), *flags])
    changed_file(random, base.path("labels.txt"), place / "labels.txt")
    flags = ["--label-policy", "labels.txt", "--num-inference-steps", "1", "--out", "out.png", *CPU]
    return Case(["sample", "--model", str(base.path("sit")), *flags], keep=[with_output(place, "out.png")])


def statistics(random: random.Random, base: Base, place: Path) -> Case:
    """Reference statistics with wrong tensors or metadata, or damaged."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    suffix = random.choice(("safetensors", "npz"))
    source, file = base.path(f"reference.{suffix}"), place / f"x.{suffix}"
    if random.random() < 0.5:
        changed_file(random, source, file)
    elif suffix == "npz":
        arrays = dict(np.load(source))
        name = random.choice(list(arrays))
        arrays[name] = odd_array(random, arrays[name])
        with file.open("wb") as opened:
            np.savez(opened, **arrays)
    else:
        with safe_open(source, "pt") as opened:
            metadata = dict(opened.metadata())
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        name = random.choice([*tensors, *metadata])
        match random.randrange(3):
            case 0:
                tensors.pop(name, None) if name in tensors else metadata.pop(name)
            case 1 if name in tensors:
                tensors[name] = changed_tensor(random, tensors[name])
            case _ if name in metadata and name not in ("format", "title"):
                metadata[name] = json.dumps(mutate_tree(random, json.loads(metadata[name])))
            case _:
                metadata[random.choice(list(metadata))] = random.choice(("", "{", "null", "[]", '"a"'))
        save_file(tensors, file, metadata)
    kept = with_output(place, "out.json")
    flags = ["--samples", str(base.path("samples.npz")), "--bootstrap", "0", "--json", "out.json", *CPU]
    return Case(["evaluate", "--reference", file.name, *flags], keep=[kept])


def changed_tensor(random: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of another shape or type, or with values that are not finite."""
    match random.randrange(5):
        case 0:
            return tensor[None].contiguous()
        case 1:
            return tensor.reshape(-1)[:1].clone()
        case 2:
            return tensor.to(random.choice((torch.float16, torch.int64, torch.bool, torch.complex64)))
        case 3:
            return torch.zeros([*tensor.shape[:-1], 0] if tensor.ndim else [0], dtype=tensor.dtype)
        case _:
            return torch.full_like(tensor, float("nan") if tensor.is_floating_point() else 127)


class Malicious:
    """Runs a program of the writer's choice where a careless reader unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def checkpoint(random: random.Random, base: Base, place: Path) -> Case:
    """A released checkpoint with wrong tensors, damaged, of something else, or with a program inside."""
    from safetensors.torch import save_file

    family = random.choice(("sit", "arflow"))
    source = base.path(f"{family}.{random.choice(('pt', 'safetensors'))}")
    file, mark = place / f"x{source.suffix}", place / "executed"
    match random.randrange(4):
        case 0 | 1:
            changed_file(random, source, file)
        case 2:
            weights: dict[Any, Any] = dict(torch.load(base.path(f"{family}.pt"), weights_only=True)["ema"])
            name = random.choice(list(weights))
            if random.random() < 0.3:
                del weights[name]
            else:
                weights[name] = changed_tensor(random, weights[name])
            if source.suffix == ".safetensors":
                save_file({name: value.contiguous() for name, value in weights.items()}, file)
            else:
                wrap = (weights, {"model": weights}, {"ema": {"a": 1}, "model": weights}, [weights], {1: weights, 2: 3})
                torch.save(random.choice(wrap), file)
        case _:
            evil = {"ema": {"blocks.0.attn.qkv.weight": Malicious(mark)}, "x": Malicious(mark)}
            file = place / random.choice(("x.pt", "x.pth", "x.ckpt", "x.safetensors", "x"))
            if random.random() < 0.5:
                torch.save(evil, file)
            else:
                file.write_bytes(pickle.dumps(evil, protocol=random.choice((0, 2, 4))))
    if random.random() < 0.3:
        return Case(["info", file.name], must_not_exist=mark)
    kept = place / "out"
    kept.mkdir()
    with_output(kept, "model_index.json")
    asked = random.choice((family, family, "sit", "arflow", "flowar", "mar-vae"))
    flags = ["--family", asked, "--out", "out", *(["--num-heads", "2"] if asked == "sit" else [])]
    return Case(["convert", file.name, *flags], keep=[kept], must_not_exist=mark)


def latents(random: random.Random, base: Base, place: Path) -> Case:
    """A latent cache with a damaged index, record or shard: verified, continued, or read."""
    name = random.choice(("latents", "pixels"))
    cache = copied(base, name, place)
    file = random.choice([file for file in cache.iterdir() if file.is_file()])
    match random.randrange(4):
        case 0:
            file.unlink()
        case 1 if file.suffix == ".json":
            file.write_text(json.dumps(mutate_tree(random, json.loads(file.read_text()), SMALL_NUMBERS)))
        case _:
            size = file.stat().st_size
            content = mutate_bytes(random, file.read_bytes())
            file.write_bytes(content[:size].ljust(size, b"\0") if random.random() < 0.5 else content)
    if random.random() < 0.3:
        return Case(["cache-latents", "--verify", "--out", name])
    if random.random() < 0.4:
        encoder = str(base.path("vae")) if name == "latents" else "identity"
        flags = ["--autoencoder", encoder, "--image-size", "8", "--shard-size", "4", *CPU]
        return Case(["cache-latents", "--data", str(base.path("images")), "--out", name, *flags])

    def read() -> None:
        from flowgression.data import DataConfig, open_dataset

        dataset = open_dataset(DataConfig(str(cache)))
        dataset.batch(range(len(dataset)), [False] * len(dataset))

    return Case(read)


def pipeline(random: random.Random, base: Base, place: Path) -> Case:
    """A pipeline's folder with wrong configurations or damaged weights: described, or sampled from."""
    name = random.choice(("sit", "arflow", "flowar"))
    folder = copied(base, name, place)
    file = random.choice([file for file in folder.rglob("*") if file.is_file()])
    match random.randrange(5):
        case 0:
            file.unlink()
        case 1 | 2 | 3 if file.suffix == ".json":
            file.write_text(json.dumps(mutate_tree(random, json.loads(file.read_text()), SMALL_NUMBERS)))
        case _:
            changed_file(random, file, file)
    if random.random() < 0.4:
        return Case(["info", name])
    flags = ["--num-images", "1", "--num-inference-steps", "1", "--out", "out.png", *CPU]
    return Case(["sample", "--model", name, *flags], keep=[with_output(place, "out.png")])


def parts(random: random.Random, base: Base, place: Path) -> Case:
    """A sampling that goes on with damaged parts."""
    line = ["sample", "--model", str(base.path("sit")), "--num-images", "2", "--num-inference-steps", "1", *CPU]
    folder = place / "x.npz.parts"
    folder.mkdir()
    np.save(folder / "part-000000.npy", np.zeros((2, 8, 8, 1), np.uint8))
    facts = {"num_images": 2, "seed": 0, "batch_size": 64, "model": "sit", "device": "cpu"}
    (folder / "sampling.json").write_text(json.dumps(mutate_tree(random, facts)))
    if random.random() < 0.5:
        changed_file(random, folder / "sampling.json", folder / "sampling.json")
    return Case([*line, "--out", "x.npz"], keep=[folder])


def circuit(random: random.Random, base: Base, place: Path) -> Case:
    """A circuit with wrong arrays or header, or damaged, that is drawn."""
    file, source = place / "x.npz", base.path("circuit.npz")
    if random.random() < 0.4:
        changed_file(random, source, file)
    else:
        arrays = dict(np.load(source))
        name = random.choice(list(arrays))
        if name == "header" or random.random() < 0.4:
            header = mutate_tree(random, json.loads(str(arrays["header"])), SMALL_NUMBERS)
            arrays["header"] = np.array(json.dumps(header))
        else:
            arrays[name] = odd_array(random, arrays[name])
        with file.open("wb") as opened:
            np.savez(opened, **arrays)
    ending = random.choice(("svg", "dot"))
    return Case(["circuit", "draw", "x.npz", "--out", f"out.{ending}"], keep=[with_output(place, f"out.{ending}")])


class Kind(NamedTuple):
    """How a kind of cases is made, and its share of all of them."""

    make: Maker
    share: int


KINDS = {
    maker.__name__: Kind(maker, share)
    for maker, share in (
        (configuration, 2000),
        (planned, 200),
        (training, 150),
        (resumed, 150),
        (study, 500),
        (command_line, 2500),
        (image, 1200),
        (samples, 800),
        (labels, 200),
        (statistics, 600),
        (checkpoint, 600),
        (latents, 400),
        (pipeline, 300),
        (parts, 100),
        (circuit, 300),
        (naming, 1000),
    )
}


def cases_of(total: int) -> list[tuple[str, int]]:
    """(kind, number) of so many cases, each kind with its share."""
    whole = sum(kind.share for kind in KINDS.values())
    counts = {name: max(1, round(total * kind.share / whole)) for name, kind in KINDS.items()}
    return [(name, index) for name, count in counts.items() for index in range(count)]


def make_case(kind: str, index: int, base: Base, place: Path) -> Case:
    """Case `index` of a kind, in the empty folder `place`."""
    return KINDS[kind].make(random.Random(f"{kind} {index}"), base, place)


__all__: Sequence[str] = ["KINDS", "cases_of", "make_case"]
