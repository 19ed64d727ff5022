"""Folders and files that name things: pipelines, statistics, adapters, studies, shards, caches.

What they name is hostile: code to import, files elsewhere, themselves, other types, orders to a terminal. A module
`canary` lies in the current folder and on the path; it must never be imported.
"""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.fuzz.base import STUDY, Base
from tests.fuzz.harness import Case
from tests.fuzz.mutations import SMALL_NUMBERS, mutate_tree, places

CPU = ("--device", "cpu")
CANARY = """from pathlib import Path
Path({mark!r}).touch()
class Evil:
    from_pretrained = from_config = classmethod(lambda cls, *args, **options: cls())
make = Evil
"""
CODE = (
    "canary",
    "canary:make",
    "canary.Evil",
    "os:abort",
    "os",
    "abort",
    "Evil",
    "pathlib:Path",
    "builtins:exit",
    "__main__",
)
ELSEWHERE = ("..", "../canary.py", "/dev/zero", "/etc/passwd", "pipe", "./pipe", "self", ".", "~", "hf:canary", "mnist")
ORDERS = ("\x1b[2J", "a\nb", "\x9b31m", "[/x]", "[red]x", "<script>", "$\\frac{$", "__proto__", "%n", "{0.__class__}")
TAGS = ("!!python/object/apply:os.abort []", "!!python/name:canary.make", "!!python/module:canary")


def hostile(random: random.Random) -> Any:
    """A name that asks for trouble, or what is none."""
    others: tuple[Any, ...] = (
        None,
        3,
        10**9,
        -1,
        0.5,
        True,
        [],
        {},
        ["canary", "Evil"],
        {"a": "canary:make"},
        deep(150),
    )
    return random.choice(random.choice((CODE, CODE, ELSEWHERE, ORDERS, TAGS, others)))


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = "canary"
    for _ in range(levels):
        value = [value]
    return value


def renamed(random: random.Random, tree: Any, names: tuple[str, ...] = ()) -> Any:
    """A copy of nested values with one to three of them hostile; those called `names` most of the time."""
    tree = mutate_tree(random, tree, SMALL_NUMBERS) if random.random() < 0.2 else json.loads(json.dumps(tree))
    for _ in range(random.choice((1, 1, 2, 3))):
        found = places(tree)
        wanted = [place for place in found if place[-1] in names]
        if not found:
            break
        *above, key = random.choice(wanted if wanted and random.random() < 0.7 else found)
        parent = tree
        for step in above:
            parent = parent[step]
        if isinstance(parent, dict) and random.random() < 0.1:
            parent[str(hostile(random))] = parent.pop(key)
        else:
            parent[key] = hostile(random)
    return tree


def _index(random: random.Random, base: Base, place: Path) -> list[str]:
    name = random.choice(("sit", "arflow", "flowar", "whole"))
    folder = Path(shutil.copytree(base.path(name), place / name))
    files = sorted(folder.rglob("*.json"))
    file = random.choice(files)
    pair = [random.choice(CODE), random.choice(CODE)]
    content = json.loads(file.read_text())
    if file.name == "model_index.json" and random.random() < 0.6:
        content[random.choice(("vae", "scheduler", "transformer", "safety_checker", "_class_name"))] = pair
    else:
        content = renamed(random, content, ("_class_name", "transformer", "vae", "scheduler", "id2label"))
    file.write_text(json.dumps(content))
    if random.random() < 0.3:
        where = ("None.py", "pipeline.py", "vae/diffusers.py", "scheduler/diffusers.py", "transformer/canary.py",
                 f"transformer/flowgression.families.{name}.model.py", "vae/canary.py")  # fmt: skip
        target = folder / random.choice(where)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(place / "canary.py", target)
    if random.random() < 0.3:
        return ["info", name]
    return ["sample", "--model", name, "--num-images", "1", "--num-inference-steps", "1", "--out", "out.png", *CPU]


def _shards(random: random.Random, base: Base, place: Path) -> list[str]:
    folder = Path(shutil.copytree(base.path("sit"), place / "sit")) / "transformer"
    weights = next(folder.glob("*.safetensors"))
    index = {"metadata": {"total_size": 1}, "weight_map": {"x_embedder.weight": weights.name, "y": weights.name}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(renamed(random, index)))
    if random.random() < 0.2:
        weights.unlink()
        os.mkfifo(weights)
    return ["sample", "--model", "sit", "--num-images", "1", "--num-inference-steps", "1", "--out", "out.png", *CPU]


