"""Make a run's model or autoencoder a built-in one: python tools/builtin_model.py RUN NAME [--out FOLDER].

The averaged weights of the run's newest checkpoint, or of its pipeline, in half precision: that is half the package's
size, and they are computed in float32 all the same. A built-in model of this name that has as many classes keeps its
names of them. RUN may be one of `flowgression train-autoencoder`. Afterwards `python tools/figures.py --mark` says
which figures are of older weights.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from flowgression import InputError, load_pipeline
from flowgression.autoencoders.loading import RUN_AUTOENCODER, load_vae
from flowgression.sampling import builtin_models
from flowgression.text import say

BUILTIN = Path(__file__).parents[1] / "src" / "flowgression" / "builtin"
CONFIG = "config.json"


def pack(run: str, name: str, folder: Path) -> Path:
    """Write the model of `run` into `folder`/`name`, which is replaced whole; returns that folder.

    Raises:
        InputError: the run has no model yet, or one without classes where the built-in one has some.
    """
    pipe = load_pipeline(run)
    if name in builtin_models() and (before := load_pipeline(name)).classes != pipe.classes:
        if len(before.classes) != len(pipe.classes):
            raise InputError(f"{run} has {len(pipe.classes)} classes, {name} {len(before.classes)}; take another name")
        pipe.register_to_config(id2label=before.classes.id2label())
    return _write(pipe.to(torch.float16), folder / name, config=Path("transformer") / CONFIG)


def pack_autoencoder(run: str, name: str, folder: Path) -> Path:
    """Write the autoencoder of `run` into `folder`/`name`, which is replaced whole; returns that folder.

    Raises:
        InputError: the run is not finished.
    """
    vae: Any = load_vae(run)
    return _write(vae.to(torch.float16), folder / name, config=Path(CONFIG))


def _write(saved: Any, place: Path, config: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=place.parent) as temporary:
        made = Path(temporary) / place.name
        saved.save_pretrained(made)
        for file in made.glob("*.md"):  # a model card is for models that are shared
            file.unlink()
        forget_path(made / config)
        for file in made.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)  # safetensors makes files for its user alone
        if place.exists():
            shutil.rmtree(place)
        made.rename(place)
    return place


def forget_path(config: Path) -> None:
    """Take out of a model's configuration where it was loaded from."""
    values = json.loads(config.read_text())
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, default=BUILTIN, help="folder of built-in models (%(default)s)")
    args = parser.parse_args()
    if (Path(args.run) / RUN_AUTOENCODER).is_dir():
        place = pack_autoencoder(args.run, args.name, args.out)
        network: Any = load_vae(str(place))
    else:
        place = pack(args.run, args.name, args.out)
        network = load_pipeline(str(place)).transformer
    parameters = sum(p.numel() for p in network.parameters())
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    say(f"{place}: {parameters:,} parameters, {size / 2**20:.1f} MiB; the number stands in builtin/models.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