def _statistics(random: random.Random, base: Base, place: Path) -> list[str]:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(base.path("reference.safetensors"), "pt") as opened:
        metadata, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    name = random.choice(("extractor", "extractor", "extractor", "facts", "class_names", "title"))
    if name == "title":
        metadata[name] = str(hostile(random))
    else:
        metadata[name] = json.dumps(renamed(random, json.loads(metadata[name]), ("name", "resize")))
    save_file(tensors, place / "x.safetensors", metadata)
    features = ["--features", "mnist"] if random.random() < 0.2 else []
    line = ["evaluate", "--samples", str(base.path("samples.npz")), "--reference", "x.safetensors", "--bootstrap", "0"]
    return [*line, *features, *CPU]


def _study(random: random.Random, base: Base, place: Path) -> list[str]:
    wanted = ("features", "reference", "real", "title", "path", "family", "pretrained", "pipeline", "models", "compare")
    tree = {**STUDY, "models": {**STUDY["models"], "taken": {"pipeline": "sit-mnist"}}, "compare": {"one": ["two"]}}
    text = yaml.safe_dump(renamed(random, tree, wanted))
    if random.random() < 0.1:
        text = text.replace("mnist", random.choice(TAGS), 1)
    (place / "study.yaml").write_text(text)
    return ["study", "study.yaml", random.choice(("--plan", "--plan", "--report-only")), "--out", "out"]


def _adapter(random: random.Random, base: Base, place: Path) -> list[str]:
    folder = Path(shutil.copytree(base.path("adapter"), place / "self"))
    info = json.loads((folder / "adapter.json").read_text())
    info = renamed(random, info, ("base", "class", "rank", "alpha", "id2label"))
    (folder / "adapter.json").write_text(json.dumps(info))
    return ["sample", "--model", "self", "--num-images", "1", "--num-inference-steps", "1", "--out", "out.png", *CPU]


def _cache(random: random.Random, base: Base, place: Path) -> list[str] | Callable[[], object]:
    name = random.choice(("latents", "pixels"))
    cache = Path(shutil.copytree(base.path(name), place / name))
    file = random.choice(sorted(cache.rglob("*.json")))
    wanted = ("file", "source", "autoencoder", "class_names", "store", "_class_name")
    file.write_text(json.dumps(renamed(random, json.loads(file.read_text()), wanted)))
    if random.random() < 0.2:
        shard = random.choice(sorted(cache.glob("*.safetensors")))
        shard.unlink()
        os.mkfifo(shard) if random.random() < 0.5 else shard.symlink_to("/dev/zero")
    if random.random() < 0.5:
        return ["cache-latents", "--verify", "--out", name]

    def read() -> None:
        from flowgression.data import DataConfig, open_dataset

        dataset = open_dataset(DataConfig(str(cache)))
        dataset.batch(range(len(dataset)), [False] * len(dataset))

    return read


def _images(random: random.Random, base: Base, place: Path) -> list[str]:
    folder = place / "images" / random.choice(("a", "[/x]", "\x1b[2J", "canary"))
    folder.mkdir(parents=True)
    shutil.copy(base.path("images") / "a" / "0.png", folder)
    match random.randrange(3):
        case 0:
            os.mkfifo(folder / "pipe.png")
        case 1:
            (folder / "x.png").symlink_to(random.choice(("/dev/zero", "/etc/passwd", "x.png", "..", "/dev/stdin")))
        case _:
            (folder / "x.png").mkdir()
    size = ["--image-size", "8"] if random.random() < 0.8 else []
    return ["cache-latents", "--data", "images", "--autoencoder", "identity", "--out", "out", *CPU, *size]


SORTS = (_index, _index, _index, _shards, _statistics, _study, _study, _adapter, _cache, _images)


def naming(random: random.Random, base: Base, place: Path) -> Case:
    """A folder or file of any sort whose names are hostile."""
    mark = place / "executed"
    (place / "canary.py").write_text(CANARY.format(mark=str(mark)))
    os.mkfifo(place / "pipe")
    sys.modules.pop("canary", None)
    if "" not in sys.path:
        sys.path.insert(0, "")
    run = random.choice(SORTS)(random, base, place)
    return Case(run, must_not_exist=mark)
